"""Cgroups of dead runs: found by their names, killed and removed."""

import os
from collections.abc import Callable
from pathlib import Path

from seqsup.containment.cgroup.files import kill, mounts, named_prefix, remove
from seqsup.containment.stop import stop
from seqsup.host.wake import Wake
from seqsup.model.process import ProcessMemory


def find_stale(is_dead: Callable[[str], bool]) -> list[Path]:
    """Find the cgroups of dead supervisors. `is_dead` gets the first 16 digits of the run's cookie."""
    found: list[Path] = []
    tops = {where: None for controller in ("", "memory", "pids", "freezer") for _, where in mounts(controller)}
    for top in tops:
        for folder, below, _ in os.walk(top):
            prefix = named_prefix(os.path.basename(folder))  # noqa: PTH119
            if prefix is not None and is_dead(prefix):
                found.append(Path(folder))
                below.clear()
    return found


async def sweep(groups: list[Path], wake: Wake, *, deadline: float) -> list[Path]:
    """Kill every process in these cgroups and remove them; return those that remain after `deadline` seconds."""
    stale = _Stale(groups)
    await stop(stale, wake, grace=0, deadline=deadline)
    return stale.remaining


class _Stale:
    looks = 1  # a cgroup that could be removed was empty

    def __init__(self, groups: list[Path]) -> None:
        self.remaining = groups

    def living(self) -> int:
        """Remove those that are empty, and count the others."""
        self.remaining = [group for group in self.remaining if not remove(group)]
        return len(self.remaining)

    def send(self, _: int) -> None:
        for group in self.remaining:
            kill(group)

    def describe(self) -> tuple[ProcessMemory, ...]:
        return ()
