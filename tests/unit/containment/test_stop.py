"""The one sequence that ends processes: TERM, a grace, KILL, until looks find nothing."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from seqsup.containment.stop import stop
from seqsup.host.wake import Wake
from seqsup.model.process import ProcessMemory

ONE = ProcessMemory(pid=7, name="one", command="one", bytes=0)


class Processes:
    """One process, which some signal ends, or none does."""

    looks = 2

    def __init__(self, ended_by: signal.Signals | None) -> None:
        self._ended_by = ended_by
        self._alive = 1
        self.signals: list[int] = []
        self.looked = 0

    def living(self) -> int:
        self.looked += 1
        return self._alive

    def send(self, signum: int) -> None:
        self.signals.append(signum)
        if signum == self._ended_by:
            self._alive = 0

    def describe(self) -> tuple[ProcessMemory, ...]:
        return (ONE,)


def stopped(
    processes: Processes, *, grace: float, deadline: float, hurry: Callable[[], bool] = lambda: False
) -> tuple[ProcessMemory, ...] | None:
    async def whole() -> tuple[ProcessMemory, ...] | None:
        return await stop(processes, Wake(), grace=grace, deadline=deadline, hurry=hurry)

    return asyncio.run(whole())


def test_process_that_hears_term_gets_no_kill() -> None:
    processes = Processes(ended_by=signal.SIGTERM)
    assert stopped(processes, grace=60, deadline=70) is None
    assert processes.signals == [signal.SIGTERM, signal.SIGCONT]
    assert processes.looked == 1 + processes.looks


@pytest.mark.parametrize("grace", [0, 0.05])
def test_process_that_ignores_term_is_killed_after_grace(grace: float) -> None:
    processes = Processes(ended_by=signal.SIGKILL)
    assert stopped(processes, grace=grace, deadline=60) is None
    assert set(processes.signals) - {signal.SIGKILL} == ({signal.SIGTERM, signal.SIGCONT} if grace else set())


def test_hurry_cuts_grace_and_deadline_short() -> None:
    processes = Processes(ended_by=None)
    assert stopped(processes, grace=60, deadline=60.05, hurry=lambda: bool(processes.signals)) == (ONE,)
    assert signal.SIGKILL in processes.signals


def test_deadline_within_grace_ends_the_wait_without_kill() -> None:
    processes = Processes(ended_by=None)
    assert stopped(processes, grace=60, deadline=0.05) == (ONE,)
    assert signal.SIGKILL not in processes.signals
