"""Jobs that wait for a machine: what they are, where they are kept, and how workers take them."""

from seqsup.queue.address import open_queue

__all__ = ["open_queue"]
