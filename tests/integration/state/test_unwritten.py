"""Events that the journal does not take: whatever an append accepted is read back, once and in order."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.crashes import ledger
from helpers.disks import fill, tmpfs
from helpers.paths import ROOT, STUBS
from helpers.profiles import shell, write
from helpers.told import Told
from helpers.waiting import wait_for
from seqsup.errors import Stopped
from seqsup.model.events import AnyEvent, AttemptEnded, AttemptStarted, Warned
from seqsup.state import unwritten
from seqsup.state.journal import DURABLE, Journal
from seqsup.state.journal_schema import FILE, JournalError, JournalLost

Fault = Callable[[Path], AbstractContextManager[None]]
ENDED = Told().run_ended(4).events[-1].body
STORY: list[AnyEvent] = [
    each.body for each in Told().run("a", "b").attempt("a").drained("a").agent_ended("a").attempt("b").drained("b")
    .agent_ended("b").run_ended(0).events
]  # fmt: skip
STORY.insert(3, Warned(message="beside it"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is waited for as briefly as can be."""
    monkeypatch.setattr("seqsup.state.journal.PATIENCE", 0.0)
    monkeypatch.setattr("seqsup.state.journal_schema.PATIENCE", 0.0)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    with closing(sqlite3.connect(state / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def full(state: Path) -> Iterator[None]:
    fill(state / "filler")
    yield
    (state / "filler").unlink()


@contextmanager
def both(state: Path) -> Iterator[None]:
    with full(state), locked(state):
        yield


class Writer:
    """A supervisor that writes a story, and what it could count on to be kept."""

    def __init__(self, state: Path) -> None:
        self.journal = Journal.open(state, write=True)
        self.run = self.journal.begin("nightly", "nightly.toml", "cookie")
        self.noted: list[AnyEvent] = []
        self.safe = 0  # of them

    def note(self, event: AnyEvent) -> None:
        self.journal.append(self.run, event)
        self.noted.append(event)
        if self.journal.flush_unless_locked() or isinstance(event, DURABLE):
            self.safe = len(self.noted)

    def die(self) -> None:
        """Let go of everything as the kernel does when a process is killed."""
        self.journal._kept._let_go()
        self.journal._wal.close()
        self.journal._db.close()


def noted(state: Path, run: int = 1) -> list[AnyEvent]:
    opened = Journal.open(state)
    opened.check()
    return [recorded.body for recorded in opened.events(run)]


def files(state: Path) -> list[Path]:
    return list(state.glob(f"{FILE}-unwritten-*"))


def told(writer: Writer, state: Path, at: int, fault: Fault, during: ExitStack) -> bool:
    """Write the story, with that fault from one event on. Return whether the run stopped before its end."""
    for number, event in enumerate(STORY):
        if number == at:
            during.enter_context(fault(state))
        try:
            writer.note(event)
        except Stopped:
            assert isinstance(event, AttemptStarted)
            begun = any(isinstance(each, AttemptStarted) for each in writer.noted)
            with suppress(*(() if begun else (JournalLost,))):  # nothing has reserved any room
                writer.note(ENDED)
            return True
        except JournalLost:
            assert not any(isinstance(each, AttemptStarted) for each in writer.noted)
            return True
    return False


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
@pytest.mark.parametrize("fault", [locked, full, both])
@pytest.mark.parametrize("at", range(len(STORY)))
def test_whatever_was_accepted_is_read_back_once(tmp_path: Path, at: int, fault: Fault, killed: bool) -> None:
    with tmpfs(tmp_path / "disk", "size=4m") as state:
        writer = Writer(state)
        with ExitStack() as during:
            stopped = told(writer, state, at, fault, during)
            assert stopped == any(isinstance(event, AttemptStarted) for event in STORY[at:]) or fault is full
            writer.die() if killed else writer.journal.close()
        safe = writer.noted[: writer.safe] if killed else writer.noted
        before = noted(state)
        assert before == writer.noted[: len(before)]
        assert len(before) >= len(safe)
        again = Journal.open(state, write=True)
        assert [recorded.body for recorded in again.events(1)] == before
        assert files(state) == []
        ended = [each for each in before if isinstance(each, AttemptEnded)]
        assert [len(again.past("nightly.toml", each.agent)) for each in ended] == [1] * len(ended)
        again.append(1, STORY[0])  # its numbers continue
        again.check()
        again.close()


@pytest.mark.parametrize("at", range(1, len(STORY)))
def test_supervisor_whose_journal_is_free_again_continues(tmp_path: Path, at: int) -> None:
    writer = Writer(tmp_path)
    for event in STORY[:at]:
        writer.note(event)
    with locked(tmp_path):
        for event in STORY[at:]:
            if isinstance(event, AttemptStarted):
                break
            writer.note(event)
    for event in STORY[len(writer.noted) :]:
        writer.note(event)
    writer.journal.close()
    assert noted(tmp_path) == STORY
    assert files(tmp_path) == []


@pytest.mark.parametrize("step", ["insert", "_decode_row", "Wal", "Path.unlink"])
def test_kill_while_events_are_read_back_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = _left_behind(tmp_path)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"seqsup.state.unwritten.{step}", dies)
        with pytest.raises(KeyboardInterrupt):
            Journal.open(tmp_path, write=True)
    assert len(files(tmp_path)) == 1
    assert noted(tmp_path) == writer.noted
    assert files(tmp_path) == []


def _left_behind(state: Path, end: int = 5) -> Writer:
    writer = Writer(state)
    for event in STORY[: end - 1]:
        writer.note(event)
    with locked(state):
        for event in STORY[end - 1 : end]:
            writer.note(event)
        writer.die()
    assert len(files(state)) == 1
    return writer


def test_events_that_a_living_supervisor_keeps_are_left_to_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for event in STORY[:4]:
        writer.note(event)
    with locked(tmp_path):
        writer.note(STORY[4])
    kept = files(tmp_path)
    Journal.open(tmp_path, write=True).close()
    assert (len(kept), files(tmp_path)) == (1, kept)
    writer.note(STORY[5])
    writer.journal.close()
    assert noted(tmp_path) == STORY[:6]


def test_a_reader_shows_what_the_journal_has_while_that_is_locked(tmp_path: Path) -> None:
    writer = _left_behind(tmp_path)
    with locked(tmp_path):
        assert noted(tmp_path) == writer.noted[:4]
        with pytest.raises(JournalError, match="another program holds a lock on it"):
            Journal.open(tmp_path, write=True)
    assert noted(tmp_path) == writer.noted


@pytest.mark.parametrize("cut", range(0, 400, 37))
def test_whole_events_of_a_truncated_file_are_read(tmp_path: Path, cut: int) -> None:
    writer = _left_behind(tmp_path)
    (file,) = files(tmp_path)
    os.truncate(file, cut)
    assert noted(tmp_path) in (writer.noted[:4], writer.noted)


def test_events_of_a_journal_that_was_moved_away_are_dropped(tmp_path: Path) -> None:
    _left_behind(tmp_path)
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    for file in tmp_path.glob(f"{FILE}*"):
        if "unwritten" not in file.name:
            file.unlink()
    new = Writer(tmp_path)
    assert new.run == 2
    new.journal.close()
    assert (noted(tmp_path), files(tmp_path)) == ([], [])


def _socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))


