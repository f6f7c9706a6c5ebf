"""One voice: what went wrong, why, and what to do; as wide as the terminal; no traceback for what a user can cause."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.command_line import Result
from helpers.driver import Driver
from helpers.paths import ROOT
from helpers.profiles import shell, write
from seqsup.cli.app import COMMANDS, FAULT
from seqsup.text import wrap

Cli = Callable[..., Result]

LOOKS = sorted({name for section in COMMANDS.values() for name in section} - {"start", "run", "work", "init"})


# -- no traceback


@pytest.fixture
def driver(tmp_path: Path, seqsup: Cli) -> Iterator[Driver]:
    seqsup("start", write(tmp_path, shell("a", "echo hello")))
    driver = Driver(tmp_path)
    yield driver
    driver.close()


_WORDS = st.one_of(
    st.sampled_from([
        "nightly.toml", "nightly", "r1", "1", "r0", "r9999999999999999999", "a", "-f", "--json", "--now", "--all",
        "-n", "-1", "0", "--attempt", "--task", "--only", "--from", "--resume", "--no-wait", "--quiet", "--force",
        "--dry-run", "--", "-", "", ".", "..", "/", "/dev/null", "/proc/self/mem", "~", "stdout", "\udcff", "é", "=",
        "--=", "-h", "--debug", "--help", "--version", "a" * 300, "x.toml",
    ]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.sampled_from(LOOKS),
)  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", *LOOKS]), st.lists(_WORDS, max_size=5))
def test_no_command_line_makes_a_traceback(driver: Driver, command: str, words: list[str]) -> None:
    if "-f" in words and command in ("logs", "events"):
        words = [word for word in words if word != "-f"]  # it would follow a dead run's log, and end; a live one's not
    code, told = driver.run([word for word in (command, *words) if word or word is not command])
    assert code != FAULT, told
    assert "--debug" in words or "Traceback" not in told


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(_WORDS, st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "replace"))), max_size=4))
def test_no_profile_makes_a_traceback(driver: Driver, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "x.toml").write_text("".join(f"{word}\n" for word in words), errors="replace")
    code, told = driver.run(["plan", "x.toml"])
    assert (code, "Traceback" in told) == (2, False)
    assert told.startswith("seqsup: ")


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["strat"], 2, 'unknown command "strat" (did you mean start'),
        (["status", "--jsn"], 2, "unknown option --jsn (did you mean --json?)"),
        (["status", "a", "b"], 2, "unexpected argument: b; usage: seqsup status [OPTIONS] [RUN]"),
        (["run", "--"], 125, "incomplete: seqsup run -- CMD"),
        (["start", "--only"], 2, "--only wants a value\ntry: seqsup start -h"),
        (["status", "--json=yes"], 2, "--json takes no value\ntry: seqsup status -h"),
        (["start", "--progress", "fast"], 2, "--progress: expected one of auto, plain, not 'fast'"),
        (["artifacts", "lis"], 2, 'unknown command "lis" (did you mean list?)'),
        (["artifacts", "clean", "--days", "nan"], 2, "--days: expected a number of days, not 'nan'"),
        (["artifacts", "clean", "--max-size", "big"], 2, "--max-size: expected a size"),
        (["run", "--retries", "-1", "--", "true"], 125, "--retries: expected a whole number from 0, not '-1'"),
        (["start", ""], 2, "which profile? (seqsup start PROFILE)"),
        (["--debug"], 2, "missing command\ntry: seqsup -h"),
        (["plan", "no.toml"], 2, "no.toml: cannot be read: No such file or directory"),
        (["status", "r9"], 2, 'no run "r9"'),
        (["status", "nigthly"], 2, "did you mean nightly?"),
        (["logs", "--attempt", "0"], 2, "--attempt: expected a whole number from 1, not '0'"),
        (["logs", "--attempt", "9" * 400], 0, "has no attempt 999"),  # more than a float holds
        (["init", "no/where.toml"], 2, "folder no does not exist: create it"),
        (["completion"], 2, "incomplete: seqsup completion {bash|zsh|fish}"),
        (["mem", "abc"], 2, 'seqsup: no run "abc"'),
        (["run", "--", "no-such-program"], 127, "seqsup: the command: no program no-such-program on PATH"),
        (["run", "--hard", "big", "--", "true"], 125, "seqsup: --hard: expected a size"),
        (["run", "--soft", "2G", "--hard", "1G", "--", "true"], 125, "seqsup: --soft: soft (2 GiB) is above hard"),
        (["run", "--timeout", "soon", "--", "true"], 125, "seqsup: --timeout: expected a duration"),
        (["run", "--name", "a b", "--", "true"], 125, "seqsup: --name: 'a b': a name is"),
    ],
)
def test_an_error_says_what_and_what_to_do(driver: Driver, args: list[str], code: int, told: str) -> None:
    ended, said = driver.run(args)
    assert ended == code
    assert told in said
    assert all(line.startswith(("seqsup: ", "try: ", "  ")) for line in said.splitlines()), said


def test_wrong_name_is_reported_once(driver: Driver) -> None:
    assert driver.run(["run", "--name", "a b", "--", "true"])[1].count("seqsup: ") == 1


@pytest.mark.parametrize(("command", "ends"), [("run", 125), ("artifacts", 2)])
def test_help_shown_after_a_mistake_is_still_help(driver: Driver, command: str, ends: int) -> None:
    code, told = driver.run([command])
    assert (code, told.startswith(f"Usage: seqsup {command}"), "seqsup: " in told) == (ends, True, False)


@pytest.mark.parametrize("args", [["--debug", "status", "r9"], ["status", "r9", "--debug"]])
def test_debug_shows_where_an_error_came_from(driver: Driver, args: list[str]) -> None:
    code, said = driver.run(args)
    assert code == 2
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("seqsup: no run")


def test_missing_library_is_reported(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise ModuleNotFoundError(\"No module named 'msgspec'\", name='msgspec')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT / 'supervisor'}"}
    command = [sys.executable, "-m", "seqsup", "status"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"seqsup: msgspec is missing from {sys.executable}")


# -- widths


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("command", ["plan", "status", "runs", "doctor"])
def test_printed_text_fits_the_columns(seqsup: Cli, tmp_path: Path, command: str, columns: int) -> None:
    """But for single words, such as paths, which stay whole so that they can be copied."""
    long = "writes-the-report-of-the-night"
    profile = write(tmp_path, shell(long, "true"), shell("b", "exit 1", needs=[long]))
    seqsup("start", profile)
    args = [command, profile] if command in ("plan", "doctor") else [command]
    lines = seqsup(*args, env={"COLUMNS": str(columns), "LC_ALL": "C"}).stdout.splitlines()
    lines += seqsup(*args, env={"COLUMNS": str(columns)}).stdout.splitlines()
    assert len(lines) > 2
    wide = [line for line in lines if len(line) > columns and " " in line.strip()[: columns - 12]]
    assert [line for line in wide if not any(copied in line for copied in ("$ ", "→ ", "seqsup "))] == []


@pytest.mark.parametrize("columns", [40, 60])
def test_help_fits_the_columns(columns: int) -> None:
    helps = [[], *([name] for names in COMMANDS.values() for name in names), ["artifacts", "put"]]
    code = f"from seqsup.cli.app import main; print([main([*words, '--help']) for words in {helps}])"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "COLUMNS": str(columns)}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    *lines, codes = said.stdout.splitlines()
    assert codes == str([0] * len(helps))
    assert [line for line in lines if len(line) > columns] == []
    assert sum(line.startswith("Usage: seqsup") for line in lines) == len(helps)


@given(st.text("ab ", max_size=60), st.integers(1, 80))
def test_a_wrapped_line_has_all_words_and_no_broken_one(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= max(width, 22) or len(line.split()) == 1 for line in lines)


def test_a_terminal_without_symbols_gets_words_everywhere(seqsup: Cli, tmp_path: Path) -> None:
    profile, plain = write(tmp_path, shell("a", "true")), {"LC_ALL": "C"}
    ended = seqsup("start", profile, "--task", "naïve", env=plain)
    said = ended.stderr + seqsup("status", env=plain).stdout + seqsup("doctor", profile, env=plain).stdout
    assert not set(said) & {"–", "…", "→", "✔", "▶", "·"}
    assert len({line.index("a   ") for line in said.splitlines() if re.match(r"\d\d:\d\d:\d\d .* a   ", line)}) == 1
    assert json.loads(seqsup("status", "--json", env=plain).stdout)["task"] == "naïve"


def test_output_of_an_agent_is_not_lost_in_locale_c(seqsup: Cli, tmp_path: Path) -> None:
    profile, plain = write(tmp_path, shell("a", "echo naïve – 漢字 >&2; exit 1")), {"LC_ALL": "C"}
    assert re.search(r"failed .*  naïve - 漢字", seqsup("start", profile, env=plain).stderr)


@pytest.mark.parametrize("terminal", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}])
def test_json_is_utf_8_whatever_the_terminal_takes(seqsup: Cli, tmp_path: Path, terminal: dict[str, str]) -> None:
    profile = write(tmp_path, shell("a", "echo naïve – 漢字 >&2; exit 1"))
    told = seqsup("start", profile, "--log-format", "json", env=terminal).stderr
    assert any("naïve – 漢字" in json.loads(line)["message"] for line in told.splitlines())
