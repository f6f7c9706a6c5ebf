"""A run that has its number, folder and lock."""

from pathlib import Path

from msgspec import Struct


class BegunRun(Struct, frozen=True, kw_only=True):
    number: int
    cookie: str  # the mark in the environment of all its processes
    folder: Path
    lock: int  # descriptor; while it is open, others know that the run's supervisor lives
    continues: bool  # there are events of its earlier parts
    waited: float  # seconds until the machine's turn came
    shares: bool = False  # other runs may have the turn at the same time
