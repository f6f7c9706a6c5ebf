"""Add so many /bin/true jobs to the embedded queue, then take some, and print the milliseconds of each take."""

import sys
import time

from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import NewJob, Order
from seqsup.state.run_folder import state_dir

number, takes = map(int, sys.argv[1:])
queue = EmbeddedQueue(state_dir())
order = Order(folder="/", command=("/bin/true",))
queue.add([NewJob(name="true", order=order)] * number)
desk = Desk(state_dir(), QueueFile(state_dir()), "worker")
for _ in range(takes):
    began = time.perf_counter()
    desk.take()
    print((time.perf_counter() - began) * 1000)
