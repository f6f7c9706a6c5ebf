"""The proof of "one at a time", from a run's events. Pure."""

import heapq
from collections.abc import Iterable
from math import inf

from msgspec import Struct

from seqsup.model.events import AttemptEnded, AttemptLost, AttemptStarted, Recorded, RunStarted


class _Interval(Struct):
    start: float
    end: float = inf


def violations(events: Iterable[Recorded]) -> int:
    """Count the pairs of attempts that ran at the same time in one lane; 0 is the proof of "one at a time".

    An attempt begins when it is said to, which is before its process is started.
    """
    count, boot = 0, None
    lanes: dict[int, list[_Interval]] = {}
    running: dict[tuple[str, int], _Interval] = {}
    for recorded in events:
        match recorded.body:
            case RunStarted(boot_id=boot_id) if boot_id != boot:
                # Monotonic time begins anew with a boot, and no attempt outlives one
                count, boot = count + sum(map(_overlaps, lanes.values())), boot_id
                lanes, running = {}, {}
            case AttemptStarted(agent=agent, attempt=attempt, lane=lane):
                running[agent, attempt] = _Interval(recorded.mono)
                lanes.setdefault(lane, []).append(running[agent, attempt])
            case AttemptEnded(agent=agent, attempt=attempt) | AttemptLost(agent=agent, attempt=attempt):
                if interval := running.pop((agent, attempt), None):
                    interval.end = max(recorded.mono, interval.start)  # less: lost in an earlier boot
    return count + sum(map(_overlaps, lanes.values()))


def _overlaps(intervals: list[_Interval]) -> int:
    pairs, ends = 0, list[float]()
    for interval in sorted(intervals, key=lambda each: (each.start, each.end)):
        while ends and ends[0] <= interval.start:
            heapq.heappop(ends)
        pairs += len(ends)
        heapq.heappush(ends, interval.end)
    return pairs
