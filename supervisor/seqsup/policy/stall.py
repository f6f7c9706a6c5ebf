"""Whether a silent agent works all the same: by the CPU time of its processes. Pure."""

from collections.abc import Mapping

AUTO_STALL = 900.0  # seconds; claude was seen to wait 300 s for its model and then to ask again by itself
LOOK_EVERY = 10.0  # seconds between two looks at CPU time
_IDLE = 0.05  # of a core: CLIs that wait for a silent model use up to 0.02


def is_busy(before: Mapping[int, float], now: Mapping[int, float], seconds: float) -> bool:
    """Say whether a tree used CPU time between two looks that are so many seconds apart.

    Both have the CPU seconds of each process by its pid, those of its ended children included. What a new process
    used is new, also where another had its pid.
    """
    used = sum(max(cpu - before.get(pid, 0.0), 0.0) for pid, cpu in now.items())
    return used > _IDLE * seconds
