"""The queue of several machines: jobs in PostgreSQL, and their deliveries to workers by Procrastinate.

What users see is in tables of our own; `fleet.sql` has them, with a function for each change. A job of Procrastinate
delivers a ready job to a worker, and its id fences the worker: a rescued job is a new delivery with a new id.
"""

import os
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from psycopg import Connection

from seqsup.errors import SeqsupError
from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.model.enums import Halt
from seqsup.queue import worker_folder
from seqsup.queue.fleet_link import Address, AsyncLink, Link, Row, Unreachable
from seqsup.queue.fleet_schema import check, create
from seqsup.queue.held import MOST_OUTPUT
from seqsup.queue.jobs import Job, JobState, NewJob, encode, job_label
from seqsup.queue.order import needed_here, refuse_needed, why_waiting
from seqsup.queue.store import CarryOut, NoSuchJob, WorkerStop
from seqsup.state.run_folder import state_dir

_DUE = "(not_before IS NULL OR not_before <= extract(epoch FROM now()))"
_STATE = f"CASE WHEN state = 'ready' AND NOT {_DUE} THEN 'waiting' ELSE state END AS state"
_SHOWN = f"""
    number, name, {_STATE}, priority,
    extract(epoch FROM added)::float AS added, by_whom AS by, not_before, lost,
    stop > 0 AS stop_wanted, worker, run, state_dir, extract(epoch FROM started)::float AS started,
    extract(epoch FROM ended)::float AS ended, exit_code, why, note, cookie,
    ARRAY(SELECT needed FROM seqsup_job_needs WHERE job = number ORDER BY needed) AS after
"""
_LAST = 2**63 - 1  # the highest number that PostgreSQL has
_IN_TURN = "priority DESC, head DESC, number"


class Machine(Struct, frozen=True, kw_only=True):
    """A worker as the queue knows it."""

    name: str
    host: str
    pid: int
    slots: int
    version: str
    memory: int
    available: int
    since: float
    beat: float  # when it was heard of last
    alive: bool
    drain: bool  # it takes nothing more
    jobs: tuple[int, ...]  # that it runs


