"""What can be wrong with a server: each gets one clear error with a remedy, and no password is shown."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from helpers.fleet import network
from helpers.postgres import Server, free_port
from helpers.queues import Hands, new, serve
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.fleet_schema import FORMAT, ROLE
from seqsup.queue.store import QueueError

SECRET = "s3cret-w0rd"


def refused(url: str) -> str:
    with pytest.raises(QueueError) as error:
        FleetQueue(url)
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def locked(postgres: Server) -> None:
    postgres.run(
        "DO $$ BEGIN CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE ciphered LOGIN; CREATE ROLE stranger LOGIN;"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )


def test_unreachable_server_is_named(tmp_path: Path) -> None:
    said = refused(f"postgresql://ann:{SECRET}@127.0.0.1:{free_port()}/jobs")
    assert "cannot be reached" in said
    assert "Connection refused" in said


def test_unknown_host_is_named() -> None:
    assert "host of the address" in refused(f"postgresql://ann:{SECRET}@no-such-host.invalid/jobs")


def test_address_that_cannot_be_read_is_not_repeated() -> None:
    assert "expected postgresql://" in refused(f"postgresql://ann:{SECRET}@host/jobs?nonsense=1")


def test_unknown_database_is_named(postgres: Server) -> None:
    assert '"nowhere" does not exist' in refused(postgres.url("nowhere"))


@pytest.mark.usefixtures("locked")
def test_wrong_password_is_named_and_not_shown(fleet: str) -> None:
    said = refused(fleet.replace("postgres@", f"locked:{SECRET}@"))
    assert "password authentication failed" in said
    assert "~/.pgpass" in said


@pytest.mark.usefixtures("locked")
def test_missing_password_is_named(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert "~/.pgpass" in refused(fleet.replace("postgres@", "locked@"))


@pytest.mark.usefixtures("locked")
def test_server_that_wants_tls_is_named(fleet: str) -> None:
    assert "sslmode=verify-full" in refused(fleet.replace("postgres@", "ciphered@") + "?sslmode=disable")


def test_server_without_tls_is_named(fleet: str) -> None:
    assert "has no TLS" in refused(fleet + "?sslmode=require")


def test_database_without_a_queue_asks_for_init(postgres: Server) -> None:
    with postgres.database() as name:
        assert "seqsup queue init" in refused(postgres.url(name))


@pytest.mark.parametrize(("found", "remedy"), [(FORMAT + 1, "upgrade seqsup"), (FORMAT - 1, "seqsup queue init")])
def test_queue_of_another_version_is_refused(fleet: str, found: int, remedy: str) -> None:
    with psycopg.connect(fleet) as connection:
        connection.execute("UPDATE seqsup_queue SET format = %s", (found,))
    assert remedy in refused(fleet)


def test_init_can_be_repeated_and_keeps_jobs_and_settings(fleet: str) -> None:
    queue = FleetQueue(fleet)
    (number,) = queue.add([new("kept")])
    FleetQueue.init(fleet, lease=7, ride_out=True)
    FleetQueue.init(fleet)
    with psycopg.connect(fleet) as connection:
        assert connection.execute("SELECT lease, ride_out FROM seqsup_queue").fetchall() == [(7, True)]
    assert queue.job(number).name == "kept"
    queue.close()


def test_init_refuses_a_newer_queue_and_changes_nothing(fleet: str) -> None:
    with psycopg.connect(fleet) as connection:
        connection.execute("UPDATE seqsup_queue SET format = 99")
    with pytest.raises(QueueError, match="newer seqsup"):
        FleetQueue.init(fleet, lease=7)
    with psycopg.connect(fleet) as connection:
        assert connection.execute("SELECT format, lease FROM seqsup_queue").fetchall() == [(99, 3)]


def test_init_is_all_or_nothing(postgres: Server) -> None:
    with postgres.database() as name:
        postgres.run("CREATE TABLE seqsup_jobs (other integer)", name)  # is in the way
        with pytest.raises(QueueError):
            FleetQueue.init(postgres.url(name))
        left = postgres.run("SELECT to_regclass('seqsup_queue'), to_regclass('procrastinate_jobs')", name)
        assert left == [(None, None)]


def test_init_says_how_to_upgrade_tables_of_an_older_procrastinate(postgres: Server) -> None:
    with postgres.database() as name:
        FleetQueue.init(postgres.url(name))
        postgres.run("DROP FUNCTION procrastinate_fetch_job_v2", name)
        with pytest.raises(QueueError, match="procrastinate schema --migrations-path"):
            FleetQueue.init(postgres.url(name))


def printed_role(fleet: str) -> str:
    return FleetQueue.init(fleet)


def test_printed_role_can_do_all_that_users_and_workers_do(fleet: str, postgres: Server) -> None:
    role = f"role_{fleet.rpartition('/')[2]}"
    grants = printed_role(fleet).replace("'choose one'", "'right'").replace("seqsup LOGIN", f"{role} LOGIN")
    grants = grants.replace("TO seqsup;", f"TO {role};")
    postgres.run(grants, fleet.rpartition("/")[2])
    try:
        queue = FleetQueue(fleet.replace("postgres@", f"{role}@"))
        good, bad, dropped = queue.add([new("good"), new("bad"), new("dropped")])
        queue.add([new("after", after=(good,))])
        queue.pause(True)
        queue.pause(False)
        queue.first(bad)
        queue.drop(dropped)
        asyncio.run(serve(queue, Hands({"bad": 1})))
        queue.retry(bad)
        asyncio.run(serve(queue, Hands()))
        assert [queue.job(number).state for number in (good, bad, dropped)] == ["done", "done", "cancelled"]
        assert queue.output(good) == b""
        assert queue.machines() == []
        with pytest.raises(QueueError, match="may not use"):
            FleetQueue.init(fleet.replace("postgres@", f"{role}@"))
        queue.close()
    finally:
        postgres.run(f"DROP OWNED BY {role}; DROP ROLE {role}", fleet.rpartition("/")[2])


@pytest.mark.usefixtures("locked")
def test_role_without_rights_is_told_what_to_grant(fleet: str) -> None:
    said = refused(fleet.replace("postgres@", "stranger@"))
    assert "stranger" in said
    assert "seqsup queue init prints" in said


CALLS: list[Callable[[FleetQueue], object]] = [
    lambda queue: queue.add([new()]), lambda queue: queue.jobs(), lambda queue: queue.job(1), FleetQueue.counts,
    FleetQueue.paused, FleetQueue.machines,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_server_that_does_not_answer_is_given_up(fleet: str, postgres: Server, call: Callable[..., object]) -> None:
    with network(postgres.port) as between:
        queue = FleetQueue(fleet.replace(str(postgres.port), str(between.port)))
        between.cut()
        with pytest.raises(QueueError, match="cannot be reached"):
            call(queue)
        between.mend()
        queue.close()


def test_add_whose_answer_was_lost_adds_once(fleet: str, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FleetQueue(fleet)
    add, calls = queue._add, []

    def lost(*given: object) -> object:
        numbers = add(*given)  # type: ignore[arg-type]
        calls.append(numbers)
        raise queue._address.explained(psycopg.OperationalError("server closed the connection unexpectedly"))

    monkeypatch.setattr(queue, "_add", lost)
    assert queue.add([new("a"), new("b")]) == calls[0]
    assert [job.name for job in queue.jobs()] == ["a", "b"]
    queue.close()


def test_role_has_no_right_to_change_tables() -> None:
    assert "CREATE ON" not in ROLE
    assert "ALL PRIVILEGES" not in ROLE
