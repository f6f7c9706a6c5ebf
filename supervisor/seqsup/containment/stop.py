"""Stopping processes that are not, or no longer, a supervised tree: strays of an agent, leftovers of dead runs."""

import signal
import time
from collections.abc import Callable, Iterable

from seqsup.containment.members import Members, descend
from seqsup.host.wake import Wake
from seqsup.model.process import ProcessMemory

_EMPTY_PASSES = 2
_AFTER_A_FIND = 10  # looks: whoever forks and exits each millisecond may hide from some


async def stop(
    find: Callable[[], Iterable[int]], wake: Wake, *, grace: float, deadline: float
) -> tuple[tuple[ProcessMemory, ...], tuple[ProcessMemory, ...]]:
    """TERM, then KILL whatever `find` and descent from it give, until two looks find nobody.

    `grace` and `deadline` are seconds from now. Returns who was stopped, and who is still there at the deadline.
    """
    members = Members()
    began, empty, termed = time.monotonic(), 0, False
    stopped: dict[tuple[int, int], ProcessMemory] = {}
    found: set[int] = set()
    try:
        while empty < (_AFTER_A_FIND if stopped else _EMPTY_PASSES):
            known = len(found)
            for pid in descend(find()):
                found.add(pid)
                members.add(pid)
            living = members.living()
            waited = time.monotonic() - began
            # Found and gone by now: it may have left a child unseen. Once only: a zombie may stay for ever
            empty = 0 if living or len(found) > known else empty + 1
            members.used()
            stopped |= {(m.pid, m.start): m.describe() for m in living if (m.pid, m.start) not in stopped}
            if living and waited > deadline:
                left = {(member.pid, member.start) for member in living}
                return tuple(named for who, named in stopped.items() if who not in left), members.describe()
            if waited >= grace:
                members.send(signal.SIGKILL)
            elif not termed:
                members.send(signal.SIGTERM)
                members.send(signal.SIGCONT)
                termed = True
            await wake.wait(0.02 if living and waited < grace else 0.001)
        return tuple(stopped.values()), ()
    finally:
        members.close()
