"""The rules for the adapter to Procrastinate: each was a failure in a trial."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from helpers.fleet import Workers, is_in, job, lines
from helpers.postgres import Server
from helpers.queues import new
from helpers.waiting import wait_for
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.jobs import JobState

DONE, READY, RUNNING = JobState.DONE, JobState.READY, JobState.RUNNING
ENTER = "SELECT seqsup_enter('{0}', 'place of {0}', '{0}', '{0}', 1, 1, '1', 1, 1)"


@pytest.fixture
def queue(fleet: str) -> Iterator[FleetQueue]:
    with closing(FleetQueue(fleet)) as queue:
        yield queue


@pytest.fixture
def sql(fleet: str) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(fleet, autocommit=True) as connection:
        yield connection


def fetch(sql: "psycopg.Connection[Any]", worker: str, number: int) -> int:
    """Be a worker that fetches and claims a job; return its token."""
    sql.execute(ENTER.format(worker))
    (token,) = fetched(sql)
    row = sql.execute("SELECT seqsup_claim(%s, %s, %s, %s, true)", (number, token, worker, worker)).fetchone()
    assert row is not None
    assert row[0]["number"] == number
    return token


def fetched(sql: "psycopg.Connection[Any]") -> tuple[int]:
    row = sql.execute(
        "SELECT id FROM procrastinate_register_worker_v1() AS w, procrastinate_fetch_job_v2('{seqsup-1}', w.worker_id)"
    ).fetchone()
    assert row is not None
    return row  # type: ignore[no-any-return]


def lose(sql: "psycopg.Connection[Any]", worker: str) -> None:
    sql.execute("UPDATE seqsup_workers SET beat = now() - interval '1 hour' WHERE name = %s", (worker,))


def rescue(sql: "psycopg.Connection[Any]") -> dict[str, int]:
    row = sql.execute("SELECT seqsup_rescue()").fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def running_for(sql: "psycopg.Connection[Any]", seconds: float) -> None:
    wait_for(
        lambda: sql.execute(
            "SELECT now() - pg_postmaster_start_time() > make_interval(secs => %s)", (seconds,)
        ).fetchone()
        == (True,)
    )  # fmt: skip


def accept(sql: "psycopg.Connection[Any]", number: int, token: int, state: str = "done") -> bool:
    row = sql.execute("SELECT seqsup_accept(%s, %s, %s, 0, 'r1', '')", (number, token, state)).fetchone()
    assert row is not None
    return bool(row[0])


def test_late_finish_of_a_rescued_job_changes_nothing(queue: FleetQueue, sql: "psycopg.Connection[Any]") -> None:
    (number,) = queue.add([new()])
    old = fetch(sql, "one", number)
    running_for(sql, 3)
    lose(sql, "one")
    assert rescue(sql) == {"lost": 1, "rescued": 1, "given_up": 0}
    assert rescue(sql) == {"lost": 0, "rescued": 0, "given_up": 0}
    assert not accept(sql, number, old)
    with pytest.raises(psycopg.errors.RaiseException):  # Procrastinate's own finish, too
        sql.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", (old,))
    assert (queue.job(number).state, queue.job(number).lost) == (READY, 1)
    token = fetch(sql, "two", number)
    assert token != old
    assert accept(sql, number, token)
    assert not accept(sql, number, old)
    assert queue.job(number).state is DONE


def test_result_whose_answer_was_lost_is_accepted_once(queue: FleetQueue, sql: "psycopg.Connection[Any]") -> None:
    number, after = queue.add([new(), new(after=(-1,))])
    token = fetch(sql, "one", number)
    assert accept(sql, number, token)
    assert accept(sql, number, token)
    assert not accept(sql, number, token, "failed")
    assert queue.job(number).state is DONE
    assert queue.job(after).state is READY


def test_successor_of_two_jobs_that_end_at_once_is_released(queue: FleetQueue, sql: "psycopg.Connection[Any]") -> None:
    one, two, after = queue.add([new(), new(), new(after=(-1, -2))])
    tokens = [fetch(sql, "one", one), fetch(sql, "one", two)]
    with psycopg.connect(queue_url(sql)) as first, psycopg.connect(queue_url(sql)) as second:
        first.execute("SELECT seqsup_accept(%s, %s, 'done', 0, 'r1', '')", (one, tokens[0]))
        with psycopg.ClientCursor(second) as cursor:
            second.pgconn.send_query(
                cursor.mogrify("SELECT seqsup_accept(%s, %s, 'done', 0, 'r2', '')", (two, tokens[1])).encode()
            )
        wait_for(
            lambda: (
                sql.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() != (0,)
            )
        )
        first.commit()
        second.pgconn.get_result()
        while second.pgconn.get_result():
            pass
        second.commit()
    assert queue.job(after).state is READY


def queue_url(sql: "psycopg.Connection[Any]") -> str:
    info = sql.info
    return f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}"


def test_worker_settles_a_delivery_whose_answer_was_lost(
    queue: FleetQueue, workers: Workers, sql: "psycopg.Connection[Any]", tmp_path: Path
) -> None:
    (number,) = queue.add([job(tmp_path, 'echo "$WORKER" >> log')])
    fetched(sql)  # by a worker that never claims it
    workers.start("one")
    is_in(queue, number, DONE)
    assert lines(tmp_path / "log") == ["one"]


def test_rescue_needs_no_free_slot(queue: FleetQueue, workers: Workers, tmp_path: Path) -> None:
    first = workers.start("one")
    script = 'echo "$WORKER" >> log; while [ ! -e go ]; do sleep 0.1; done'
    (number,) = queue.add([job(tmp_path, script)])
    wait_for(lambda: lines(tmp_path / "log") == ["one"])
    workers.start("two")
    (other,) = queue.add([job(tmp_path, script)])
    wait_for(lambda: lines(tmp_path / "log") == ["one", "two"])
    workers.kill(first)
    is_in(queue, number, READY)
    assert queue.job(other).state is RUNNING
    (tmp_path / "go").touch()
    is_in(queue, number, DONE)


def test_no_job_is_rescued_within_a_lease_of_the_servers_start(
    queue: FleetQueue, sql: "psycopg.Connection[Any]", postgres: Server, fleet: str
) -> None:
    FleetQueue.init(fleet, lease=4)
    (number,) = queue.add([new()])
    fetch(sql, "one", number)
    lose(sql, "one")
    postgres.stop()
    postgres.start()
    with psycopg.connect(fleet, autocommit=True) as again:
        assert rescue(again) == {"lost": 0, "rescued": 0, "given_up": 0}
        assert queue.job(number).state is RUNNING
        running_for(again, 4)
        assert rescue(again)["rescued"] == 1


def test_two_rescues_at_once_rescue_once(queue: FleetQueue, sql: "psycopg.Connection[Any]", fleet: str) -> None:
    (number,) = queue.add([new()])
    fetch(sql, "one", number)
    running_for(sql, 3)
    lose(sql, "one")
    with psycopg.connect(fleet) as other:
        assert rescue(other)["rescued"] == 1  # not committed yet
        assert rescue(sql)["rescued"] == 0
    assert queue.job(number).lost == 1


def test_rescued_job_goes_to_the_head_of_its_priority(queue: FleetQueue, sql: "psycopg.Connection[Any]") -> None:
    first, older, higher = queue.add([new("first"), new("older"), new("higher")])
    fetch(sql, "one", first)
    (late,) = queue.add([new("late", priority=5)])
    queue.first(higher)
    running_for(sql, 3)
    lose(sql, "one")
    rescue(sql)
    assert [each.number for each in queue.jobs()] == [late, first, higher, older]


def test_engine_retries_nothing_and_has_json_only(queue: FleetQueue, sql: "psycopg.Connection[Any]") -> None:
    numbers = queue.add([new(), new(priority=-100), new(priority=100)])
    rows = sql.execute("SELECT args, attempts, task_name FROM procrastinate_jobs ORDER BY id").fetchall()
    assert [json.loads(json.dumps(args)) for args, _, _ in rows] == [{"number": number} for number in numbers]
    assert {(attempts, name) for _, attempts, name in rows} == {(0, "seqsup")}


def test_deliveries_of_jobs_that_are_over_are_gone(
    queue: FleetQueue, workers: Workers, sql: "psycopg.Connection[Any]", tmp_path: Path
) -> None:
    queue.add([job(tmp_path, "exit 0"), job(tmp_path, "exit 1"), job(tmp_path, "kill -9 $$")])
    assert workers.start("one", "2", "--until-empty").wait(60) == 0
    assert sql.execute("SELECT count(*) FROM procrastinate_jobs").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM procrastinate_workers").fetchone() == (0,)


def test_retries_of_a_job_with_the_lost_are_written_through(
    queue: FleetQueue, workers: Workers, tmp_path: Path
) -> None:
    (number,) = queue.add([job(tmp_path, 'echo "$LOST" >> log; [ "$LOST" = 2 ] || exit 77')])
    workers.start("one")
    is_in(queue, number, DONE)
    assert lines(tmp_path / "log") == ["0", "1", "2"]
