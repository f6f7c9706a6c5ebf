"""seqsup itself; from its N-th write to the journal on another program keeps that locked, until it ends: N ARGS…"""

import itertools
import sqlite3
import sys

from seqsup.cli import app
from seqsup.model.events import AnyEvent, Recorded
from seqsup.state import journal as module
from seqsup.state import journal_schema
from seqsup.state.journal import Journal

number = int(sys.argv[1])
writes = itertools.count(1)
append = Journal.append
module.PATIENCE = journal_schema.PATIENCE = 0.3  # type: ignore[attr-defined]
lock: list[sqlite3.Connection] = []


def locking(journal: Journal, run: int, event: AnyEvent) -> Recorded:
    if next(writes) == number:
        lock.append(sqlite3.connect(journal._path, isolation_level=None))
        lock[0].execute("BEGIN IMMEDIATE")
    return append(journal, run, event)


Journal.append = locking  # type: ignore[assignment, method-assign]
sys.exit(app.main(sys.argv[2:]))
