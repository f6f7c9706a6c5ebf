"""The profiles that a person would copy: checked as an editor would, planned, and run where that costs little."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT

Cli = Callable[..., Result]

PROFILES = sorted((ROOT / "profiles").glob("*.toml"))
NAMES = [profile.name for profile in PROFILES]
CLIS = ("claude", "gemini")
CHAINS = ("claude-chain.toml", "gemini-chain.toml")


@pytest.fixture
def clis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that replace agent CLIs: they print their prompt, and write where they may change files."""
    for name in CLIS:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            '#!/bin/sh\necho "did: $*"\n'
            'case "$*" in *acceptEdits*|*auto_edit*) for file in triage.md review.md; do echo x > $file; done ;; esac\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder to run them in: they write where they stand."""
    folder = tmp_path / "profiles"
    subprocess.run(["cp", "-r", str(ROOT / "profiles"), str(folder)], check=True)
    return folder


@pytest.mark.parametrize("profile", PROFILES, ids=NAMES)
def test_each_can_be_planned_where_init_wrote_it(seqsup: Cli, clis: None, tmp_path: Path, profile: Path) -> None:
    written = seqsup("init", "new/folder", "--example", profile.stem)
    assert (written.code, written.stdout) == (0, "")
    assert f"next: seqsup plan new/folder/{profile.name}" in written.stderr
    assert (tmp_path / "new/folder/seqsup.schema.json").is_file()
    planned = seqsup("plan", f"new/folder/{profile.name}", "--task", "the login page")
    assert (planned.code, planned.stderr) == (0, "")
    assert "agent" in planned.stdout
    assert "without effect" not in planned.stdout


@pytest.mark.parametrize(
    "name", ["minimal.toml", "claude-chain.toml", "gemini-chain.toml", "each-file.toml", "ci.toml"]
)
def test_each_that_costs_little_is_run(seqsup: Cli, clis: None, copy: Path, name: str) -> None:
    ended = seqsup("start", copy / name, "--task", "the login page", deadline=100)
    assert ended.code == 0, ended.stderr
    if name == "claude-chain.toml":
        said = seqsup("logs", "claude-chain", "review").stdout
        assert "for: the login page" in said
        assert re.search("described so: did: .*-- Carry out this plan: did: .*-- Find the cause", said), said


@pytest.mark.parametrize("profile", PROFILES, ids=NAMES)
def test_each_tells_editors_its_schema(profile: Path) -> None:
    assert profile.read_text().startswith("#:schema ./seqsup.schema.json\n")


def test_editors_find_nothing_wrong_with_them() -> None:
    taplo = Path(sys.executable).with_name("taplo")
    if not taplo.exists():
        pytest.skip("there is no taplo")
    ended = subprocess.run([taplo, "lint", *PROFILES], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_an_editor_finds_a_key_that_is_not_there(copy: Path) -> None:
    taplo = Path(sys.executable).with_name("taplo")
    if not taplo.exists():
        pytest.skip("there is no taplo")
    wrong = copy / "minimal.toml"
    wrong.write_text(wrong.read_text() + "hrad = 1\n")
    ended = subprocess.run([taplo, "lint", wrong], capture_output=True, text=True, check=False, cwd=copy)
    assert ended.returncode != 0
    assert "hrad" in ended.stderr


def test_tutorial_names_each() -> None:
    text = (ROOT / "docs/tutorial/first-run.md").read_text()
    assert [name for name in NAMES if name not in text] == []
