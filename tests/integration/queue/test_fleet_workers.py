"""Workers of a fleet as real processes that are killed, frozen and cut off. What counts is in files of the jobs."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.fleet import Workers, is_in, job, lines, network
from helpers.postgres import Server
from helpers.waiting import alive, wait_for
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.jobs import JobState, NewJob, Order

DONE, FAILED, READY, RUNNING, CANCELLED = (
    JobState.DONE, JobState.FAILED, JobState.READY, JobState.RUNNING, JobState.CANCELLED
)  # fmt: skip
ONCE = 'echo "$NUMBER $WORKER" >> log'
LONG = 'echo "begin $WORKER $$" >> log; if [ -e go ]; then echo "end $WORKER" >> log; else exec sleep 60; fi'


@pytest.fixture
def queue(fleet: str) -> Iterator[FleetQueue]:
    with closing(FleetQueue(fleet)) as queue:
        yield queue


def test_a_waiting_worker_carries_out_what_is_added(queue: FleetQueue, workers: Workers, tmp_path: Path) -> None:
    workers.start("one")
    wait_for(lambda: queue.workers() == ["one"])
    (number,) = queue.add([job(tmp_path, ONCE)])
    done = is_in(queue, number, DONE)
    assert lines(tmp_path / "log") == [f"{number} one"]
    assert (done.worker, done.run, done.exit_code) == ("one", f"r{number}", 0)


def test_each_job_runs_once_with_two_submitters_and_three_workers(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    other = FleetQueue(workers.url)
    numbers = [number for _ in range(15) for each in (queue, other) for number in each.add([job(tmp_path, ONCE)])]
    other.close()
    for name in ("one", "two", "three"):
        workers.start(name, "2", "--until-empty")
    wait_for(lambda: queue.counts()[DONE] == 30)
    assert sorted(int(line.split()[0]) for line in lines(tmp_path / "log")) == sorted(numbers)


def test_the_job_of_a_killed_machine_runs_on_another(queue: FleetQueue, workers: Workers, tmp_path: Path) -> None:
    first = workers.start("one")
    (number,) = queue.add([job(tmp_path, LONG)])
    wait_for(lambda: lines(tmp_path / "log"))
    (tmp_path / "go").touch()
    workers.start("two")
    workers.kill(first)
    done = is_in(queue, number, DONE)
    assert (done.worker, done.lost) == ("two", 1)
    assert lines(tmp_path / "log")[1:] == [lines(tmp_path / "log")[1], "end two"]


def test_a_restarted_worker_takes_its_own_job_back_at_once(
    queue: FleetQueue, workers: Workers, tmp_path: Path, fleet: str
) -> None:
    FleetQueue.init(fleet, lease=300)
    first = workers.start("one")
    (number,) = queue.add([job(tmp_path, LONG)])
    wait_for(lambda: lines(tmp_path / "log"))
    (tmp_path / "go").touch()
    workers.kill(first)
    workers.start("one")
    done = is_in(queue, number, DONE)
    assert (done.worker, done.lost) == ("one", 1)


def test_the_result_of_a_worker_that_was_frozen_past_its_lease_is_refused(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start("one")
    (number,) = queue.add([job(tmp_path, LONG)])
    wait_for(lambda: lines(tmp_path / "log"))
    begun = int(lines(tmp_path / "log")[0].split()[2])
    (tmp_path / "go").touch()
    workers.signal(first, signal.SIGSTOP)
    workers.start("two")
    done = is_in(queue, number, DONE)
    assert (done.worker, done.lost) == ("two", 1)
    workers.signal(first, signal.SIGCONT)
    wait_for(lambda: not alive(begun))  # it ends its agent as soon as it notices
    wait_for(lambda: "does not count" in workers.log("one").read_text())
    assert queue.job(number) == done
    assert [line for line in lines(tmp_path / "log") if line.startswith("end")] == ["end two"]


def test_a_worker_that_is_cut_off_stops_its_agent_before_another_has_the_job(
    queue: FleetQueue, workers: Workers, tmp_path: Path, postgres: Server
) -> None:
    with network(postgres.port) as between:
        through = workers.url.replace(str(postgres.port), str(between.port))
        workers.start("one", url=through)
        (number,) = queue.add([job(tmp_path, LONG)])
        wait_for(lambda: lines(tmp_path / "log"))
        begun = int(lines(tmp_path / "log")[0].split()[2])
        (tmp_path / "go").touch()
        between.cut()
        workers.start("two")
        wait_for(lambda: not alive(begun))
        done = is_in(queue, number, DONE)
        assert (done.worker, done.lost) == ("two", 1)
        between.mend()
        wait_for(lambda: "one" in queue.workers())
        (number,) = queue.add([job(tmp_path, ONCE)])  # it works again
        assert queue.job(number).state is not FAILED


def test_a_worker_that_rides_out_keeps_its_agent(
    queue: FleetQueue, workers: Workers, tmp_path: Path, postgres: Server, fleet: str
) -> None:
    FleetQueue.init(fleet, ride_out=True)
    with network(postgres.port) as between:
        workers.start("one", url=workers.url.replace(str(postgres.port), str(between.port)))
        (number,) = queue.add([job(tmp_path, 'echo "begin $WORKER" >> log; while [ ! -e go ]; do sleep 0.1; done')])
        wait_for(lambda: lines(tmp_path / "log"))
        between.cut()
        wait_for(lambda: not queue.workers())  # its lease is over, and no other worker is there
        between.mend()
        (tmp_path / "go").touch()
        done = is_in(queue, number, DONE)
        assert (done.worker, done.lost) == ("one", 0)
        assert lines(tmp_path / "log") == ["begin one"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_restarts_loses_nothing_and_doubles_nothing(
    queue: FleetQueue, workers: Workers, tmp_path: Path, postgres: Server, end: str, fleet: str
) -> None:
    FleetQueue.init(fleet, lease=60)
    workers.start("one", "2")
    workers.start("two", "2")
    script = 'echo "begin $NUMBER" >> log; while [ ! -e go ]; do sleep 0.1; done; echo "end $NUMBER" >> log'
    numbers = queue.add([job(tmp_path, script) for _ in range(8)])
    wait_for(lambda: len(lines(tmp_path / "log")) == 4)
    getattr(postgres, end)()
    (tmp_path / "go").touch()
    wait_for(lambda: sum(line.startswith("end") for line in lines(tmp_path / "log")) == 4)  # no result can be told yet
    postgres.start()
    wait_for(lambda: queue.counts()[DONE] == 8)
    ends = sorted(int(line.split()[1]) for line in lines(tmp_path / "log") if line.startswith("end"))
    assert ends == numbers


def test_a_job_that_kills_its_machines_fails_and_wanders_no_further(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    (number,) = queue.add([job(tmp_path, 'echo "$WORKER" >> log; kill -9 0')])
    for name in ("one", "two", "three", "four"):
        workers.start(name)
    failed = is_in(queue, number, FAILED)
    assert failed.lost == 3
    assert len(lines(tmp_path / "log")) == 3
    assert "seqsup queue retry" in failed.why


def test_chains_run_in_order_and_a_failure_holds_its_successors(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    workers.start("one", "2")
    workers.start("two", "2")
    a, b, c = queue.add([job(tmp_path, ONCE), job(tmp_path, ONCE, after=[-1]), job(tmp_path, ONCE, after=[-1, -2])])
    bad, held = queue.add([job(tmp_path, "[ -e mended ]"), job(tmp_path, ONCE, after=[-1])])
    is_in(queue, c, DONE)
    is_in(queue, bad, FAILED)
    assert [int(line.split()[0]) for line in lines(tmp_path / "log")] == [a, b, c]
    assert f"seqsup queue retry {bad}" in queue.job(held).why
    (tmp_path / "mended").touch()
    queue.retry(bad)
    is_in(queue, held, DONE)


def test_a_running_job_on_another_machine_is_cancelled(queue: FleetQueue, workers: Workers, tmp_path: Path) -> None:
    workers.start("one")
    (number,) = queue.add([job(tmp_path, LONG)])
    wait_for(lambda: lines(tmp_path / "log"))
    begun = int(lines(tmp_path / "log")[0].split()[2])
    assert queue.drop(number, now=True).stop_wanted
    is_in(queue, number, CANCELLED)
    wait_for(lambda: not alive(begun))


def test_a_drained_machine_finishes_its_job_and_takes_no_other(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    workers.start("one")
    script = 'echo "$WORKER" >> log; while [ ! -e go ]; do sleep 0.1; done'
    first, second = queue.add([job(tmp_path, script), job(tmp_path, script)])
    wait_for(lambda: lines(tmp_path / "log"))
    assert queue.drain("one") == ["one"]
    (tmp_path / "go").touch()
    is_in(queue, first, DONE)
    wait_for(lambda: "is drained" in workers.log("one").read_text())
    assert queue.job(second).state is READY
    workers.start("two")
    assert is_in(queue, second, DONE).worker == "two"


def test_a_paused_queue_gives_no_job_to_a_worker(queue: FleetQueue, workers: Workers, tmp_path: Path) -> None:
    workers.start("one")
    wait_for(lambda: queue.workers())
    queue.pause(True)
    (number,) = queue.add([job(tmp_path, ONCE)])
    (started,) = queue.machines()
    wait_for(lambda: queue.machines()[0].beat > started.beat)
    assert queue.job(number).state is READY
    queue.pause(False)
    is_in(queue, number, DONE)


def test_a_worker_leaves_a_job_of_a_newer_seqsup_alone_and_says_so_once(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    order = Order(folder=str(tmp_path), command=("sh", "-c", ONCE), schema=99)
    newer, usual = queue.add([NewJob(name="newer", order=order, priority=9), job(tmp_path, ONCE)])
    worker = workers.start("one", "2", "--until-empty")
    assert worker.wait(60) == 0
    assert queue.job(usual).state is DONE
    assert queue.job(newer).state is READY
    assert workers.log("one").read_text().count("newer seqsup: upgrade") == 1


def test_output_of_another_machine_can_be_read_while_the_job_runs(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    workers.start("one")
    (number,) = queue.add([job(tmp_path, "echo hello; while [ ! -e go ]; do sleep 0.1; done; seq 400000")])
    wait_for(lambda: queue.output(number) == b"==> sh/1 stdout <==\nhello\n")
    (tmp_path / "go").touch()
    is_in(queue, number, DONE)
    kept = queue.output(number)
    assert kept.endswith(b"\n400000\n")
    assert len(kept) == 1024 * 1024


def test_a_stopping_worker_gives_its_unfinished_job_to_the_next(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start("one")
    (number,) = queue.add([job(tmp_path, LONG)])
    wait_for(lambda: lines(tmp_path / "log"))
    (tmp_path / "go").touch()
    first.send_signal(signal.SIGTERM)
    wait_for(lambda: queue.machines() and queue.machines()[0].name == "one")
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert queue.job(number).state is READY
    assert queue.machines() == []
    workers.start("two")
    done = is_in(queue, number, DONE)
    assert (done.worker, done.lost) == ("two", 0)


def test_a_second_worker_of_a_name_is_refused(queue: FleetQueue, workers: Workers, tmp_path: Path) -> None:
    workers.start("one")
    wait_for(lambda: queue.workers())
    second = Workers(workers.url, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    try:
        assert second.start("one").wait(60) == 1
        assert "choose another --name" in second.log("one").read_text()
    finally:
        second.close()
