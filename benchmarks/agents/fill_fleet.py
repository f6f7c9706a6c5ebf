"""Add so many jobs of one command to the queue of a fleet."""

import sys

from seqsup.queue.fleet import FleetQueue
from seqsup.queue.jobs import NewJob, Order

url, number, *command = sys.argv[1:]
queue = FleetQueue(url)
queue.add([NewJob(name=command[0], order=Order(folder="/", command=tuple(command)))] * int(number))
queue.close()
