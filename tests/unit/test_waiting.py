"""What a test may wait for."""

import threading
from pathlib import Path

import pytest

from helpers.waiting import wait_for


def test_file_that_appears_later_is_waited_for(tmp_path: Path) -> None:
    late = tmp_path / "late"
    threading.Timer(0.1, late.write_text, ["here"]).start()
    assert wait_for(late.read_text) == "here"


def test_wait_ends_with_its_deadline(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not within 0\.01 s \(last answer None\)"):
        wait_for((tmp_path / "never").read_text, 0.01)
