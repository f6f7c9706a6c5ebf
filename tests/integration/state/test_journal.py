"""The journal on real disks: nothing is lost or overwritten, and each fault is reported with its remedy."""

import errno
import gc
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.disks import _mounted, fill, tmpfs
from helpers.paths import ROOT
from helpers.profiles import parsed, reasons, shell, write
from helpers.told import Told
from helpers.waiting import alive, wait_for
from seqsup.errors import Stopped
from seqsup.model.events import AnyEvent, AttemptEnded, Warned
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import FILE, FORMAT, JournalError, JournalLost, NoJournal
from seqsup.units import MIB

MANY = 500
_WRITER = """
import os, sys, time
from pathlib import Path
from seqsup.model.events import AnyEvent, AttemptEnded, Warned
from seqsup.state.journal import Journal
journal, events = Journal.open(Path(sys.argv[1]), write=True), int(sys.argv[2])
run = journal.begin("killed", None, "cookie")
for n in range(events):
    journal.append(run, Warned(message=f"event {n}"))
    journal.flush()
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def writer(state_dir: Path, events: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes so many events, says ready and stays; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(state_dir), str(events)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ext4(folder: Path, size: int) -> Iterator[Path]:
    """One that takes its blocks late, as the disks of most machines do."""
    image = folder.with_name(f"{folder.name}.img")
    with image.open("wb") as file:
        file.truncate(size)
    if not (mkfs := shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")):
        pytest.skip("no mkfs.ext4")
    subprocess.run([mkfs, "-q", "-m", "0", str(image)], check=True)
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


def fill_up(disk: Path) -> None:
    """Take what a disk keeps back until it has written down what it was given, too."""
    for name in ("filler", "filler2"):
        fill(disk / name)


def drain_off(disk: Path) -> None:
    for filler in disk.glob("filler*"):
        filler.unlink()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def messages(state_dir: Path, run: int = 1) -> list[str]:
    journal = Journal.open(state_dir)
    try:
        return [event.body.message for event in journal.events(run) if isinstance(event.body, Warned)]
    finally:
        journal.close()


# -- nothing is lost


def test_events_are_read_back_numbered_without_gaps(tmp_path: Path) -> None:
    told = Told().run("a", "b").attempt("a").agent_ended("a").lost("b").run_ended(1)
    journal = Journal.open(tmp_path, write=True)
    runs = [journal.begin("nightly", None, cookie) for cookie in ("first", "second")]
    for recorded in told.events:  # of both runs in turn: each counts for itself
        for run in runs:
            journal.append(run, recorded.body)
    journal.close()
    journal = Journal.open(tmp_path)
    for run in runs:
        events = list(journal.events(run))
        assert [event.body for event in events] == [recorded.body for recorded in told.events]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert list(journal.events(run, after=3)) == events[3:]
    journal.check()
    journal.close()


def test_resumed_run_continues_its_numbers(tmp_path: Path) -> None:
    for n in range(3):
        journal = Journal.open(tmp_path, write=True)
        run = journal.runs()[0].run if n else journal.begin("nightly", None, "cookie")
        assert journal.append(run, Warned(message=f"part {n}")).seq == n + 1
        journal.close()
    assert messages(tmp_path) == ["part 0", "part 1", "part 2"]


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    with writer(tmp_path, MANY) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert messages(tmp_path) == [f"event {n}" for n in range(MANY)]
    journal = Journal.open(tmp_path, write=True)
    assert journal.append(1, Warned(message="and on")).seq == MANY + 1
    journal.check()
    journal.close()


def test_start_and_end_of_an_attempt_are_on_disk_on_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events in between ask nothing of the disk; a later start or end takes them along."""
    reached = [b""]

    def sync(fd: int) -> None:
        assert os.fstat(fd).st_ino == (tmp_path / f"{FILE}-wal").stat().st_ino
        reached.append(os.pread(fd, MIB, 0))
        os.fdatasync(fd)

    monkeypatch.setattr("seqsup.state.journal_schema._reach_disk", sync)
    journal = Journal.open(tmp_path, write=True)
    run = journal.begin("nightly", None, "the-cookie")
    assert b"the-cookie" in reached[-1]
    start, spawned, end, drained = Told().attempt("a").drained("a").events
    journal.append(run, start.body)
    assert b"attempt_started" in reached[-1]
    asked = len(reached)
    journal.append(run, spawned.body)
    journal.flush()
    assert len(reached) == asked
    journal.append(run, end.body)
    assert len(reached) == asked + 1
    assert b"spawned" in reached[-1]
    assert b"attempt_ended" in reached[-1]
    journal.append(run, drained.body)
    journal.flush()
    assert len(reached) == asked + 1
    journal.close()


