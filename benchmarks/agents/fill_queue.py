"""Add so many /bin/true jobs to the embedded queue, then take some, and print the milliseconds of each take."""

import sys
import time

from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import NewJob, Order
from seqsup.state.run_folder import state_dir

number, takes = map(int, sys.argv[1:])
queue = EmbeddedQueue(state_dir())
order = Order(folder="/", command=("/bin/true",))
queue.add([NewJob(name="true", order=order)] * number)
for _ in range(takes):
    began = time.perf_counter()
    queue.take("worker")
    print((time.perf_counter() - began) * 1000)
