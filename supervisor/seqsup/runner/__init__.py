"""Carrying a plan out: the agents of a run in order, what runs beside them, and recovery."""

from seqsup.host import slim_asyncio as slim_asyncio  # before any module here imports asyncio
from seqsup.host import slim_hashlib as slim_hashlib