def test_a_writer_killed_in_the_midst_leaves_whole_events_only(tmp_path: Path) -> None:
    with writer(tmp_path, 10**6):
        wait_for(lambda: (tmp_path / FILE).exists() and _count(tmp_path) > 50)
    found = messages(tmp_path)
    assert found == [f"event {n}" for n in range(len(found))]
    journal = Journal.open(tmp_path)
    journal.check()
    journal.close()


def _count(state_dir: Path) -> int:
    try:
        return len(messages(state_dir))
    except JournalError:  # it is being made in this moment
        return 0


def test_readers_see_what_is_written_while_it_is_written(tmp_path: Path) -> None:
    writes = Journal.open(tmp_path, write=True)
    run = writes.begin("nightly", None, "cookie")
    *reads, slow = [Journal.open(tmp_path) for _ in range(3)]
    half_read = None
    for n in range(100):
        writes.append(run, Warned(message=str(n)))
        writes.flush()
        assert [len(list(journal.events(run))) for journal in reads] == [n + 1, n + 1]
        if n == 50:
            half_read = slow.events(run)
            next(half_read)  # a reader that pauses halfway blocks no writer
    assert half_read is not None
    assert len(list(half_read)) == 50  # the rest of what there was when it began
    for journal in (*reads, slow, writes):
        journal.close()


def test_a_reader_that_stops_in_the_midst_does_not_let_the_wal_grow(tmp_path: Path) -> None:
    """`seqsup events | less` may last for hours. It reads the events that existed at its start, in several goes."""
    journal = Journal.open(tmp_path, write=True)
    run = journal.begin("long", None, "cookie")

    def tell(number: int) -> None:
        for _ in range(number):
            journal.append(run, Warned(message="something"))
            journal.flush()

    tell(2 * MANY)
    reading = Journal.open(tmp_path).events(run)
    next(reading)
    tell(MANY)
    assert (tmp_path / f"{FILE}-wal").stat().st_size < 2 * MIB
    assert [event.seq for event in reading] == list(range(2, 2 * MANY + 1))
    journal.close()


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "state", write=True)
    run = journal.begin("nightly", None, "cookie")
    journal.append(run, Warned(message="x"))
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()} == {0o600}
    journal.close()


# -- faults are reported with their remedy, and no file is created


def test_reading_a_folder_without_runs_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(NoJournal, match="no runs yet"):
        Journal.open(tmp_path / "state")
    assert list(tmp_path.glob("state")) == []


def test_half_created_journal_is_read_as_empty(tmp_path: Path) -> None:
    made, crashed = tmp_path / "made", tmp_path / "crashed"
    made.mkdir()
    with closing(sqlite3.connect(made / FILE, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("CREATE TABLE a (b)")
        writer.executemany("INSERT INTO a VALUES (?)", [["x" * 900]] * 100)
        shutil.copytree(made, crashed)  # as a kill leaves it
    assert (crashed / f"{FILE}-journal").stat().st_size
    with pytest.raises(NoJournal, match="is empty"):
        Journal.open(crashed)
    Journal.open(crashed, write=True).close()


def test_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database " * 100)
    before = files(tmp_path)
    for write_too in (True, False):
        with pytest.raises(JournalError, match=r"not a database; .*mv .*journal.db .*journal.db.damaged"):
            Journal.open(tmp_path, write=write_too)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (FORMAT + 1, rf"newer seqsup \(format {FORMAT + 1}.*: upgrade"),
        (FORMAT - 1, rf"unknown format {FORMAT - 1} .*: move it away \(`mv .*journal.db .*journal.db.{FORMAT - 1}`"),
    ],
    ids=["newer", "older"],
)
def test_journal_of_another_format_is_left_as_it_is(tmp_path: Path, found: int, said: str) -> None:
    other = sqlite3.connect(tmp_path / FILE)
    other.execute(f"PRAGMA user_version = {found}")
    other.close()
    before = files(tmp_path)
    for write_too in (True, False):
        with pytest.raises(JournalError, match=said):
            Journal.open(tmp_path, write=write_too)
    assert files(tmp_path) == before


