"""The result of one check."""

from enum import StrEnum

from msgspec import Struct


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


class Finding(Struct, frozen=True):
    level: Level
    what: str
    finding: str
    remedy: str = ""
    notes: tuple[str, ...] = ()
