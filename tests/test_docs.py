"""The documents that follow from the code do; the others lead somewhere."""

import re
import runpy
from typing import Any

import pytest
from conftest import ROOT

MAKE: dict[str, Any] = runpy.run_path(str(ROOT / "docs/make.py"))
MADE: dict[str, str] = MAKE["documents"]()


@pytest.mark.parametrize("path", MADE)
def test_what_is_made_from_the_code_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == MADE[path], "python docs/make.py"


def test_every_document_has_a_title_and_leads_somewhere() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        text = document.read_text()
        assert re.search(r"^# \w", text, re.MULTILINE), document
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