def test_a_damaged_page_is_found_before_anything_is_started(
    seqsup: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    journal = Journal.open(state, write=True)
    run = journal.begin("nightly", None, "cookie")
    for _ in range(200):
        journal.append(run, Warned(message="x" * 100))
    journal.close()
    with (state / FILE).open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    profile = write(tmp_path, shell("a", "touch ran"))
    result = seqsup("start", profile, env={"SEQSUP_STATE_DIR": str(state)})
    assert result.code == 3, result.stderr
    assert "move it away" in result.stderr
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be_written_refuses_the_start_and_nothing_is_made(
    seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "disk", "size=1m,ro") as disk:
        profile = write(tmp_path, shell("a", "touch ran"), run={"state_dir": str(disk / "state")})
        result = seqsup("start", profile)
        assert list(disk.iterdir()) == []
    assert result.code == 3
    assert f"make {disk / 'state'} writable" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "ran").exists()


def test_events_on_a_disk_that_became_read_only_are_read(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=4m,mode=700") as disk:
        state = {"SEQSUP_STATE_DIR": str(disk)}
        profile = write(tmp_path, shell("a", "echo said"))
        assert seqsup("start", profile, env=state).code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for command in (
            ["status"],
            ["runs"],
            ["logs", "a"],
            ["events"],
            ["artifacts", "summary"],
            ["report", "-o", "-"],
        ):
            told = seqsup(*command, env=state)
            assert told.code == 0, (command, told.stderr)
        refused = seqsup("start", profile, env=state)
    assert (refused.code, "writable" in refused.stderr) == (3, True)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_journal_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / FILE)
    for write_too in (True, False):
        with pytest.raises(JournalError, match="is not a regular file: move it away"):
            Journal.open(tmp_path, write=write_too)


def test_a_state_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=f"{tmp_path}/file is not a folder: set"):
        Journal.open(tmp_path / "file" / "state", write=True)
    assert [path.name for path in tmp_path.glob("file*")] == ["file"]


# -- a full disk


