"""The file of the embedded queue: its modes, what is refused, and what a lock or a full disk does to it."""

import asyncio
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from helpers.disks import fill, tmpfs
from helpers.queues import Hands, add, beside, new, serve, states, until, work
from helpers.waiting import wait_for
from seqsup.model.enums import Halt
from seqsup.queue import worker_folder
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import FILE, FORMAT
from seqsup.queue.jobs import JobResult, JobState, Order
from seqsup.queue.store import Lease, QueueError
from seqsup.runner.stop_request import StopRequest

DONE = JobResult(exit_code=0, run="r1")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqsup.queue.embedded_file.PATIENCE", 0.0)


@pytest.fixture
def state() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_only_its_owner_can_read_it(state: Path, tmp_path: Path) -> None:
    new_state = tmp_path / "new" / "state"
    mask = os.umask(0)
    try:
        with closing(EmbeddedQueue(new_state)) as queue:
            add(queue)
            during: dict[str, int] = {}

            async def look(lease: Lease) -> JobResult:
                during.update(modes(new_state))
                return DONE

            work(queue, {"job": look})
    finally:
        os.umask(mask)
    assert stat.S_IMODE(new_state.stat().st_mode) == 0o700
    folders = {"queue", "w"}
    assert {FILE, f"{FILE}-wal", "lock", "wake", *folders} <= set(during)
    assert all(mode == (0o700 if name in folders else 0o600) for name, mode in during.items())


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    target = path.parent.parent / "target"
    target.touch()
    path.symlink_to(target)


