"""`seqsup presets`, and presets of the user in plan and run."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import agent, write

Cli = Callable[..., Result]

MINE = 'title = "Mine"\nprograms = ["minecli"]\n[prompt]\ncommand = ["minecli", "{options}", "{prompt}"]\n'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's presets, with one of them; its CLI is on the PATH and prints its arguments."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config/seqsup/presets"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(MINE)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/minecli").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bin/minecli").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return folder


def test_they_are_listed_with_their_origin(seqsup: Cli, config: Path) -> None:
    lines = seqsup("presets", env={"COLUMNS": "200"}).stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["mine"] == ["mine", "Mine", "yes", str(config / "mine.toml")]
    assert rows["claude"][-2:] == ["yes", "seqsup"]
    assert rows["node"][-2:] == ["no", "seqsup"]
    told = {each["name"]: each for each in json.loads(seqsup("presets", "--json").stdout)["presets"]}
    assert (told["mine"]["file"], told["claude"]["file"]) == (str(config / "mine.toml"), None)
    assert told["mine"]["prompt"]["command"] == ["minecli", "{options}", "{prompt}"]


def test_one_is_shown_and_one_is_checked(seqsup: Cli, config: Path, tmp_path: Path) -> None:
    assert seqsup("presets", "mine").stdout == MINE
    assert seqsup("presets", "codex").stdout.startswith('title = "Codex CLI"')
    refused = seqsup("presets", "mime")
    assert (refused.code, "no preset mime (did you mean mine?)" in refused.stderr) == (2, True)
    assert seqsup("presets", "--check", config / "mine.toml").code == 0
    (tmp_path / "bad.toml").write_text(MINE.replace("{prompt}", "{promt}"))
    checked = seqsup("presets", "--check", "bad.toml", env={"COLUMNS": "200"})
    assert checked.code == 2
    assert "bad.toml:4:37: prompt.command[2]: unknown slot {promt}" in checked.stderr
    assert "did you mean prompt?" in checked.stderr


def test_the_nearest_to_the_profile_wins(seqsup: Cli, config: Path, tmp_path: Path) -> None:
    profile = write(tmp_path, {"name": "a", "preset": "mine", "prompt": "go"}, agent("b", ["minecli", "x"]))
    assert [step["command"] for step in json.loads(seqsup("plan", profile, "--json").stdout)["steps"]] == [
        ["minecli", "go"],
        ["minecli", "x"],
    ]
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/mine.toml").write_text(MINE.replace('"{prompt}"', '"--near", "{prompt}"'))
    assert "preset mine\n" in seqsup("plan", profile).stdout
    assert seqsup("run", "--preset", "mine", "go").stdout == "--near go\n"
    (tmp_path / "presets/mine.toml").write_text("title = 1")
    broken = seqsup("plan", profile, env={"COLUMNS": "200"})
    assert (broken.code, f"{tmp_path}/presets/mine.toml:1:9: title: expected text" in broken.stderr) == (2, True)


def test_a_pipe_among_them_is_refused_and_not_waited_for(seqsup: Cli, config: Path) -> None:
    os.mkfifo(config / "pipe.toml")
    for command in (["presets"], ["presets", "--check", config / "pipe.toml"]):
        refused = seqsup(*command, env={"COLUMNS": "200"})
        assert (refused.code, f"{config}/pipe.toml: cannot be read: not a regular file" in refused.stderr) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses them")
def test_root_refuses_one_that_another_user_can_change(seqsup: Cli, config: Path, tmp_path: Path) -> None:
    profile = write(tmp_path, {"name": "a", "preset": "mine", "prompt": "go"}, agent("b", ["true"]))
    (config / "mine.toml").chmod(0o666)
    refused = seqsup("plan", profile)
    assert refused.code == 2
    assert f"every user can write {config}/mine.toml; chmod go-w" in " ".join(refused.stderr.split())
