"""`seqsup run`: the command's exit code is passed on, and what seqsup did itself has codes of its own."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]

GROWS = "x = bytearray(200 << 20)\nimport time\ntime.sleep(30)"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--", "true"], 0),
        (["--", "sh", "-c", "exit 3"], 3),
        (["--", "sh", "-c", "exit 75"], 75),
        (["--", "sh", "-c", "exit 255"], 255),
        (["--", "sh", "-c", "kill -SEGV $$"], 128 + signal.SIGSEGV),
        (["--retries", "1", "--", "sh", "-c", "test -e again && exit 7; touch again; exit 6"], 7),  # the last attempt's
        (["--timeout", "300ms", "--", "sleep", "60"], 124),
        (["--hard", "100MiB", "--", sys.executable, "-c", GROWS], 124),
        (["--hard", "big", "--", "true"], 125),
        (["--no-such-option", "--", "true"], 125),
        (["--name", "a b", "--", "true"], 125),
        (["--", "./plain"], 126),
        (["--", "/tmp"], 126),
        (["--", "no-such-program"], 127),
        (["--", "./no/such/program"], 127),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else str(value),
)
def test_exit_code_is_passed_on(seqsup: Cli, tmp_path: Path, words: list[str], code: int) -> None:
    (tmp_path / "plain").write_text("no program")
    ended = seqsup("run", *words)
    assert ended.code == code, ended.stderr


def test_words_are_a_prompt_for_the_cli_of_a_preset(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "codex").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    (tmp_path / "codex").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = seqsup("run", "--preset", "codex", "--model", "m", "--", "-fix", "{task} it", env=path)
    assert (ran.code, ran.stdout) == (0, "<exec><--sandbox><workspace-write><--json><--model><m><--><-fix {task} it>")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--preset", "claudee", "x"], 125, "--preset: no preset 'claudee' (did you mean claude?)"),
        (["--preset", "qwen", "x"], 127, "--preset: no program qwen on PATH"),
        (["--preset", "node", "x"], 125, "--preset: node takes no prompt"),
        (["--preset", "claude", " "], 125, "the prompt: empty"),
        (["--preset", "claude"], 125, 'incomplete: seqsup run --preset claude "PROMPT"'),
        (["--model", "m", "--", "true"], 125, "--model goes with --preset"),
    ],
)
def test_a_mistake_in_a_prompt_names_its_option(seqsup: Cli, words: list[str], code: int, told: str) -> None:
    ended = seqsup("run", *words, env={"PATH": "/usr/bin:/bin"})
    assert (ended.code, told in ended.stderr) == (code, True), ended.stderr


def test_run_without_its_turn_is_125_and_a_stopped_one_128_and_its_signal(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    running = seqsup_started("run", "--", "sh", "-c", f"touch {tmp_path}/up; exec sleep 60")
    wait_for((tmp_path / "up").exists)
    assert seqsup("run", "--no-wait", "--", "true").code == 125
    waiting = seqsup_started("run", "--", "true")
    wait_for(lambda: "waiting for" in waiting.stderr)
    waiting.send(signal.SIGTERM)
    assert waiting.wait().code == 128 + signal.SIGTERM
    running.send(signal.SIGTERM)
    assert running.wait().code == 128 + signal.SIGTERM


def test_command_that_ends_by_itself_after_a_stop_keeps_its_code(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    waits = "touch up; while ! test -e go; do sleep 0.1; done; exit 9"
    running = seqsup_started("run", "--", "sh", "-c", waits)
    wait_for((tmp_path / "up").exists)
    assert seqsup("stop").code == 0
    (tmp_path / "go").touch()
    assert running.wait().code == 9
    told = seqsup("status").stdout
    assert "ago, exit 9\n" in told
    fields = json.loads(seqsup("status", "--json").stdout)
    assert (fields["exit_code"], fields["passed_on"]) == (130, 9)


def test_ctrl_c_stops_the_command_with_its_grace_period(seqsup_started: Start, tmp_path: Path) -> None:
    tidies = "trap 'touch tidied; exit 3' TERM; touch up; while :; do sleep 0.05; done"
    running = seqsup_started("run", "--", "sh", "-c", tidies)
    wait_for((tmp_path / "up").exists)
    running.send(signal.SIGINT)
    ended = running.wait()
    assert (ended.code, (tmp_path / "tidied").exists()) == (130, True)
    assert "seqsup: stops now (with a grace period); Ctrl-C again kills\n" in ended.stderr


def test_second_ctrl_c_kills_a_command_that_does_not_stop(seqsup_started: Start, tmp_path: Path) -> None:
    running = seqsup_started("run", "--", "sh", "-c", "trap '' TERM; touch up; while :; do sleep 0.05; done")
    wait_for((tmp_path / "up").exists)
    running.send(signal.SIGINT)
    wait_for(lambda: "Ctrl-C again kills" in running.stderr)
    running.send(signal.SIGINT)
    ended = running.wait()
    assert (ended.code, "stops at once" in ended.stderr) == (130, True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["a b"], "write it without the quotes: seqsup run -- a b"),
     (["sleep 1 | x", "y z"], "no shell runs this: seqsup run -- sh -c 'sleep 1 | x"),
     (["|", "y"], "no shell runs this: seqsup run -- sh -c 'COMMAND | y'")],
)  # fmt: skip
def test_missing_program_of_a_quoted_command_is_hinted_as_typed(seqsup: Cli, words: list[str], hint: str) -> None:
    refused = seqsup("run", "--", *words)
    assert (refused.code, hint in refused.stderr) == (127, True), refused.stderr


def test_words_in_double_braces_are_the_commands_own(seqsup: Cli) -> None:
    assert seqsup("run", "--", "echo", "{{task}}", "{task}}").stdout == "{{task}} {task}}\n"
