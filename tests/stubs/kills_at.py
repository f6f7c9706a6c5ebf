"""seqsup itself; at its N-th write to the journal a process beside it is killed, if there is one: N KIND ARGS…"""

import itertools
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from seqsup.cli import app
from seqsup.model.events import AnyEvent, Recorded
from seqsup.state.journal import Journal

number, target = int(sys.argv[1]), sys.argv[2]
MARKS = {"agent": b"SEQSUP_ATTEMPT=1\0", "hook": b"SEQSUP_HOOK=", "companion": b"SEQSUP_TREE=@companions"}
writes = itertools.count(1)
append = Journal.append


def victims() -> list[int]:
    """Those below us with that mark; of a companion also the keeper, which is the first of them."""
    found, todo = [], [os.getpid()]
    while todo:
        children = Path(f"/proc/{todo[0]}/task/{todo.pop(0)}/children").read_text().split()
        for pid in map(int, children):
            with suppress(OSError):
                keeps = b"keep.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
                marked = MARKS[target.removesuffix("-keeper")] in Path(f"/proc/{pid}/environ").read_bytes()
                found += [pid] if marked and keeps is target.endswith("-keeper") else []
                todo.append(pid)
    return found


def killing(journal: Journal, run: int, event: AnyEvent) -> Recorded:
    recorded = append(journal, run, event)
    if next(writes) == number:
        with suppress(OSError):
            for pid in victims():
                os.kill(pid, signal.SIGKILL)
    return recorded


Journal.append = killing  # type: ignore[assignment, method-assign]
sys.exit(app.main(sys.argv[3:]))
