"""The log: what a terminal shows, what the file keeps, and that no input can break it."""

import fcntl
import json
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TextIO, get_args, get_origin

import pytest
from msgspec import Struct
from msgspec.structs import fields, replace

from helpers.command_line import Result
from helpers.told import Told, process
from seqsup.model.enums import DEBUG, INFO, LEVELS, Halt
from seqsup.model.events import (
    AnyEvent,
    ChainEnded,
    CompanionExited,
    Drained,
    Event,
    MemoryWarned,
    RunEnded,
    RunPaused,
    StopSent,
    Warned,
)
from seqsup.model.reason import Reason
from seqsup.units import GIB, MIB
from seqsup.view.log import FILE, Log, spoken
from seqsup.view.messages import Message, say

SHOWN = """\
▶ seqsup      started    nightly: 2 agents, one at a time, in subreaper
▶ triage      started
✔ triage      completed  exit 0  7 min 25 s  peak 374 MiB of 1 GiB
! embed       memory     600 MiB above warn (512 MiB)
☠ embed       soft       stopped after 3 s  peak 1031 MiB  1031 MiB for 2 s
↻ embed       retry      attempt 2 in 20 s, after failed
✖ embed       failed     after 2 attempts: soft
! embed       undrained  after 30 s: 96 MiB still owned (available 2 GiB → 4 GiB; the run uses 20 MiB); next: stop
■ seqsup      stop       SIGINT: the run stops now (with a grace period)
"""


def story() -> Told:
    told = Told().run("triage", "embed").attempt("triage", seconds=445, peak=374 * MIB, hard=GIB, exit_code=0)
    told.drained("triage").agent_ended("triage").attempt_started("embed")
    told.tell(MemoryWarned(agent="embed", attempt=1, used=600 * MIB, warn=512 * MIB))
    why = "1031 MiB for 2 s"
    held = (process(1, "node embed.js", 1031 * MIB),)
    told.tell(
        StopSent(
            agent="embed", attempt=1, signal="SIGTERM", reason=Reason.SOFT, why=f"{why}, soft is 1 GiB", processes=held
        )
    )  # fmt: skip
    told.ended("embed", Reason.SOFT, why=why, seconds=3, peak=1031 * MIB, left_over=(process(2),))
    told.retry("embed", wait=20).agent_ended("embed", Reason.SOFT, why=why, attempts=2)
    return told.drained("embed", seconds=30, why="96 MiB still owned").halt(Halt.NOW).run_ended(130)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "terminal").open("w", encoding="utf-8") as stream:
        yield stream


def shown(terminal: TextIO) -> str:
    return re.sub(r"^\d\d:\d\d:\d\d ", "", Path(terminal.name).read_text(terminal.encoding), flags=re.MULTILINE)


def hear(log: Log, told: Told) -> None:
    for recorded in told.events:
        log(recorded)
    log.close()


def test_the_terminal_shows_what_happens_with_its_reasons_and_numbers(terminal: TextIO) -> None:
    hear(Log(None, terminal=terminal), story())
    assert shown(terminal) == SHOWN


def test_quiet_shows_failures_only(terminal: TextIO) -> None:
    hear(Log(None, terminal=terminal, quiet=True), story())
    assert [line.split()[:3] for line in shown(terminal).splitlines()] == [
        ["✖", "embed", "failed"],
        ["!", "embed", "undrained"],
    ]


def test_quiet_shows_pauses(terminal: TextIO) -> None:
    hear(Log(None, terminal=terminal, quiet=True), Told().run("a").tell(RunPaused(why="by the operator")).paused("a"))
    assert shown(terminal).splitlines() == [
        "■ seqsup      paused     by the operator",
        "… a           paused     until 14:05, its limit resets then",
    ]


def test_what_an_agent_gave_back_is_its_trees_and_not_the_hosts() -> None:
    event = Drained(
        agent="a", attempt=1, reached=True, seconds=0.1, before=4 * GIB, after=3 * GIB, owned=20 * MIB, strays=(),
        end=30 * MIB, gave_back=50 * MIB,
    )  # fmt: skip
    line = worded(event)
    assert (line.level, line.text) == (INFO, "end 30 MiB, gave back 50 MiB")
    assert line.more == "available 4 GiB → 3 GiB"
    little = worded(replace(event, gave_back=30 * MIB))
    assert (little.level, little.text) == (DEBUG, "end 30 MiB, gave back 30 MiB")
    never_measured = worded(replace(event, end=None, gave_back=None))
    assert (never_measured.level, never_measured.text) == (DEBUG, "")
    slow = worded(replace(event, seconds=3.0))
    assert slow.text == "in 3 s; end 30 MiB, gave back 50 MiB"


