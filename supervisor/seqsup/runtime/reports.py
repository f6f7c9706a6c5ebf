"""What Node writes as V8 gives up, without the environment: it may hold keys, and Node before 22.13 puts it in.

Heap snapshots lie beside it.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from seqsup.model import MIB

REPORTS = "reports"  # in the attempt's folder
_LARGEST = 4 * MIB


def clean(folder: Path) -> tuple[str, ...]:
    """Take the environment out of all reports in there, and name those that are kept."""
    return tuple(file.name for file in sorted(folder.glob("report.*.json")) if _cleaned(file))


def settle(folder: Path) -> None:
    """Once nobody writes there any more, leave what is kept: reports that are clean, whole snapshots, or no folder."""
    with suppress(OSError):
        folder.rmdir()
        return
    clean(folder)
    for draft in folder.glob("*.heapsnapshot.part"):
        with suppress(OSError):
            draft.unlink()
    with suppress(OSError):
        folder.rmdir()


def _cleaned(file: Path) -> bool:
    """Take the environment out; what cannot be read as a report is removed. The folder is the agent's to write in."""
    with suppress(OSError, msgspec.DecodeError, AttributeError, TypeError, RecursionError):
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "r+b") as opened:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                report: Mapping[str, Any] = msgspec.json.decode(opened.read(_LARGEST))
                opened.seek(0)
                opened.truncate()
                opened.write(msgspec.json.encode(_without_environment(report)))
                return True
    with suppress(OSError):
        file.unlink()
    return False


def _without_environment(report: Mapping[str, Any]) -> dict[str, Any]:
    """Of each of its worker threads a report holds another one."""
    fewer = {name: value for name, value in report.items() if name != "environmentVariables"}
    if "workers" in fewer:
        fewer["workers"] = [_without_environment(worker) for worker in fewer["workers"]]
    return fewer