class FleetQueue:
    """The jobs of a fleet. See `queue.store.Queue` for what the calls mean."""

    def __init__(self, address: str) -> None:
        """Connect to a queue."""
        self._address = Address(address)
        self.say: Callable[[str], None] = lambda _: None
        self.address = self._address.shown
        self.figures = WorkerFigures()
        self._link = Link(self._address)
        try:
            check(self._link)
        except BaseException:
            self._link.close()
            raise

    def close(self) -> None:
        self._link.close()

    @staticmethod
    def init(address: str, *, lease: float | None = None, ride_out: bool | None = None) -> str:
        """Create the tables, or bring them up to date; return the SQL of a role. None keeps what is set."""
        return create(Address(address), lease=lease, ride_out=ride_out)

    # -- what anyone may ask for

    def add(self, jobs: Sequence[NewJob]) -> list[int]:
        cookies = [os.urandom(16).hex() for _ in jobs]
        try:
            return self._add(jobs, cookies)
        except Unreachable:
            found = self._link.rows(
                "SELECT number FROM seqsup_jobs WHERE cookie = ANY (%(cookies)s) ORDER BY number", {"cookies": cookies}
            )
            return [row["number"] for row in found] if found else self._add(jobs, cookies)

    def _add(self, jobs: Sequence[NewJob], cookies: Sequence[str]) -> list[int]:
        for place, job in enumerate(jobs):
            needed_here(job.after, range(place))
        known = sorted({each for job in jobs for each in job.after if each >= 0})
        with self._link.transaction() as connection:
            # None of them can end until this one is committed.
            rows = connection.execute(
                "SELECT number, state FROM seqsup_jobs WHERE number = ANY (%s) ORDER BY number FOR SHARE",
                ([each for each in known if each <= _LAST],),
            ).fetchall()
            states = {row["number"]: JobState(row["state"]) for row in rows}
            refuse_needed({each: states.get(each) for each in known})
            sequence = "pg_get_serial_sequence('seqsup_jobs', 'number')"
            numbers: list[int] = [
                row["number"]
                for row in connection.execute(
                    f"SELECT nextval({sequence}) AS number FROM generate_series(1, %s)", (len(jobs),)
                ).fetchall()
            ]
            values, needs = [], []
            for job, number, cookie in zip(jobs, numbers, cookies, strict=True):
                after = needed_here(job.after, numbers)
                unmet = sum(states.get(each) is not JobState.DONE for each in after)
                state = JobState.WAITING if unmet else JobState.READY
                values.append(
                    (number, job.name, encode(job.order).decode(), job.order.schema, state, job.priority, unmet,
                     job.not_before, job.by, cookie)
                )  # fmt: skip
                needs += [(number, each) for each in after]
            cursor = connection.cursor()
            cursor.executemany(
                "INSERT INTO seqsup_jobs (number, name, body, schema, state, priority, unmet, not_before, by_whom,"
                " cookie) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                values,
            )
            cursor.executemany("INSERT INTO seqsup_job_needs VALUES (%s, %s)", needs)
            connection.execute(
                "SELECT seqsup_deliver(number) FROM seqsup_jobs WHERE number = ANY (%s) AND state = 'ready'"
                " ORDER BY number",
                (numbers,),
            )
        return numbers

    def job(self, number: int) -> Job:
        with self._link.transaction() as connection:
            found = _read(connection, "WHERE number = %(number)s", {"number": max(min(number, _LAST), 0)})
        if not found:
            last = self._link.rows("SELECT max(number) AS last FROM seqsup_jobs")[0]["last"]
            known = f"its last one is {job_label(last)}" if last else "it is empty"
            raise NoSuchJob(f"the queue has no job {job_label(number)}: {known}; `seqsup queue` lists all jobs")
        return found[0]

    def jobs(self, *, over: int = 20, waiting: int = 50) -> list[Job]:
        found: list[Job] = []
        with self._link.transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # each job once
            for which, order, most in (
                ("state = 'running'", "started, number", _LAST),
                (f"state = 'ready' AND {_DUE}", _IN_TURN, waiting),
                (f"(state = 'waiting' OR state = 'ready' AND NOT {_DUE})", _IN_TURN, waiting),
                ("ended IS NOT NULL", "ended DESC, number DESC", over),
            ):
                if which.startswith("("):
                    most = waiting - sum(job.state is JobState.READY for job in found)
                found += _read(connection, f"WHERE {which} ORDER BY {order} LIMIT %(most)s", {"most": max(most, 0)})
        return found

    def counts(self) -> dict[JobState, int]:
        rows = self._link.rows(f"SELECT {_STATE}, count(*) AS number FROM seqsup_jobs GROUP BY 1")
        found = {row["state"]: int(row["number"]) for row in rows}
        return {state: found.get(state, 0) for state in JobState}

    def oldest_wait(self) -> float:
        (row,) = self._link.rows(
            "SELECT extract(epoch FROM now() - min(greatest(added, retried, to_timestamp(not_before))))::float"
            f" AS waited FROM seqsup_jobs WHERE state = 'ready' AND {_DUE}"
        )
        return max(float(row["waited"] or 0), 0.0)

    def workers(self) -> list[str]:
        return [machine.name for machine in self.machines() if machine.alive]

    def drop(self, number: int, *, now: bool = False) -> Job:
        job = self.job(number)
        if job.state.over:
            raise SeqsupError(f"job {job.label} is over: it is {job.state}")
        return self._change(number, "seqsup_drop(%(number)s, %(halt)s)", halt=Halt.NOW if now else Halt.AFTER_AGENT)

    def first(self, number: int) -> Job:
        job = self.job(number)
        if job.state not in (JobState.WAITING, JobState.READY):
            raise SeqsupError(f"job {job.label} is {job.state}: only a job that has not started can be moved")
        return self._change(number, "seqsup_first(%(number)s)")

    def retry(self, number: int) -> Job:
        job = self.job(number)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise SeqsupError(f"job {job.label} is {job.state}: only a failed or cancelled one can be retried")
        return self._change(number, "seqsup_retry(%(number)s)")

    def _change(self, number: int, call: str, **values: object) -> Job:
        self._link.rows(f"SELECT {call}", {"number": number, **values})
        return self.job(number)

    def pause(self, paused: bool) -> None:
        self._link.rows("UPDATE seqsup_queue SET paused = %(paused)s", {"paused": paused})
        self._link.rows("SELECT pg_notify('seqsup', 'look')")

    def paused(self) -> bool:
        return bool(self._link.rows("SELECT paused FROM seqsup_queue")[0]["paused"])

    # -- what only a fleet has

    def machines(self) -> list[Machine]:
        """Return the workers of the last seven days, but for those that ended by themselves."""
        rows = self._link.rows(
            "SELECT name, host, pid, slots, version, memory, available, extract(epoch FROM since)::float AS since,"
            " extract(epoch FROM beat)::float AS beat, lost IS NULL AND beat > now() - make_interval(secs => lease)"
            " AS alive, drain, ARRAY(SELECT number FROM seqsup_jobs WHERE worker = w.name AND state = 'running'"
            " ORDER BY number) AS jobs FROM seqsup_workers w, seqsup_queue ORDER BY name"
        )
        return [msgspec.convert(row, Machine) for row in rows]

    def drain(self, host: str) -> list[str]:
        """Have the workers of a machine, or one worker, take no further job. Return their names."""
        rows: list[Row] = self._link.rows(
            "UPDATE seqsup_workers SET drain = true WHERE (name = %(host)s OR host = %(host)s) AND lost IS NULL"
            " RETURNING name",
            {"host": host},
        )
        if not rows:
            known = ", ".join(machine.name for machine in self.machines() if machine.alive) or "none"
            raise SeqsupError(f"no worker has the name or the machine {host}; alive: {known}")
        self._link.rows("SELECT pg_notify('seqsup', 'look')")
        return sorted(row["name"] for row in rows)

    def output(self, number: int) -> bytes:
        """Return the end of what a job printed, 1 MiB at most."""
        rows = self._link.rows(
            "SELECT chunk FROM seqsup_output WHERE job = %(number)s ORDER BY number", {"number": number}
        )
        return b"".join(bytes(row["chunk"]) for row in rows)[-MOST_OUTPUT:]

    async def serve(
        self, worker: str, carry_out: CarryOut, *, slots: int, until_empty: bool, open_now: Callable[[], bool],
        stop: WorkerStop,
    ) -> None:  # fmt: skip
        from seqsup.queue.fleet_worker import CHANNELS, FleetWorker
        from seqsup.queue.heartbeat import Heartbeat

        folder = state_dir() / "fleet"
        lock = worker_folder.enter(folder, worker)
        try:
            link = AsyncLink(self._address, CHANNELS if until_empty else CHANNELS[:1])
            heartbeat = Heartbeat(link, worker, stop, self.figures, self.say, worker_folder.lease_file(folder, worker))
            await FleetWorker(link, heartbeat, carry_out, open_now, stop, until_empty=until_empty).serve(slots)
        finally:
            os.close(lock)


def _read(connection: Connection[Row], which: str, values: Mapping[str, object]) -> list[Job]:
    rows = connection.execute(f"SELECT {_SHOWN} FROM seqsup_jobs {which}", values).fetchall()
    jobs = [msgspec.convert(row, Job) for row in rows]
    needed = sorted({each for job in jobs if job.state is JobState.WAITING for each in job.after})
    if not needed:
        return jobs
    found = connection.execute("SELECT number, state FROM seqsup_jobs WHERE number = ANY (%s)", (needed,)).fetchall()
    states = {row["number"]: JobState(row["state"]) for row in found}
    return [
        replace(job, why=why_waiting(job, states)) if job.state is JobState.WAITING and job.after else job
        for job in jobs
    ]