@pytest.mark.parametrize("what", ["fifo", "link", "socket", "other", "folder"])
def test_file_of_another_kind_is_passed_over(tmp_path: Path, what: str) -> None:
    if what == "other" and os.geteuid():
        pytest.skip("only root may give files away")
    writer = _left_behind(tmp_path)
    odd, victim = tmp_path / f"{FILE}-unwritten-odd", tmp_path / "victim"
    victim.write_text('[1, 6, 0, 0, "", 0]\n')
    make: dict[str, Callable[[Path], None]] = {
        "fifo": os.mkfifo,
        "link": lambda path: path.symlink_to(victim),
        "folder": lambda path: path.mkdir(),
        "socket": _socket,
    }
    if what == "other":
        odd.write_text(victim.read_text())
        os.chown(odd, 12345, 12345)
    else:
        make[what](odd)
    assert noted(tmp_path) == writer.noted
    Journal.open(tmp_path, write=True).close()
    assert files(tmp_path) == [odd]
    assert victim.exists()


def test_run_continues_if_no_room_can_be_reserved_for_unwritten_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.posix_fallocate", refuses)
    writer = _left_behind(tmp_path)
    assert noted(tmp_path) == writer.noted
    assert unwritten.waits(tmp_path / FILE) is False


# -- the real command line


@pytest.mark.long
def test_an_agent_that_ended_while_the_journal_was_locked_is_not_run_again(
    seqsup_started: Callable[..., Started], seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    waits = "while [ ! -e gate ]; do sleep 0.05; done; echo a >>ledger"
    profile = write(tmp_path, shell("a", f"touch began; {waits}"), shell("b", "echo b >>ledger"))
    run = seqsup_started("start", profile)
    wait_for((tmp_path / "began").exists)
    with locked(state):
        (tmp_path / "gate").touch()
        ended = run.wait()
        assert (ended.code, "another program holds a lock on it" in ended.stderr) == (4, True), ended.stderr
    status = json.loads(seqsup("status", "--json").stdout)
    assert [agent["state"] for agent in status["agents"]] == ["completed", "pending"]
    assert seqsup("start", profile, "--resume").code == 0
    assert ledger(tmp_path) == {"a": 1, "b": 1}
    assert files(state) == []


@pytest.mark.parametrize("at", [5, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 24) if n != 5)])
def test_wherever_the_journal_is_locked_in_a_run_of_two_lanes_no_agent_that_ended_runs_again(
    seqsup: Callable[..., Result], tmp_path: Path, at: int
) -> None:
    names = [f"a{number}" for number in range(5)]
    lanes = {"concurrency": 2, "allow_concurrency": True}
    profile = write(tmp_path, *(shell(name, f"echo {name} >>ledger") for name in names), run=lanes,
                    memory={"hard": "64MiB"})  # fmt: skip
    locks = subprocess.run(
        [sys.executable, str(STUBS / "locks_at.py"), str(at), "start", str(profile)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=90, check=False,
    )  # fmt: skip
    assert locks.returncode in (0, 4), locks.stderr
    assert "Traceback" not in locks.stderr
    resumed = seqsup("start", profile, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert ledger(tmp_path) == dict.fromkeys(names, 1)