def test_the_file_keeps_what_happened_with_its_time_level_and_place(tmp_path: Path) -> None:
    told = story()
    hear(Log(tmp_path, terminal=None), told)
    lines = (tmp_path / FILE).read_text().splitlines()
    assert len(lines) == len(told.events) - 1  # that an agent is done after one attempt, the attempt says
    assert lines[1] == (
        "2026-11-18T11:06:42.000Z DEBUG   r42 triage/1 starts     hard 1 GiB  log triage/1  node triage.js"
    )
    assert lines[-1].startswith("2026-11-18T11:06:55.000Z ERROR   r42 - ended      exit 130")


def test_resumed_run_continues_in_the_same_log(tmp_path: Path) -> None:
    for _ in range(2):
        hear(Log(tmp_path, terminal=None), Told().run("a"))
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


def test_two_pairs_of_attempts_at_the_same_time_are_shouted(terminal: TextIO) -> None:
    ended = RunEnded(
        exit_code=0, why="", completed=1, gave_up=0, skipped=0, not_run=0, seconds=1.0, sequence_violations=2
    )
    hear(Log(None, terminal=terminal, quiet=True), Told().tell(ended))
    assert "2 pairs of attempts ran at the same time: internal error" in shown(terminal)


@pytest.mark.parametrize("event", AnyEvent.__args__)
def test_every_event_has_words(event: type[Event]) -> None:
    line = worded(simplest(event))
    assert line.word
    assert line.mark


def simplest(of: Any) -> Any:
    """The least that this type can hold."""
    kinds = get_args(of) if isinstance(of, UnionType) else (of,)
    if NoneType in kinds:
        return None
    kind = get_origin(kinds[0]) or kinds[0]
    if issubclass(kind, Enum):
        return next(iter(kind))
    if issubclass(kind, Struct):
        return kind(**{field.name: simplest(field.type) for field in fields(kind)})
    return "x" if kind is str else kind()


def test_companion_that_node_could_not_start_is_reported_in_nodes_words() -> None:
    """Its stack took fifteen lines of a terminal, five times."""
    stack = (
        "node:internal/modules/cjs/loader:1210\n  throw err;\n  ^\n\nError: Cannot find module '/srv/mcp.mjs'\n"
        "    at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15) {\n"
        "  code: 'MODULE_NOT_FOUND',\n  requireStack: []\n}\n\nNode.js v20.20.2"
    )
    gone = CompanionExited(
        companion="mcp", number=1, why="exit 1", exit_code=1, signal=None, seconds=1, folder="mcp/1", output=stack
    )
    assert worded(gone).text == "mcp after 1 s: exit 1"
    assert worded(gone).more == "Error: Cannot find module '/srv/mcp.mjs'; output in mcp/1"
    assert worded(replace(gone, output="")).more == "output in mcp/1"


def test_no_agent_can_forge_a_line_or_move_the_cursor(terminal: TextIO) -> None:
    hear(Log(None, terminal=terminal), Told().tell(Warned(message="one\n00:00:00 ✔ two\x1b[2J\r {braces} <red>")))
    said = shown(terminal)
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert "{braces} <red>" in said


