"""Admission: an agent starts when the memory that it needs is there, beside what running ones may still take."""

from collections.abc import Iterator
from contextlib import contextmanager

from . import policy
from .containment.ceiling import ceilings
from .host import PORTABLE, Host


class Admission:
    def __init__(self, host: Host) -> None:
        """Make it while nothing of the run lives: no agent can ask for more than there is now."""
        self._host = host
        self._ceilings = [] if PORTABLE else ceilings()
        self._most = self.room()
        self._running: dict[str, int] = {}  # what each may take

    def room(self) -> int:
        """What may be taken now, in bytes: of the host, or of the group that we live in."""
        rooms = [room for ceiling in self._ceilings if (room := ceiling.room()) is not None]
        return min([self._host.available(), *rooms])

    def missing(self, need: int | None, floor: int | None) -> str:
        """Say what an agent still has to wait for; empty when it may start."""
        running = sum(self._running.values()) if self._running else None
        return policy.no_room(room=self.room(), most=self._most, need=need, floor=floor, running=running)

    @property
    def others(self) -> bool:
        """Whether agents run, whose end may be waited for."""
        return bool(self._running)

    @property
    def crowded(self) -> bool:
        """Whether more than one agent runs."""
        return len(self._running) > 1

    @contextmanager
    def admitted(self, agent: str, need: int | None) -> Iterator[None]:
        """Count an agent as running."""
        self._running[agent] = need or 0
        try:
            yield
        finally:
            del self._running[agent]

    def close(self) -> None:
        for ceiling in self._ceilings:
            ceiling.close()
