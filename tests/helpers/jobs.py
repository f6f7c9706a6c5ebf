"""Jobs of the embedded queue of a test, and what became of their runs."""

import os
from contextlib import closing
from pathlib import Path

from helpers.crashes import bodies
from seqsup.model.events import AnyEvent
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import CommandOptions, Job, NewJob, Order
from seqsup.state.journal import Journal, RunRow
from seqsup.state.journal_schema import NoJournal
from seqsup.state.run_folder import run_folder


def state() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"])


def order_of(profile: Path, *, task: str = "", only: tuple[str, ...] = ()) -> Order:
    return Order(folder=str(profile.parent), profile=profile.read_text(), path=str(profile), task=task, only=only)


def add(profile: Path, **keys: object) -> int:
    """Queue a profile and return the number of the job. `keys` are fields of NewJob."""
    return put(NewJob(name=profile.stem, order=order_of(profile), **keys))  # type: ignore[arg-type]


def add_command(folder: Path, *command: str, **options: object) -> int:
    order = Order(folder=str(folder), command=command, options=CommandOptions(**options))  # type: ignore[arg-type]
    return put(NewJob(name=command[0], order=order))


def put(new: NewJob) -> int:
    with closing(EmbeddedQueue(state())) as queue:
        (number,) = queue.add([new])
    return number


def job(number: int) -> Job:
    with closing(EmbeddedQueue(state())) as queue:
        return queue.job(number)


def rows() -> list[RunRow]:
    try:
        with closing(Journal.open(state())) as journal:
            return journal.runs()
    except NoJournal:
        return []


def events(run: int) -> list[AnyEvent]:
    with closing(Journal.open(state())) as journal:
        return bodies(journal.events(run))


def supervisor(name: str) -> int | None:
    """Return the pid of the last supervisor of the last run of this name; None before its first event."""
    row = next((row for row in reversed(rows()) if row.name == name), None)
    return row.pid if row is not None and (run_folder(state(), row.run) / "members").exists() else None
