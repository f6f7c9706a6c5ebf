"""Until when the jobs of a fleet's worker may run. Their processes read it, also if the worker is killed or frozen.

So a job has ended on this machine before another machine gets it.
"""

from math import inf
from pathlib import Path

from seqsup.host.files import replace
from seqsup.model.enums import Halt
from seqsup.queue.held import Contact, boot_seconds

_KILL = 0.8  # of a lease without an answer; at Contact.patience() the jobs are stopped


def extend(file: Path, contact: Contact) -> None:
    """Let the jobs run as long as the last answer of the server allows. OSError: the disk refuses."""
    answered = contact.now() - contact.silence()
    until = (inf, inf) if contact.ride_out else (answered + contact.patience(), answered + contact.lease * _KILL)
    replace(file, "{} {}\n".format(*until).encode(), mode=0o600)


def demanded(file: Path) -> Halt:
    """Return how soon the jobs must end. Without the file they may run."""
    try:
        stop, kill = map(float, file.read_text().split())
    except (OSError, ValueError):
        return Halt.NONE
    now = boot_seconds()
    return Halt.KILL if now > kill else Halt.NOW if now > stop else Halt.NONE
