"""seqsup itself, killed at its N-th write to the journal, right `before` or right `after` it: N SIDE ARGS…"""

import itertools
import os
import signal
import sys

from seqsup.cli import app
from seqsup.model.events import AnyEvent, Recorded
from seqsup.state.journal import Journal

number, side = int(sys.argv[1]), sys.argv[2]
assert side in ("before", "after")
writes = itertools.count(1)
append = Journal.append


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(journal: Journal, run: int, event: AnyEvent) -> Recorded:
    due = next(writes) == number
    if due and side == "before":
        die()
    recorded = append(journal, run, event)
    if due:
        die()
    return recorded


Journal.append = dying  # type: ignore[assignment, method-assign]
sys.exit(app.main(sys.argv[3:]))
