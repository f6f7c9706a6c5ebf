"""A tree's memory, confirmed by PSS near a limit. policy.confirm decides when."""

import os
import time
from collections.abc import Iterable
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from seqsup.containment.members import Members
from seqsup.containment.process import Member, read_stat
from seqsup.containment.process.stat import Stat
from seqsup.host.machine import PAGE
from seqsup.policy import confirm
from seqsup.policy.confirm import ExactReading, Look, MemoryBounds
from seqsup.units import GIB, MIB

_PACE, _EACH = 0.03 / GIB, 50e-6  # seconds that a reading takes: a byte, and a process
_TAKEN_BACK = 2000 * MIB  # bytes/s of processor time: by a write, without a fault
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class _Base(Struct, frozen=True):
    """A member as the last reading began."""

    bytes: int
    faults: int
    cpu: int  # ticks
    given_back: int  # bytes that it may take back without a fault


class Confirmed:
    def __init__(self, members: Members, bounds: MemoryBounds) -> None:
        self._members, self._bounds = members, bounds
        self._lowest = min((limit for limit in (bounds.soft, bounds.hard) if limit is not None), default=inf)
        self._reading: ExactReading | None = None
        self._bases: dict[Member, _Base] = {}
        self._pace = _PACE
        self._looked, self._sure = time.monotonic(), 0
        self._before: dict[Member, int] = {}
        self._shared = 0  # bytes of shared memory, estimated, as the last reading began
        self._fresh = False  # the last figure is that of a reading
        self._still: int | None = None  # the estimate, if the same one needs no closer look
        self._counted = 0  # the figure returned for it

    def used(self, estimate: int, *, grouped: bool) -> int:
        """Return the tree's memory in bytes, after an exact reading where one is due.

        `grouped`: the estimate is the cgroup's, which counts too much only what was given back.
        """
        self._fresh = False
        shared, unseen = (0, 0) if grouped else self._members.shared_doubt()
        far = estimate + unseen < confirm.FIRST * self._lowest
        if far and not confirm.doubtful(shared, estimate):
            self._reading, self._looked, self._sure = None, time.monotonic(), estimate
            self._before, self._still = {}, None
            return estimate
        estimate += unseen
        if estimate == self._still:
            self._looked = time.monotonic()
            return self._counted
        look = self._look(estimate, grouped)
        if confirm.due(look, self._reading, self._bounds):
            self._read(estimate, look.at, grouped)
            look, self._fresh = replace(look, growth=0), True
        self._counted = confirm.used(look, self._reading)
        still = look.rate == 0 and not self._fresh and not self._tracks() and self._counted < self._lowest
        self._still = estimate if still else None
        return self._counted

    def spell(self, estimate: str, exact: str) -> str:
        """Name the figure that was returned last, by the names of the two."""
        if self._reading is None:
            return estimate
        return exact if self._fresh else f"{exact} plus growth since"

    def _look(self, estimate: int, grouped: bool) -> Look:
        now, members = time.monotonic(), self._members.all()
        doubt = 0 if grouped else self._members.doubt()
        sure, before = estimate - doubt, self._before
        grew = max(sure - self._sure, 0)
        self._before = {} if grouped else {member: member.whole for member in members}
        grew = max(grew, sum(max(size - before.get(member, size), 0) for member, size in self._before.items()))
        seconds = max(now - self._looked, 1e-4)
        self._looked, self._sure = now, sure
        size = sum(member.bytes + member.shared for member in members)
        return Look(
            at=now, estimate=estimate, growth=self._growth(estimate, members, grouped), doubt=doubt,
            rate=grew / seconds, cost=self._pace * max(size, estimate) + _EACH * len(members),
        )  # fmt: skip

    def _tracks(self) -> bool:
        """Return whether the last reading was below its estimate, so that growth may not raise the estimate."""
        reading = self._reading
        return reading is not None and reading.estimate - reading.exact >= confirm.PAST * reading.estimate

    def _growth(self, estimate: int, members: Iterable[Member], grouped: bool) -> int:
        """Return by how many bytes the tree may have grown since the reading, shared pages that were copied too."""
        if (reading := self._reading) is None:
            return 0
        if not self._tracks():
            return max(estimate - reading.estimate, 0)
        growth = max(estimate - reading.estimate, 0) if grouped else 0
        for member in members:
            base, stat = self._bases.get(member), read_stat(member.pid)
            if stat is None:
                continue
            grown = 0 if grouped else _grown(member, base, stat)
            if base is not None and base.given_back:  # new pages take time too, so it cannot take back as much beside
                written = int((stat.cpu - base.cpu + 1) * _TICK * _TAKEN_BACK)
                grown = max(grown, min(grown + base.given_back, written))
            growth += grown
        return growth + max(self._members.known_shared() - self._shared, 0) * (not grouped)

    def _read(self, estimate: int, began: float, grouped: bool) -> None:
        self._bases.clear()
        self._shared, exact, size = self._members.known_shared(), 0, 0
        for member in self._members.all():
            stat, share = read_stat(member.pid), member.share()  # in this order: what grows meanwhile counts as growth
            if stat is None:
                continue
            given_back = share.given_back if share is not None else 0
            self._bases[member] = _Base(member.whole, stat.faults, stat.cpu, given_back)
            size += member.bytes + member.shared
            if grouped:
                exact -= given_back
            else:
                exact += member.bytes + member.shared if share is None else share.bytes
        exact += estimate if grouped else self._members.unheld_bytes()
        ended = time.monotonic()
        took = (ended - began - _EACH * len(self._bases)) / max(size, MIB)
        self._pace = min(max(took, _PACE / 3), 2 * _PACE)  # the machine may have been busy with others
        self._reading = ExactReading(ended, max(exact, 0), estimate)


def _grown(member: Member, base: _Base | None, stat: Stat) -> int:
    """Return by how many bytes a member may have grown. A fork gives it nothing of its own, a fault one page."""
    if base is not None:
        return max(member.whole - base.bytes, (stat.faults - base.faults) * PAGE, 0)
    return min(member.whole, stat.faults * PAGE) if stat.forked else member.whole
