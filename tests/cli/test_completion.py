"""Completion, asked for by real shells: commands, options, agents and runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT
from helpers.profiles import shell, write

Cli = Callable[..., Result]
Ask = Callable[..., set[str]]


@pytest.fixture
def folder(tmp_path: Path, seqsup: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a profile that ran once, and seqsup on PATH."""
    program = tmp_path / "bin" / "seqsup"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "supervisor"} exec {sys.executable} -m seqsup "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    profile = write(tmp_path, shell("triage", "true"), shell("research", "true"), shell("embed", "true"))
    assert seqsup("start", profile, "--only", "triage").code == 0
    for job in ("true", "false"):
        assert seqsup("add", "--", job).code == 0
    (tmp_path / "broken.toml").write_text("[[agents]\n")
    return tmp_path


def ask_bash(folder: Path, *words: str) -> set[str]:
    """Return what bash would offer for the last word."""
    line = " ".join(map(shlex.quote, ["seqsup", *words]))
    script = (
        'eval "$(seqsup completion bash)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _seqsup_completion seqsup\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return run(folder, ["bash", "--norc", "-c", script])


def ask_zsh(folder: Path, *words: str) -> set[str]:
    """Return what zsh would offer: run its script with compadd and its relatives replaced by printing."""
    line = " ".join(map(shlex.quote, ["seqsup", *words]))
    script = (
        "compdef() { : }; _describe() { for each in ${(P)3:-}; do print -r -- ${each%%:*}; done }; "
        "compadd() { while [[ $1 == -* ]]; do [[ $1 == -a ]] && { print -rl -- ${(P)2}; return }; shift; done; }; "
        "_path_files() { print -r -- FILES }\n"
        'eval "$(seqsup completion zsh)"\n'
        f"words=({line}); CURRENT={len(words) + 1}; _seqsup_completion\n"
    )
    return run(folder, ["zsh", "-f", "-c", script])


def ask_fish(folder: Path, *words: str) -> set[str]:
    line = " ".join(["seqsup", *words])
    script = f"seqsup completion fish | source; complete -C {shlex.quote(line)}"
    return run(folder, ["fish", "--no-config", "-c", script])


def run(folder: Path, command: list[str]) -> set[str]:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stderr == ""
    return {line.split("\t")[0] for line in ended.stdout.splitlines() if line}  # fish adds what it is


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], {"start", "status", "stop"}),
        (["start", "--res"], {"--resume"}),
        (["start", "nightly.toml", "--only", ""], {"triage", "research", "embed"}),
        (["start", "nightly.toml", "--from", "r"], {"research"}),
        (["plan", "broken.toml", "--only", ""], set()),
        (["start", "--only", "t"], {"triage"}),  # of the only profile here
        (["status", "n"], {"nightly"}),
        (["logs", "r"], {"r1", "research"}),
        (["logs", "r1", "t"], {"triage"}),
        (["report", "n"], {"nightly"}),
        (["artifacts", "show", "r1", "t"], {"triage"}),
        (["init", "--preset", "c"], {"claude", "codex", "copilot"}),
        (["run", "--preset", "q"], {"qwen"}),
        (["init", "--example", "c"], {"ci", "claude-chain"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["queue", "re"], {"resume", "retry"}),
        (["add", "--preset", "q"], {"qwen"}),
        (["add", "nightly.toml", "--only", "r"], {"research"}),
        (["add", "--after", ""], {"1", "2"}),
        (["queue", "drop", "1", ""], {"1", "2"}),
        (["status", "j"], {"j1", "j2"}),
        (["logs", "j"], {"j1", "j2"}),
    ],
)
def test_bash_offers_what_fits(folder: Path, words: list[str], offered: set[str]) -> None:
    answer = ask_bash(folder, *words)
    assert answer == offered


def test_bash_offers_items(folder: Path, seqsup: Cli) -> None:
    profile = write(folder, shell("each", "true", for_each=["item-a", "item-b"]), name="items")
    assert seqsup("start", profile).code == 0
    assert ask_bash(folder, "logs", "each", "i") == {"item-a", "item-b"}
    assert ask_bash(folder, "logs", "r2", "each", "item-b") == {"item-b"}


@pytest.mark.long
@pytest.mark.parametrize("ask", [ask_zsh, ask_fish])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], {"start", "status", "stop"}),
        (["start", "nightly.toml", "--only", ""], {"triage", "research", "embed"}),
        (["logs", "r1", "t"], {"triage"}),
        (["status", "n"], {"nightly"}),
    ],
)
def test_other_shells_offer_the_same(ask: Ask, folder: Path, words: list[str], offered: set[str]) -> None:
    name = ask.__name__.removeprefix("ask_")
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    assert ask(folder, *words) == offered


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_works_in_a_new_home_after_the_commands_of_its_help(folder: Path, seqsup: Cli, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    line = re.search(rf"^  {name} +(.*?)(?: +\(.*\))?$", seqsup("completion", "-h").stdout, re.MULTILINE)
    assert line
    (folder / ".config" / "fish").mkdir(parents=True)  # fish makes it when it starts
    env = {**os.environ, "HOME": str(folder)}
    subprocess.run([name, "-c", line[1]], env=env, check=True)
    saved = next(file for file in folder.rglob("*") if file.name in (".bashrc", ".zshrc", "config.fish"))
    before = "autoload -Uz compinit; compinit -u -D; " if name == "zsh" else ""
    asked = {"bash": "complete -p seqsup", "zsh": "print $_comps[seqsup]", "fish": "complete seqsup"}[name]
    ended = subprocess.run([name, "-c", f"{before}. {saved}; {asked}"], env=env, capture_output=True, text=True)
    assert "_seqsup_completion" in ended.stdout


def test_before_anything_ran_no_run_is_offered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQSUP_STATE_DIR", str(tmp_path / "none"))
    assert ask_bash(folder, "status", "") == set()
    assert not (tmp_path / "none").exists()


def test_an_unknown_shell_is_refused_with_those_that_are_known(seqsup: Cli) -> None:
    ended = seqsup("completion", "tcsh")
    assert ended.code == 2
    assert "expected one of bash, zsh, fish" in ended.stderr