@pytest.mark.parametrize("name", [FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal"])
@pytest.mark.parametrize("make", [_pipe, _link, Path.mkdir])
def test_what_is_no_regular_file_is_refused(state: Path, make: Callable[[Path], None], name: str) -> None:
    make(state / name)
    with pytest.raises(QueueError, match="not a regular file: move it away"):
        EmbeddedQueue(state)


def test_folder_that_others_can_write_is_refused(state: Path) -> None:
    state.chmod(0o777)
    with pytest.raises(QueueError, match="chmod go-w"):
        EmbeddedQueue(state)
    assert not (state / FILE).exists()


def test_state_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QueueError, match="set SEQSUP_STATE_DIR"):
        EmbeddedQueue(tmp_path / "file")


@pytest.mark.parametrize(
    ("found", "why"), [(FORMAT + 1, r"newer seqsup \(format .*: upgrade"), (-3, "unknown format -3 .*mv ")]
)
def test_other_format_is_refused_and_stays_as_it_is(state: Path, found: int, why: str) -> None:
    EmbeddedQueue(state).close()
    with closing(sqlite3.connect(state / FILE)) as db:
        db.execute(f"PRAGMA user_version = {found}")
    before = (state / FILE).read_bytes()
    with pytest.raises(QueueError, match=why):
        EmbeddedQueue(state)
    assert (state / FILE).read_bytes() == before


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\x00" + bytes(4080) + b"x" * 4096])
def test_damaged_file_is_named_with_a_remedy(state: Path, damage: bytes) -> None:
    (state / FILE).write_bytes(damage)
    with pytest.raises(QueueError, match=rf"{FILE} cannot be used: .*mv .*damaged"):
        add(EmbeddedQueue(state))


def test_lock_of_another_program_is_named_and_nothing_is_added(state: Path) -> None:
    with closing(EmbeddedQueue(state)) as queue:
        with locked(state / FILE), pytest.raises(QueueError, match=r"fuser .*stop that program"):
            add(queue)
        assert queue.jobs() == []
        assert add(queue) == 1


def test_full_disk_refuses_a_job_whole_and_is_forgotten_when_it_has_room(tmp_path: Path) -> None:
    large = Order(folder="/", command=("true",), files={"x": bytes(100_000)})
    with tmpfs(tmp_path / "disk", "size=2m") as disk:
        state = disk / "state"
        with closing(EmbeddedQueue(state)) as queue:
            one = add(queue, "one")
            fill(disk / "filler")
            for _ in range(3):
                with pytest.raises(QueueError, match="free space"):
                    queue.add([new("two", order=large), new("three", order=large, after=(-1,))])
                with pytest.raises(QueueError, match="free space"):
                    queue.add([new("x", order=large)])
            assert [job.number for job in queue.jobs()] == [one]
            (disk / "filler").unlink()
            assert queue.add([new("two", order=large), new("three", after=(-1,))]) == [one + 1, one + 2]
            assert work(queue).names == ["one", "two", "three"]


def test_result_waits_for_a_lock_to_go(state: Path) -> None:
    with closing(EmbeddedQueue(state)) as queue:
        number = add(queue, "job")
        lock = sqlite3.connect(state / FILE, isolation_level=None)

        async def finished(lease: Lease) -> JobResult:
            lock.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(1.5, lock.execute, "ROLLBACK")
            lease.begin("r1", "/state")  # is not kept, and harms nothing
            lease.note("nor this")
            return DONE

        work(queue, {"job": finished})
        lock.close()
        assert (queue.job(number).state, queue.job(number).run) == (JobState.DONE, "r1")


def test_worker_that_must_stop_now_leaves_its_result_to_the_next(state: Path) -> None:
    request = StopRequest()
    with closing(EmbeddedQueue(state)) as queue:
        number = add(queue, "job")
        lock = sqlite3.connect(state / FILE, isolation_level=None)

        async def stopped(lease: Lease) -> JobResult:
            lock.execute("BEGIN IMMEDIATE")
            request.wish(Halt.NOW, 15, "the test")
            return DONE

        with pytest.raises(QueueError, match="fuser"):
            work(queue, {"job": stopped}, stop=request)
        lock.close()
        assert queue.job(number).state is JobState.RUNNING
        (taken,) = work(queue, {"job": DONE}).taken
        assert taken.resumed


def test_worker_whose_queue_breaks_finishes_its_jobs_and_reports_it(state: Path) -> None:
    with closing(EmbeddedQueue(state)) as queue, closing(EmbeddedQueue(state)) as other:
        queue.add([new("job"), new("next")])
        lock = sqlite3.connect(state / FILE, isolation_level=None)

        async def locking(lease: Lease) -> JobResult:
            lock.execute("BEGIN IMMEDIATE")
            worker_folder.wake_all(state)  # the worker has a free slot, and asks for the next job
            asyncio.get_running_loop().call_later(1.0, lock.execute, "ROLLBACK")
            await until(lambda: not lock.in_transaction)
            return DONE

        add(queue, "late", after=(1,))
        with pytest.raises(QueueError, match="fuser"):
            work(queue, {"job": locking}, slots=3)
        lock.close()
        assert states(other)["job"] is JobState.DONE


def test_worker_replaces_a_file_that_is_no_pipe(state: Path) -> None:
    folder = state / worker_folder.FOLDER / "w"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "wake").write_text("not a pipe")
    (state / worker_folder.FOLDER / "stray").touch()
    hands, request = Hands(), StopRequest()
    with closing(EmbeddedQueue(state)) as queue:
        add(queue, "one")
        assert (folder / "wake").read_text() == "not a pipe"
        serving = serve(queue, hands, until_empty=False, stop=request)
        asyncio.run(beside(serving, request, lambda: hands.names, lambda: add(queue, "two"), lambda: hands.names[1:]))
        assert queue.workers() == []


def test_listing_needs_no_room(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=2m") as disk, closing(EmbeddedQueue(disk / "state")) as queue:
        number = add(queue, not_before=(due := time.time() + 0.1))
        fill(disk / "filler")
        wait_for(lambda: time.time() > due)
        assert [job.number for job in queue.jobs()] == [number]
        assert sum(queue.counts().values()) == 1