def test_an_event_that_finds_no_room_is_an_error_and_those_before_it_stay(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        journal = Journal.open(disk, write=True)
        run = journal.begin("nightly", None, "cookie")
        journal.append(run, Warned(message="before"))
        journal.flush()
        with sqlite3.connect(disk / FILE) as other:
            other.execute("UPDATE runs SET pid = 1")  # as if started by another process: the same pid writes nothing
        other.close()
        fill(disk / "filler")
        with pytest.raises(JournalError, match="free space"):
            journal.adopt(journal.runs()[0], "nightly", None)
        for _ in range(2):
            with pytest.raises(JournalLost, match="free space"):
                _append_and_flush(journal, run, "x" * 5000)
        (disk / "filler").unlink()
        assert journal.append(run, Warned(message="after")).seq == 2
        journal.close()
        assert messages(disk) == ["before", "after"]


def test_full_disk_stops_the_run_and_resume_continues_once_there_is_space(
    seqsup_started: Callable[..., Started], seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    grows = f"{sys.executable} -c \"held = b'x' * 60 * 2**20; import time; time.sleep(60)\""
    script = (
        f"[ -e mended ] && exit 0; sleep 60 & echo $$ $! >> pids; while [ ! -e gate ]; do sleep 0.01; done; {grows}"
    )
    with tmpfs(tmp_path / "disk", "size=2m") as disk:
        profile = write(
            tmp_path, shell("first", "echo first >> ran"), shell("a", script), shell("last", "echo last >> ran"),
            run={"state_dir": str(disk / "state")}, memory={"warn": "30MiB"},
        )  # fmt: skip
        process = seqsup_started("start", profile)
        pids = [int(pid) for pid in wait_for(lambda: _words(tmp_path / "pids"))]
        wal = disk / "state" / f"{FILE}-wal"
        os.truncate(wal, wal.stat().st_size)  # as of a filesystem that keeps no room for the journal
        for reserved in wal.parent.glob(f"{FILE}-unwritten-*"):
            os.truncate(reserved, 0)
        fill(disk / "filler")
        (tmp_path / "gate").touch()  # above `warn` there is something to write down
        ended = process.wait()
        assert ended.code == 4, ended.stderr
        assert "free space" in ended.stderr
        assert "--resume" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert [pid for pid in pids if alive(pid)] == []
        assert _words(tmp_path / "ran") == ["first"]

        full = seqsup("start", profile, "--resume")
        assert full.code in (3, 4), full.stderr
        assert "free space" in full.stderr
        assert "Traceback" not in full.stderr

        (disk / "filler").unlink()
        (tmp_path / "mended").touch()
        resumed = seqsup("start", profile, "--resume", "--json")
        assert resumed.code == 0, resumed.stderr
        assert reasons(parsed(resumed.stdout)) == {"a": "completed", "last": "completed"}
        assert _words(tmp_path / "ran") == ["first", "last"]


Disk = Callable[[Path], AbstractContextManager[Path]]


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(
    "disk", [partial(tmpfs, options="size=24m"), partial(ext4, size=24 * MIB)], ids=["tmpfs", "ext4"]
)
def test_agent_that_fills_the_disk_still_completes_and_does_not_run_again(
    seqsup_started: Callable[..., Started], seqsup: Callable[..., Result], tmp_path: Path, disk: Disk, killed: bool
) -> None:
    with disk(tmp_path / "disk") as full:
        waits = "echo a >>ran; while [ ! -e gate ]; do sleep 0.01; done"
        run = {"state_dir": str(full / "state")}
        profile = write(tmp_path, shell("a", waits), shell("b", "echo b >>ran"), run=run)
        process = seqsup_started("start", profile)
        wait_for(lambda: _words(tmp_path / "ran"))
        fill_up(full)
        log = full / "state" / "runs" / "r1" / "seqsup.log"
        with log.open("ab") as file:  # to the end of its last block: then it takes no further line
            file.write(bytes(-log.stat().st_size % os.statvfs(full).f_bsize))
        (tmp_path / "gate").touch()
        wait_for(lambda: "below run.disk_floor" in process.stderr)
        status = json.loads(seqsup("status", profile, "--json").stdout)
        assert [agent["state"] for agent in status["agents"]] == ["completed", "pending"]
        if killed:
            process.send(signal.SIGKILL)
            process.process.wait()
        drain_off(full)
        ended = seqsup("start", profile, "--resume") if killed else process.wait()
        assert (ended.code, "Traceback" in ended.stderr) == (0, False), ended.stderr
        assert killed or "continues" in log.read_text()  # the log does so too
        assert _words(tmp_path / "ran") == ["a", "b"]


def test_no_message_says_to_move_away_a_journal_that_another_program_locks(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, write=True)
    run = journal.begin("nightly", None, "cookie")
    journal._db.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalLost, match=r"database is locked; another program holds a lock on it \(`fuser /"):
        journal.append(run, Told().run("a").events[0].body)
    with pytest.raises(Stopped, match=r"database is locked; another program holds a lock on it \(`fuser /"):
        journal.append(run, Told().attempt("a").events[0].body)
    other.close()
    journal.close()


def test_event_that_waits_for_no_lock_is_written_once_the_lock_is_gone(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, write=True)
    run = journal.begin("nightly", None, "cookie")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    journal.append(run, Warned(message="before"))
    assert journal.flush_unless_locked()
    other.execute("BEGIN IMMEDIATE")
    journal.append(run, Warned(message="first"))
    assert not journal.flush_unless_locked()
    journal.append(run, Warned(message="second"))
    assert not journal.flush_unless_locked()
    other.execute("COMMIT")
    journal.append(run, Warned(message="third"))
    assert journal.flush_unless_locked()
    said = [(event.seq, event.body.message) for event in journal.events(run) if isinstance(event.body, Warned)]
    assert said == [(1, "before"), (2, "first"), (3, "second"), (4, "third")]
    other.close()
    journal.close()


def test_no_agent_starts_if_the_journal_has_no_room_for_its_end(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=2m") as disk:
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, 3 * MIB // 2)
        profile = write(tmp_path, shell("a", "echo a >>ran"), run={"state_dir": str(disk / "state")})
        stopped = seqsup("start", profile)
        assert (stopped.code, _words(tmp_path / "ran")) == (4, []), stopped.stderr
        assert "reserve room for an agent's end: No space left on device; free" in " ".join(stopped.stderr.split())
        (disk / "filler").unlink()
        assert seqsup("start", profile, "--resume").code == 0
        assert _words(tmp_path / "ran") == ["a"]


def test_every_started_agent_can_end_on_a_full_disk(tmp_path: Path) -> None:
    starts, *ends = [each.body for each in Told().attempt("a").drained("a").agent_ended("a").run_ended(4).events]
    with tmpfs(tmp_path / "disk", "size=2m") as disk:
        journal = Journal.open(disk, write=True)
        run = journal.begin("nightly", None, "cookie")
        journal.append(run, starts)
        fill(disk / "filler")
        with pytest.raises(Stopped, match="reserve room for an agent's end: No space left on device; free space in"):
            _told_for_ever(journal, run, *ends, starts)
        journal.append(run, ends[-1])  # that of the run, at the latest
        (disk / "filler").unlink()
        journal.append(run, starts)
        journal.check()
        journal.close()


def test_run_continues_if_no_room_can_be_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "")

    monkeypatch.setattr("seqsup.state.journal_schema.fallocate", refuses)
    journal = Journal.open(tmp_path, write=True)
    run = journal.begin("nightly", None, "cookie")
    for recorded in Told().attempt("a").events:
        journal.append(run, recorded.body)
    journal.close()


@pytest.mark.parametrize("room", [8, 36, 60, 88, *(pytest.param(n, marks=pytest.mark.long) for n in range(4, 140, 4))])
def test_resume_continues_wherever_the_journal_found_no_room(
    seqsup_started: Callable[..., Started], seqsup: Callable[..., Result], tmp_path: Path, room: int
) -> None:
    """From its very making on: no file may be larger than so many KiB, by `ulimit -f`."""
    serves = {"name": "c", "command": ["sh", "-c", "echo ready; exec sleep 60"], "ready": {"log": "ready"}}
    agents = [shell(name, f"echo {name} >>ran") for name in "abc"]
    profile = write(tmp_path, *agents, companions=[{**serves, "restart_every": 1}])
    narrow = ("bash", "-c", f'ulimit -f {room}; exec "$@"', "-")
    stopped = seqsup_started("start", profile, through=narrow).wait()
    assert stopped.code in (0, 3, 4)
    assert stopped.code == 0 or "`ulimit -f`" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    resumed = seqsup("start", profile, "--resume")
    assert resumed.code == 0, resumed.stderr
    journal = Journal.open(Path(os.environ["SEQSUP_STATE_DIR"]))
    journal.check()
    bodies = [each.body for row in journal.runs() for each in journal.events(row.run)]
    journal.close()
    assert [body.agent for body in bodies if isinstance(body, AttemptEnded) and body.ok] == ["a", "b", "c"]


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _told_for_ever(journal: Journal, run: int, *events: AnyEvent) -> None:
    for event in cycle(events):
        journal.append(run, event)
        journal.flush()


def _append_and_flush(journal: Journal, run: int, message: str) -> None:
    journal.append(run, Warned(message=message))
    journal.flush()


# -- damage: refused with the remedy, never replaced by a new journal in silence


def _told(state: Path, agents: int = 3) -> bytes:
    """A run that was stopped before its last agent, and the journal's bytes once it is closed."""
    journal = Journal.open(state, write=True)
    run = journal.begin("nightly", "nightly.toml", "cookie")
    told = Told().run("a", "b", "c")
    for name in ("a", "b", "c")[:agents]:
        told.attempt(name).drained(name).agent_ended(name)
    for recorded in told.events:
        journal.append(run, recorded.body)
    journal.close()
    (state / "runs" / "r1").mkdir(parents=True)
    assert not (state / f"{FILE}-wal").exists()
    return (state / FILE).read_bytes()


def _read(state: Path) -> list[object] | None:
    """Return the events from which a start would resume; None if it is refused, with the remedy."""
    try:
        journal = Journal.open(state, write=True)
        try:
            return [(row.run, row.name, [event.body for event in journal.events(row.run)]) for row in journal.runs()]
        finally:
            journal.close()
    except JournalError as error:
        return None if "move it away" in str(error) or "newer seqsup" in str(error) else [error]


def _written_as(state: Path, content: bytes) -> None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (state / name).unlink(missing_ok=True)
    (state / FILE).write_bytes(content)


def test_a_journal_that_was_cut_short_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = _told(tmp_path)
    good = _read(tmp_path)
    for size in (0, 1, 50, 100, 4095, *range(4096, len(whole), 2048)):
        _written_as(tmp_path, whole[:size])
        assert _read(tmp_path) is None, size
    _written_as(tmp_path, whole)
    assert _read(tmp_path) == good


@pytest.mark.parametrize("step", [997, pytest.param(61, marks=pytest.mark.long)])
def test_a_flipped_byte_is_refused_or_was_of_no_weight(tmp_path: Path, step: int) -> None:
    whole = _told(tmp_path)
    good = _read(tmp_path)
    refused = 0
    for at in range(0, len(whole), step):
        _written_as(tmp_path, whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        found = _read(tmp_path)
        refused += found is None
        assert found in (None, good), at
    assert refused


def test_an_event_that_was_changed_is_known_by_its_sum(tmp_path: Path) -> None:
    _told(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as tampered:
        tampered.execute("UPDATE events SET body = replace(body, '\"ok\":true', '\"ok\":null') WHERE seq = 4")
    tampered.close()
    journal = Journal.open(tmp_path)
    with pytest.raises(JournalError, match=r"event 4 of r1 is damaged; .*move it away"):
        list(journal.events(1))
    journal.close()


def test_an_event_that_is_missing_is_missed(tmp_path: Path) -> None:
    _told(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as tampered:
        tampered.execute("DELETE FROM events WHERE seq = 4")
    tampered.close()
    journal = Journal.open(tmp_path)
    with pytest.raises(JournalError, match="event 4 of r1"):
        list(journal.events(1))
    journal.close()


def test_after_a_journal_was_set_aside_runs_are_numbered_on_and_folders_not_mixed(tmp_path: Path) -> None:
    _told(tmp_path)
    (tmp_path / FILE).rename(tmp_path / f"{FILE}.damaged")
    journal = Journal.open(tmp_path, write=True)
    assert journal.begin("nightly", None, "another") == 2
    journal.close()


def test_a_start_does_not_read_a_large_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _told(tmp_path)
    damaged = bytearray(whole)
    damaged[-4096:] = b"\xff" * 4096  # the last page: of events, by their number
    _written_as(tmp_path, bytes(damaged))
    monkeypatch.setattr("seqsup.state.journal_schema._WHOLE", 0)
    journal = Journal.open(tmp_path, write=True)
    assert len(journal.runs()) == 1
    with pytest.raises(JournalError, match="move it away"):
        journal.check()
    journal.close()


def test_released_journal_is_closed(tmp_path: Path) -> None:
    """From Python 3.13 on, one that is found open is warned of, which fails this test."""
    held: list[object] = [Journal.open(tmp_path, write=True)]
    held.append(held)  # as a traceback holds itself: then the order of finalizers is undefined
    del held
    gc.collect()
