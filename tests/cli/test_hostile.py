"""Hostile names, arguments, profiles and artifacts, and what of them reaches a terminal."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.command_line import Result, Started
from helpers.driver import Driver, TerminalDriver
from helpers.profiles import agent, write
from helpers.schemas import fitting
from helpers.told import Told
from helpers.written import Written
from seqsup.cli.app import COMMANDS, FAULT
from seqsup.profile.schema import schema
from seqsup.text import unpainted

Cli = Callable[..., Result]

ODD = "\x1b]0;PWNED\x07\x9b31m\u202egnp\u2066\u200b\ufeff\rover\x08"
OURS = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*[AK]|\?25[lh])")  # colours and what redraws the live view
LOOKS = sorted(
    {name for section in COMMANDS.values() for name in section}
    - {"start", "run", "work", "bench", "init", "doctor", "grafana"}
)
JOINERS = "\u200c\u200d"


def unfit(sent: str) -> set[str]:
    """Return the characters that must not reach a terminal. Its driver turns each \n into \r\n."""
    return {c for c in unpainted(sent).replace("\r\n", "") if not c.isprintable() and c not in f"\t{JOINERS}"}


@pytest.fixture
def written(test_id: str) -> Iterator[Written]:
    state = Written(Path(os.environ["SEQSUP_STATE_DIR"]))
    yield state
    state.close()


@pytest.fixture
def hostile(written: Written) -> Path:
    """The folder of an attempt that left nothing but odd bytes."""
    number = written.run(Told().run("a").attempt("a").drained("a").agent_ended("a").run_ended(0))
    folder = written.printed(number, "a/1", f"out {ODD}\n", f"err {ODD}\n")
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "summary.md").write_text(f"summary {ODD}\n")
    (folder / "artifacts" / f"file{ODD}").write_text("x")
    (folder / "artifacts" / "plain").write_bytes(f"content {ODD}\n".encode() + b"\xff\x9b\n")
    return folder


@pytest.fixture
def terminal_driver(tmp_path: Path, hostile: Path) -> Iterator[TerminalDriver]:
    driver = TerminalDriver(tmp_path)
    yield driver
    driver.close()


@pytest.fixture
def driver(tmp_path: Path, written: Written) -> Iterator[Driver]:
    written.run(Told().run("a").attempt("a").run_ended(0))
    driver = Driver(tmp_path)
    yield driver
    driver.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["logs"], "out"),
        (["logs", "a"], "err"),
        (["artifacts", "summary", "a"], "summary"),
        (["artifacts", "summary"], "summary"),
        (["artifacts", "show", "a"], "summary"),
        (["artifacts", "show", "a", "--file", "plain"], "content"),
        (["artifacts", "show", "a", "--file", ODD], "no file"),
        (["artifacts", "list", "--json"], "file"),
        (["mem", ODD], "no run"),
        (["status", "--watch", ODD], ""),
        (["plan", ODD], "cannot be read"),
        (["--debug", "plan", ODD], "Traceback"),
        ([ODD], "unknown command"),
        ([f"--{ODD}"], "unknown option"),
        (["logs", "--attempt", ODD], "whole number"),
        (["start", "--progress", ODD], "expected one of"),
        (["run", "--hard", ODD, "--", "true"], "expected a size"),
        (["run", "--", ODD], "no program"),
    ],
)
def test_terminal_gets_no_control_character(terminal_driver: TerminalDriver, words: list[str], told: str) -> None:
    _, sent = terminal_driver.run(words)
    assert told in sent
    assert not unfit(sent), sent


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["logs", "a"], f"out {ODD}\n"),
        (["artifacts", "summary", "a"], f"summary {ODD}\n"),
        (["artifacts", "show", "a", "--file", "plain"], f"content {ODD}\n"),
    ],
)
def test_pipe_gets_every_byte(
    hostile: Path, tmp_path: Path, words: list[str], told: str, seqsup_started: Callable[..., Started]
) -> None:
    started = seqsup_started(*words)
    assert started.process.wait(40) == 0
    assert (started.folder / "stdout").read_bytes().startswith(told.encode())


def test_raw_logs_reach_a_terminal_whole(terminal_driver: TerminalDriver) -> None:
    assert f"out {ODD}" in terminal_driver.run(["logs", "a", "--raw"])[1]


_NASTY = st.sampled_from("\x1b\x07\x9b\r\n\x00\u202e\u2066\u200b\u200e\udcff]0;[31m")
_ODD_TEXT = st.text(st.one_of(_NASTY, st.characters()), max_size=20)
_WORD = st.one_of(_ODD_TEXT, st.sampled_from(["a", "r1", "--json", "--file", "--attempt", "show", "list", "x.toml"]))


def drive(driver: TerminalDriver, folder: Path, command: str, words: list[str], text: str) -> None:
    """Run a command with words, a profile and artifacts that hold odd text."""
    (folder / "x.toml").write_text(text, errors="replace")
    attempt = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs" / "r1" / "a" / "1"
    for file in (attempt / "stdout.log", attempt / "artifacts" / "summary.md"):
        file.write_text(text, errors="replace")
    words = [word.replace("\0", "") for word in words if word not in ("-f", "--follow", "--write", "--wait")]
    code, sent = driver.run([command, *words])
    assert code != FAULT, sent
    assert not unfit(sent), sent


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LOOKS), st.lists(_WORD, max_size=4), _ODD_TEXT)
def test_no_odd_text_reaches_a_terminal(
    terminal_driver: TerminalDriver, tmp_path: Path, command: str, words: list[str], text: str
) -> None:
    drive(terminal_driver, tmp_path, command, words, text)


@pytest.mark.long
@settings(max_examples=3000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LOOKS), st.lists(_WORD, max_size=4), _ODD_TEXT)
def test_no_odd_text_reaches_a_terminal_in_thousands(
    terminal_driver: TerminalDriver, tmp_path: Path, command: str, words: list[str], text: str
) -> None:
    drive(terminal_driver, tmp_path, command, words, text)


def test_run_shows_a_terminal_only_its_own_styling(terminal_driver: TerminalDriver, tmp_path: Path) -> None:
    """An agent has an odd process name, summary and hook; it runs in the interpreter's own run."""
    program = tmp_path / "odd\x1b[2J\u202ename"
    shutil.copy("/bin/sh", program)
    profile = write(
        tmp_path, agent("a", [program, "-c", "printf '\\033]0;PWNED\\007' >&2; exit 3"]),
        hooks={"after_run": ["printf '\\033[2J' >&2; exit 1"]},
    )  # fmt: skip
    code, sent = terminal_driver.run(["start", str(profile), "--follow", "--progress", "plain"])
    assert code == 1
    assert not unfit(OURS.sub("", sent)), sent


