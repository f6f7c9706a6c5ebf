"""Adds chains of three jobs to the queue, and writes the numbers of each accepted chain to a file: NAME CHAINS FILE"""

import os
import sys
from pathlib import Path

from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import NewJob, Order

name, chains, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
queue = EmbeddedQueue(Path(os.environ["SEQSUP_STATE_DIR"]))
order = Order(folder="/", command=("true",))
with open(file, "a", buffering=1) as accepted:  # noqa: PTH123
    for chain in range(chains):
        jobs = [NewJob(name=f"{name}-{chain}", order=order, after=tuple(range(-part, 0))) for part in range(3)]
        print(*queue.add(jobs), file=accepted)
queue.close()
