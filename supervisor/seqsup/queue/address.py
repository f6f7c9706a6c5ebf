"""Which queue is meant: the embedded one of this machine, or one on PostgreSQL for several machines."""

import os
import re
from typing import TYPE_CHECKING

from seqsup.errors import SeqsupError
from seqsup.queue.store import Queue, QueueError
from seqsup.units import show

if TYPE_CHECKING:  # most users have no server, nor its libraries
    from seqsup.queue.fleet import FleetQueue

EMBEDDED = "embedded"
HERE = "this machine"  # the embedded queue, for people
VARIABLE = "SEQSUP_QUEUE"
FORMS = f'"postgresql://USER@HOST/DATABASE", or "{EMBEDDED}" for that of this machine'
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?")
_OURS = ("postgresql", "postgres")
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):.*@|((?:ssl)?password=)[^&\s]*", re.DOTALL)
_EXTRA = "pip install 'seqsup[fleet]'"


def selected(given: str | None = None) -> str:
    """Return the address of the queue: the given one, that of SEQSUP_QUEUE, or that of the user's config.toml.

    SeqsupError says which of them is wrong, and what to write instead. Of a password no message shows anything.
    """
    for name, value in (("--queue", given), (VARIABLE, os.environ.get(VARIABLE))):
        if value:
            try:
                return parse(value)
            except ValueError as error:
                raise SeqsupError(f"{name}: {error}".replace("\n", ": ")) from None
    from seqsup.queue.config import configured  # most users have no such file

    return configured() or EMBEDDED


def parse(value: str) -> str:
    """Return an address as it is used. ValueError says what is wrong; what follows a line break is the remedy."""
    if value == EMBEDDED:
        return EMBEDDED
    scheme = _SCHEME.match(value)
    if scheme is None or not value.isprintable() or " " in value:
        raise ValueError(f"expected {FORMS}, not {show(shown(value))}")
    if scheme[1].lower() not in _OURS:
        raise ValueError(f"a queue is in PostgreSQL, not in {scheme[1]}\nwrite {FORMS}")
    rest = value[scheme.end() :]
    if not scheme[0].endswith("//") or not rest.strip("/"):
        raise ValueError(f"{show(shown(value))} names no server\nwrite {FORMS}")
    port = re.search(r":([^:/@?\]]*)$", re.split(r"[/?]", rest.rpartition("@")[2])[0])
    if port is not None and not (port[1].isascii() and port[1].isdigit() and 0 < int(port[1]) < 65536):
        raise ValueError(f"{show(port[1])} is no port: expected a number from 1 to 65535")
    return value


def shown(url: str) -> str:
    """Return an address for people: without its password."""
    return _PASSWORD.sub(lambda found: f"{found[2]}…" if found[2] else f"{found[1]}:…@", url)


def open_queue(url: str | None = None) -> Queue:
    """Open the queue of an address, or the selected one. QueueError: it cannot be used."""
    address = selected(url)
    if address == EMBEDDED:
        from seqsup.queue.embedded import EmbeddedQueue
        from seqsup.state.run_folder import state_dir

        return EmbeddedQueue(state_dir())
    return fleet_queue(address)(address)


def fleet_queue(address: str) -> "type[FleetQueue]":
    """Return the class of queues on PostgreSQL. QueueError: its libraries are not installed."""
    try:
        from seqsup.queue.fleet import FleetQueue
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("seqsup"):
            raise
        lacking = f"{error.name} is not installed; a queue for several machines needs it: {_EXTRA}"
        raise QueueError(f"{shown(address)}: {lacking}") from None
    return FleetQueue
