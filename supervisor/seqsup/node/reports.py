"""Diagnostic reports that Node writes on heap exhaustion, without the environment, which may hold keys.

Node before 22.13 puts the environment in. Heap snapshots are in the same folder.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Raw

from seqsup.units import MIB

REPORTS = "reports"  # in the attempt's folder
_LARGEST = 4 * MIB
_MOST = 20  # of an attempt; a program that writes more is not a Node that ran out of heap


def clean(folder: Path) -> tuple[str, ...]:
    """Take the environment out of all reports in there, and name those that are kept."""
    files = sorted(folder.glob("report.*.json"))
    for file in files[_MOST:]:
        _remove(file)
    return tuple(file.name for file in files[:_MOST] if _cleaned(file))


def settle(folder: Path) -> None:
    """Once no process writes there, keep clean reports and whole snapshots, or remove the folder."""
    with suppress(OSError):
        folder.rmdir()
        return
    clean(folder)
    for draft in folder.glob("*.heapsnapshot.part"):
        _remove(draft)
    with suppress(OSError):
        folder.rmdir()


def _cleaned(file: Path) -> bool:
    """Take the environment out; what cannot be read as a report is removed.

    The folder is the agent's to write in, and we may be root: no link is followed, nor one used that is a hard link to
    what is not the agent's.
    """
    with suppress(OSError, msgspec.DecodeError, RecursionError):
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "r+b") as opened:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_uid == file.parent.stat().st_uid:
                report = _without_environment(opened.read(_LARGEST))
                opened.seek(0)
                opened.truncate()
                opened.write(report)
                return True
    _remove(file)
    return False


def _without_environment(report: bytes | Raw) -> bytes:
    """Remove the environment from a report, and from those of its worker threads. The rest is not decoded."""
    fields = msgspec.json.decode(report, type=dict[str, Raw])
    fields.pop("environmentVariables", None)
    if "workers" in fields:
        workers = msgspec.json.decode(fields["workers"], type=list[Raw])
        fields["workers"] = Raw(msgspec.json.encode([Raw(_without_environment(worker)) for worker in workers]))
    return msgspec.json.encode(fields)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
