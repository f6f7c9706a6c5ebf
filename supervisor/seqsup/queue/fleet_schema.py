"""The tables of a fleet's queue: they are created, brought up to date, and checked."""

from importlib.resources import files
from typing import Any

import psycopg
from procrastinate.schema import SchemaManager

from seqsup.queue.fleet_link import Address, Link
from seqsup.queue.jobs import MAX_LOST
from seqsup.queue.store import QueueError

FORMAT = 1
_PATIENCE = 30.0  # seconds for what init does
_PROCRASTINATE = (  # functions of Procrastinate that this version calls
    "procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])",
    "procrastinate_fetch_job_v2(character varying[],bigint)",
    "procrastinate_finish_job_v1(bigint,procrastinate_job_status,boolean)",
    "procrastinate_register_worker_v1()",
    "procrastinate_unregister_worker_v1(bigint)",
    "procrastinate_prune_stalled_workers_v1(double precision)",
)
_TABLES = ("queue", "jobs", "job_needs", "workers", "output")
ROLE = """\
-- A role that can add jobs and carry them out, but not change tables. Its users can run commands on all workers.
CREATE ROLE seqsup LOGIN PASSWORD 'choose one';
GRANT USAGE ON SCHEMA {schema} TO seqsup;
GRANT SELECT ON {schema}.seqsup_queue TO seqsup;
GRANT UPDATE (paused) ON {schema}.seqsup_queue TO seqsup;
GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO seqsup;
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.procrastinate_jobs, {schema}.procrastinate_events,
    {schema}.procrastinate_workers, {schema}.procrastinate_periodic_defers TO seqsup;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO seqsup;
"""


def create(address: Address, *, lease: float | None, ride_out: bool | None) -> str:
    """Create the tables, or bring them up to date, all or nothing. Return the SQL of a role for workers and users."""
    link = Link(address)
    try:
        with link.transaction(_PATIENCE) as connection:
            connection.execute("SELECT set_config('statement_timeout', '30s', true)")
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('seqsup queue init'))")
            found = found_format(connection)
            _refuse_newer(address, found)
            if connection.execute("SELECT to_regclass('procrastinate_jobs') AS found").fetchall()[0]["found"] is None:
                connection.execute(SchemaManager.get_schema())
            _refuse_old_procrastinate(connection)
            connection.execute((files("seqsup.queue") / "fleet.sql").read_text())
            connection.execute(
                "INSERT INTO seqsup_queue (id, format, max_lost) VALUES (1, %(format)s, %(most)s)"
                " ON CONFLICT (id) DO UPDATE SET format = %(format)s, max_lost = %(most)s",
                {"format": FORMAT, "most": MAX_LOST},
            )
            connection.execute(
                "UPDATE seqsup_queue SET lease = coalesce(%(lease)s, lease), ride_out = coalesce(%(ride)s, ride_out)",
                {"lease": lease, "ride": ride_out},
            )
            schema = str(connection.execute("SELECT current_schema() AS name").fetchall()[0]["name"])
    finally:
        link.close()
    tables = ", ".join(f"{schema}.seqsup_{table}" for table in _TABLES[1:])
    return ROLE.format(schema=schema, tables=tables)


def check(link: Link) -> None:
    """QueueError: there is no queue, or it is not one of this version."""
    with link.transaction() as connection:
        found = found_format(connection)
    if found is None:
        raise QueueError(
            f"{link.address.shown} has no queue yet: create it with seqsup queue init --queue {link.address.shown}"
        )
    _refuse_newer(link.address, found)
    if found < FORMAT:
        raise QueueError(
            f"the queue {link.address.shown} was made by an older seqsup (format {found}, this one needs {FORMAT}):"
            " run seqsup queue init"
        )


def found_format(connection: "psycopg.Connection[dict[str, Any]]") -> int | None:
    """Return the format of the tables; None: there are none."""
    if connection.execute("SELECT to_regclass('seqsup_queue') AS found").fetchall()[0]["found"] is None:
        return None
    rows = connection.execute("SELECT format FROM seqsup_queue").fetchall()
    return int(rows[0]["format"]) if rows else None


def _refuse_newer(address: Address, found: int | None) -> None:
    if found is not None and found > FORMAT:
        raise QueueError(
            f"the queue {address.shown} was made by a newer seqsup (format {found}, this one knows {FORMAT}):"
            " upgrade seqsup on this machine"
        )


def _refuse_old_procrastinate(connection: "psycopg.Connection[dict[str, Any]]") -> None:
    for function in _PROCRASTINATE:
        if connection.execute("SELECT to_regprocedure(%s) AS found", (function,)).fetchall()[0]["found"] is None:
            raise QueueError(
                f"the tables of Procrastinate in this database are too old: {function} is missing. Apply the migrations"
                " that `procrastinate schema --migrations-path` shows, then run seqsup queue init again; or use"
                " another database"
            )