# -- profiles


_PROFILES = fitting(schema())


def plan_of(driver: Driver, folder: Path, tables: object) -> None:
    """Plan a profile with these tables: it is taken, or refused with words."""
    try:
        text = tomlkit.dumps(tables)  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):  # no tables at all, or what TOML cannot hold
        return
    (folder / "x.toml").write_text(text, errors="replace")
    code, said = driver.run(["plan", "x.toml"])
    assert code in (0, 2, 3), said
    assert "Traceback" not in said
    assert code or not said
    assert said or code in (0, 2)  # 2: it is shown, but a program is missing
    assert max(map(len, said.splitlines()), default=0) < 3000
    assert not unfit(said.replace("\n", ""))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(_PROFILES)
def test_no_tables_of_the_schema_make_a_traceback(driver: Driver, tmp_path: Path, tables: object) -> None:
    plan_of(driver, tmp_path, tables)


@pytest.mark.long
@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(_PROFILES)
def test_no_tables_of_the_schema_make_a_traceback_in_thousands(driver: Driver, tmp_path: Path, tables: object) -> None:
    plan_of(driver, tmp_path, tables)


@pytest.mark.parametrize("filler", ["a", "a b"])
def test_long_name_is_not_quoted_whole(driver: Driver, tmp_path: Path, filler: str) -> None:
    name = filler * 30_000
    both = [agent(name, [name], needs=[f"{name}x"], env={name: "{" + name + "}"}, cwd=name) for _ in range(2)]
    profile = write(tmp_path, *both, companions=[{"name": name, "command": [name]}] * 2, name="long")
    code, said = driver.run(["plan", str(profile)])
    assert code == 2
    assert all(len(line) < 3000 for line in said.splitlines())
    assert "…" in said


@pytest.mark.parametrize("number", [f"0x{'f' * 5000}", f"0b{'1' * 20_000}", "1e99999"])
@pytest.mark.parametrize(
    "key", ["run.chain", "run.keep", "memory.soft", "name", "success.codes", "timeouts.wall", "env.A"]
)
def test_number_that_is_absurd_is_refused(driver: Driver, tmp_path: Path, key: str, number: str) -> None:
    (tmp_path / "x.toml").write_text(f"{key} = {number}\n[[agents]]\nname = 'a'\ncommand = ['true']\n")
    code, said = driver.run(["plan", "x.toml"])
    assert (code, "Traceback" in said, "set_int_max" in said) == (2, False, False), said[-300:]


def test_number_of_too_many_digits_is_refused_with_its_line(driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(f"name = 'x'\n\n[run]\nchain = {'9' * 5000}\n")
    told = "seqsup: x.toml:4: a number of more than 4300 digits: write a smaller one\n"
    assert driver.run(["plan", "x.toml"]) == (2, told)


@pytest.mark.parametrize(
    "words",
    [
        ["mem"], ["mem", "1"], ["status"], ["runs", "-n"], ["artifacts", "clean", "--days"], ["mem", "--threshold"],
        ["artifacts", "clean", "--max-size"], ["logs", "--attempt"], ["run", "--name", "x", "--retries"],
        ["run", "--timeout"], ["run", "--soft"],
    ],
)  # fmt: skip
def test_number_of_thousands_of_digits_is_refused(driver: Driver, words: list[str]) -> None:
    more = ["--", "true"] if words[0] == "run" else []
    code, said = driver.run([*words, "9" * 5000, *more])
    assert code == (125 if words[0] == "run" else 2)
    assert all(len(line) < 500 for line in said.splitlines())


def test_columns_of_thousands_of_digits_are_no_width(seqsup: Cli, written: Written) -> None:
    written.run(Told().run("a").attempt("a").run_ended(0))
    assert seqsup("runs", env={"COLUMNS": "9" * 5000}).code == 0