def test_a_terminal_without_symbols_gets_words(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w", encoding="latin-1") as stream:
        hear(Log(None, terminal=stream), Told().run("a").attempt("a", exit_code=0))
        assert "ok   a           completed  exit 0" in shown(stream)


@pytest.mark.parametrize(("variable", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_colour_is_used_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
        hear(Log(None, terminal=stream), Told().run("a"))
        assert (b"\x1b[" in os.read(ours, 65536)) is coloured
    os.close(ours)


@pytest.mark.parametrize("width", [0, 40, 80, 100, 200])
@pytest.mark.parametrize("colour", ["", "1"])
def test_lines_break_at_words_on_a_terminal_and_nowhere_else(
    width: int, colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
        hear(Log(tmp_path, terminal=stream), story())
        told = read_plain(ours)
    assert all(len(line) <= (width or 1000) for line in told.splitlines())
    assert told.count("\n") > SHOWN.count("\n") if 0 < width < 200 else told.count("\n") == SHOWN.count("\n")
    unbroken = re.sub(r"^\d\d:\d\d:\d\d ", "", re.sub(r"\n +", " ", told), flags=re.MULTILINE)
    details = "  1031 MiB for 2 s"
    as_far_as_it_fits = {40: "", 80: "", 100: "  1031 MiB for 2 s"}
    whole = SHOWN.replace(details, as_far_as_it_fits.get(width, details))
    assert " ".join(unbroken.split()) == " ".join(whole.split())
    assert "(available 2 GiB → 4 GiB; the run uses 20 MiB); next: stop" in (tmp_path / FILE).read_text()


def read_plain(terminal: int) -> str:
    """Read all that a terminal was sent, without its colours, and close it."""
    os.set_blocking(terminal, False)
    read = b""
    with suppress(BlockingIOError):
        while piece := os.read(terminal, 65536):
            read += piece
    os.close(terminal)
    return re.sub("\x1b\\[[0-9;]*m", "", read.decode()).replace("\r\n", "\n")


def test_a_terminal_that_went_away_is_no_fault() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
        log = Log(None, terminal=stream)
        os.close(ours)
        hear(log, story())


def test_exit_code_is_shown_once() -> None:
    told = Told().run("a").attempt("a", Reason.FAILED, exit_code=3, why="exit 3")
    lines = filter(None, (say(recorded.body) for recorded in told.events))
    assert [line.text for line in lines if line.word == Reason.FAILED] == ["exit 3  1 s"]


def test_reason_that_goes_with_exit_0_begins_without_a_comma() -> None:
    told = Told().ended("a", Reason.FAILED, why="exit 0, but it reported: no", exit_code=0)
    [line] = filter(None, (say(recorded.body) for recorded in told.events))
    assert line.more.startswith("but it reported: no")


def test_memory_that_a_chain_left_is_reported_once() -> None:
    ended = ChainEnded(
        chain=1, agents=2, reached=True, seconds=0.1, available=3 * GIB, baseline=5 * GIB, owned=20 * MIB
    )
    assert worded(ended).text == "1 done (2 agents): 3 GiB available"
    assert worded(ended).more == "before the first agent 5 GiB; the run uses 20 MiB"
    short = replace(ended, reached=False, why="3 GiB available; waiting for 4 GiB (drain.available)")
    assert worded(short).text == (
        "1 done (2 agents), but memory is not back: 3 GiB available; waiting for 4 GiB (drain.available);"
        " before the first agent 5 GiB available; the run uses 20 MiB"
    )


def test_full_pipe_does_not_delay_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    told = Told()
    for _ in range(2000):
        told.tell(Warned(message="x" * 200))
    with open(writing, "w", encoding="utf-8") as stream:  # noqa: PTH123
        log = Log(None, terminal=stream)
        for recorded in told.events:
            log(recorded)
        os.close(reading)
        log.close()


def test_a_line_costs_well_under_a_millisecond(tmp_path: Path, terminal: TextIO) -> None:
    told = story()
    log = Log(tmp_path, terminal=terminal)
    best = min(_seconds(log, told) for _ in range(20)) / len(told.events)
    log.close()
    assert best < 0.001, "about 60 µs on a quiet machine"


def _seconds(log: Log, told: Told) -> float:
    began = time.perf_counter()
    for recorded in told.events:
        log(recorded)
    return time.perf_counter() - began


# -- as data, and how much of it


def test_json_lines_are_objects_with_run_agent_and_attempt(terminal: TextIO, tmp_path: Path) -> None:
    hear(Log(tmp_path, terminal=terminal, as_json=True), story())
    on_terminal, in_file = (
        [json.loads(line) for line in Path(name).read_text().splitlines()] for name in (terminal.name, tmp_path / FILE)
    )
    assert all(list(line) == ["time", "level", "run", "agent", "attempt", "event", "message"] for line in in_file)
    assert [line for line in in_file if line["level"] != "debug"] == on_terminal
    assert {line["level"] for line in in_file} <= {level.lower() for level in LEVELS}
    pulse = json.loads(spoken("1 MiB", "running", run="r42", agent="a", attempt=1))
    assert list(pulse) == list(in_file[0])
    (stop,) = [line for line in in_file if line["event"] == "attempt_ended" and line["agent"] == "embed"]
    assert (stop["run"], stop["agent"], stop["attempt"], stop["level"]) == ("r42", "embed", 1, "warning")
    assert stop["message"].startswith("soft stopped after 3 s peak 1031 MiB 1031 MiB for 2 s")


def test_name_of_an_agent_cannot_break_json(terminal: TextIO) -> None:
    hear(Log(None, terminal=terminal, as_json=True), Told().tell(Warned(message='"}\n{braces} <red>\x1b[2J')))
    (line,) = Path(terminal.name).read_text().splitlines()
    assert json.loads(line)["message"] == '"} {braces} <red> [2J'


@pytest.mark.parametrize("event", [
    StopSent(agent="a", attempt=1, signal="SIGKILL", reason=Reason.HARD, why="too much", processes=()),
    StopSent(agent="a", attempt=1, signal="SIGTERM", reason=Reason.HALTED, why="stopped by the user", processes=()),
])  # fmt: skip
def test_kill_is_reported_once_by_the_end_of_its_attempt(event: StopSent, terminal: TextIO) -> None:
    told = Told().run("a").attempt_started("a").tell(event)
    assert event.reason is not None
    told.ended("a", event.reason, why=event.why).agent_ended("a", event.reason)
    hear(Log(None, terminal=terminal), told)
    assert [line.split()[0] for line in shown(terminal).splitlines()] == ["▶", "☠"]


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_long_name_of_an_agent_leaves_its_line_whole(columns: int) -> None:
    name = "a-rather-long-name-of-an-agent-that-goes-on-and-on.17"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
        hear(Log(None, terminal=stream), Told().run(name, "b").started(name).attempt("b", exit_code=0))
        told = read_plain(ours).splitlines()
    started, ended = (next(line for line in told if mark in line and "seqsup" not in line) for mark in ("started", "✔"))
    assert re.search(r"a-ra\S*…\S*\.17  started", started), started
    assert started.index("started") == ended.index("completed")


@pytest.mark.parametrize(("level", "least"), [("DEBUG", 13), ("INFO", 9), ("WARNING", 5), ("ERROR", 2)])
def test_a_level_says_how_much_the_terminal_shows(level: str, least: int, terminal: TextIO) -> None:
    hear(Log(None, terminal=terminal, quiet=True, level=level), story())
    assert len(shown(terminal).splitlines()) == least


def test_the_file_is_rotated_and_old_parts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqsup.view.log._ROTATION", "2 KB")
    told = Told().run("a")
    for n in range(200):
        told.tell(Warned(message=f"{n} {'x' * 100}"))
    hear(Log(tmp_path, terminal=None), told)
    files = sorted(tmp_path.glob("seqsup*.log"))
    assert 2 <= len(files) <= 5
    assert "199 x" in (tmp_path / FILE).read_text()
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_the_command_line_sets_level_and_format_and_the_environment_does_too(
    seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    silent = seqsup("run", "--", "true")
    assert silent.stderr == ""
    by_option = seqsup("run", "--log-level", "info", "--", "true")
    by_environment = seqsup("run", "--", "true", env={"SEQSUP_LOG_LEVEL": "info"})
    assert "completed" in by_option.stderr
    assert "completed" in by_environment.stderr
    as_json = seqsup("run", "--log-level", "debug", "--log-format", "json", "--", "false")
    lines = [json.loads(line) for line in as_json.stderr.splitlines()]
    assert {"run_started", "attempt_ended", "run_ended"} <= {line["event"] for line in lines}
    assert seqsup("run", "--log-level", "loud", "--", "true").code == 125
    for variable in ("SEQSUP_LOG_LEVEL", "SEQSUP_LOG_FORMAT"):
        wrong = seqsup("run", "--", "true", env={variable: "loud"})
        assert wrong.code == 125
        assert f"{variable}: expected" in wrong.stderr


def worded(event: Event) -> Message:
    message = say(event)
    assert message is not None
    return message
