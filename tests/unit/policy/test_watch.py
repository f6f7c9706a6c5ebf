"""Every decision about a running tree, as histories: samples in, actions out. No process, no clock."""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from seqsup.model.enums import Halt, Measure, Verdict
from seqsup.model.plan import Limits
from seqsup.model.process import Collection, Heap, Sample
from seqsup.model.profile import Timeouts
from seqsup.model.reason import Reason
from seqsup.policy.pacing import pause
from seqsup.policy.spare import VICTIMS
from seqsup.policy.watch import (
    COMEBACKS,
    KILL_DEADLINE,
    LASTING,
    LEFTOVER_GRACE,
    LINGER,
    OOM_SETTLE,
    SPARE_PACE,
    Action,
    Phase,
    Rules,
    Watch,
    step,
)
from seqsup.units import MIB

WAIT, WARN, TERMINATE, KILL, END = Action.WAIT, Action.WARN, Action.TERMINATE, Action.KILL, Action.END
COLLECT, SNAPSHOT, SPARE = Action.COLLECT, Action.SNAPSHOT, Action.SPARE
RULES = Rules(
    limits=Limits(
        warn=100 * MIB, soft=200 * MIB, hard=400 * MIB, sustain=2.0, host_floor=500 * MIB, measure=Measure.PRIVATE
    ),
    timeouts=Timeouts(wall=60.0, stall=30.0, grace=10.0),
    sweep=True,
)
COLLECT_EVERY = RULES.gap
LEFT_ALONE = replace(RULES, sweep=False)
FEW = replace(RULES, processes=4096)
SNAPPED = replace(RULES, snapshot=True)
TOOLS_FIRST = replace(RULES, spare=True)
LEAPING = replace(RULES, leaps=True)
INTERRUPTED = replace(RULES, stop=("INT", "TERM"))
UNLIMITED = Rules(
    limits=Limits(warn=None, soft=None, hard=None, sustain=0.0, host_floor=None, measure=Measure.PRIVATE),
    timeouts=Timeouts(wall=None, stall=None, grace=0.0),
    sweep=True,
)


def at(
    seconds: float, mib: int = 50, *, processes: int = 1, host: int = 8000, quiet: float = 0.0,
    gone: bool = False, halt: Halt = Halt.NONE,
) -> Sample:  # fmt: skip
    """A sample; `gone`: the leader has exited."""
    return Sample(
        at=seconds, used=mib * MIB, processes=processes, host_available=host * MIB, quiet=quiet, root_exited=gone,
        halt=halt,
    )  # fmt: skip


def node(seconds: float, mib: int, collected: float | None = None) -> Sample:
    """A sample of a tree with a Node that answers; `collected`: when the last collection, that freed 41 MiB, ended."""
    heap = Heap(used=0, total=0, limit=0, external=0, array_buffers=0)
    done = Collection(
        at=(collected or 0) - 0.5, seconds=0.5, asked=1, answered=1, before=heap, after=heap, used=0, freed=41 * MIB,
        verdict=Verdict.JS_LEAK,
    )  # fmt: skip
    return replace(at(seconds, mib), collectable=True, collection=done if collected is not None else None)


def snapping(seconds: float, mib: int = 250) -> Sample:
    return replace(at(seconds, mib), snapping=True)


def oom(seconds: float, mib: int = 50, *, gone: bool = False) -> Sample:
    return replace(at(seconds, mib, gone=gone), kernel_oom="oom_kill 1")


def leaving(seconds: float, mib: int, leaves: int) -> Sample:
    """A sample with a killed process that still has so many MiB."""
    return replace(at(seconds, mib), leaving=leaves * MIB)


def spared(seconds: float, host: int) -> Sample:
    return replace(at(seconds, host=host), spared=True)


def empty(seconds: float, host: int = 8000) -> Sample:
    return at(seconds, 0, processes=0, gone=True, host=host)


class Taken(NamedTuple):
    sample: Sample
    watch: Watch
    action: Action


def take(rules: Rules, samples: Iterable[Sample]) -> list[Taken]:
    """Feed a history, up to its END."""
    watch, taken = Watch(started=0.0), list[Taken]()
    for sample in samples:
        watch, action = step(watch, rules, sample)
        taken.append(Taken(sample, watch, action))
        if action is END:
            break
    return taken


def actions(rules: Rules, *samples: Sample) -> list[Action]:
    return [each.action for each in take(rules, samples)]


def last(rules: Rules, *samples: Sample) -> Watch:
    return take(rules, samples)[-1].watch


# -- side by side


# -- histories

NOW, FORCE = Halt.NOW, Halt.KILL
HISTORIES: dict[str, tuple[Rules, list[Sample], list[Action], Phase, Reason | None]] = {
    "a quiet life, and nobody is left": (
        RULES, [at(0), at(1), empty(2), empty(2.01)], [WAIT, WAIT, WAIT, END], Phase.ENDED, None,
    ),
    "one empty look is not enough: somebody had only just forked": (
        RULES,
        [empty(1), at(1.01, gone=True), empty(1.02), empty(1.03)],
        [WAIT, WAIT, WAIT, END], Phase.ENDED, None,
    ),
    "warned of once, though it stays above and comes again": (
        RULES, [at(0, 100), at(1, 150), at(2, 50), at(3, 120)], [WARN, WAIT, WAIT, WAIT], Phase.RUNNING, None,
    ),
    "a second signal after half of the grace period": (
        INTERRUPTED,
        [at(0), at(1, halt=Halt.NOW), at(5.9), at(6), at(10.9), at(11)],
        [WAIT, TERMINATE, WAIT, TERMINATE, WAIT, KILL], Phase.KILLING, Reason.HALTED,
    ),
    "the second signal at once for what the leader leaves behind": (
        INTERRUPTED,
        [at(0), at(1, halt=Halt.NOW), at(1.5, gone=True), at(1.6, gone=True), empty(1.7), empty(1.71)],
        [WAIT, TERMINATE, TERMINATE, WAIT, WAIT, END], Phase.ENDED, Reason.HALTED,
    ),
    "above warn, then above soft": (
        RULES, [at(0, 150), at(1, 250), at(3, 250)], [WARN, WAIT, TERMINATE], Phase.STOPPING, Reason.SOFT,
    ),
    "above soft at once, then between warn and soft: soft has said more": (
        RULES, [at(0, 250), at(1, 150)], [WAIT, WAIT], Phase.RUNNING, None,
    ),
    "above soft for a moment only": (
        RULES, [at(0, 250), at(1.9, 250), at(2, 199), at(2.1, 250), at(4, 250)], [WAIT, WAIT, WAIT, WAIT, WAIT],
        Phase.RUNNING, None,
    ),
    "above soft for as long as sustain": (
        RULES, [at(0), at(1, 250), at(3, 250)], [WAIT, WAIT, TERMINATE], Phase.STOPPING, Reason.SOFT,
    ),
    "above soft, and a collection helps": (
        RULES, [node(0, 250), node(2, 250), node(3, 120, 2.6), node(4, 120, 2.6)], [WAIT, COLLECT, WAIT, WAIT],
        Phase.RUNNING, None,
    ),
    "above soft, and `settle` after a collection still": (
        RULES, [node(0, 250), node(2, 250), node(3, 240, 2.6), node(6.9, 240, 2.6), node(7, 240, 2.6)],
        [WAIT, COLLECT, WAIT, WAIT, TERMINATE], Phase.STOPPING, Reason.SOFT,
    ),
    "a collection that takes longer than `settle` is waited for, as nothing grows meanwhile": (
        RULES, [node(0, 250), node(2, 250), node(8, 250), node(8.5, 120, 8.4)], [WAIT, COLLECT, WAIT, WAIT],
        Phase.RUNNING, None,
    ),
    "but not for ever": (
        RULES, [node(0, 256), node(2, 256), node(11.9, 256), node(12, 256)], [WAIT, COLLECT, WAIT, TERMINATE],
        Phase.STOPPING, Reason.SOFT,
    ),
    "a collection in the agent's last hour ends with it": (
        RULES, [node(0, 250), node(2, 250), empty(2.5), empty(2.6)], [WAIT, COLLECT, WAIT, END], Phase.ENDED, None,
    ),
    "a heap snapshot is written before TERM": (
        SNAPPED, [node(0, 250), node(2, 250), node(12, 250, 2.6), snapping(13), at(14, 250)],
        [WAIT, COLLECT, SNAPSHOT, WAIT, TERMINATE], Phase.STOPPING, Reason.SOFT,
    ),
    "one that takes longer than grace ends with it": (
        SNAPPED, [node(0, 250), node(2, 250), node(12, 250, 2.6), snapping(21.9), snapping(22)],
        [WAIT, COLLECT, SNAPSHOT, WAIT, KILL], Phase.KILLING, Reason.SOFT,
    ),
    "above hard while one is written": (
        SNAPPED, [node(0, 250), node(2, 250), node(12, 250, 2.6), snapping(12.5, 400)],
        [WAIT, COLLECT, SNAPSHOT, KILL], Phase.KILLING, Reason.SOFT,
    ),
    "none is wanted of a tree without a Node that answers": (
        SNAPPED, [at(0, 250), at(2, 250)], [WAIT, TERMINATE], Phase.STOPPING, Reason.SOFT,
    ),
    "above hard while a collection goes on": (
        RULES, [node(0, 250), node(2, 250), node(3, 400)], [WAIT, COLLECT, KILL], Phase.KILLING, Reason.HARD,
    ),
    "garbage comes back: collected again, but not all the time": (
        RULES,
        [node(0, 250), node(2, 250), node(3, 90, 2.6), node(5, 250, 2.6), node(7, 250, 2.6), node(12, 250, 2.6)],
        [WAIT, COLLECT, WAIT, WAIT, WAIT, COLLECT], Phase.RUNNING, None,
    ),
    "no Node answers any more: nothing is left to try": (
        RULES, [node(0, 250), node(2, 250), node(3, 90, 2.6), at(5, 250), at(7, 250)],
        [WAIT, COLLECT, WAIT, WAIT, TERMINATE], Phase.STOPPING, Reason.SOFT,
    ),
    "below soft while it is being stopped: it is stopped all the same, and not killed for memory": (
        RULES, [at(0, 250), at(2, 250), at(2.5, 20), at(11.9, 20), empty(12), empty(12.1)],
        [WAIT, TERMINATE, WAIT, WAIT, WAIT, END], Phase.ENDED, Reason.SOFT,
    ),
    "deaf to TERM until the grace is over": (
        RULES, [at(0, 250), at(2, 250), at(11.9, 250), at(12, 250), at(12.1, 250), empty(13), empty(13.1)],
        [WAIT, TERMINATE, WAIT, KILL, KILL, WAIT, END], Phase.ENDED, Reason.SOFT,
    ),
    "hard at once, and again for each who is still there": (
        RULES, [at(0), at(1, 400), at(1.1, 90), at(1.2, 0, gone=True), empty(1.3), empty(1.4)],
        [WAIT, KILL, KILL, KILL, WAIT, END], Phase.ENDED, Reason.HARD,
    ),
    "hard, one byte below": (RULES, [at(0, 399)], [WAIT], Phase.RUNNING, None),
    "over hard while it is being stopped for the time: the first cause stays": (
        RULES, [at(60), at(60.1, 500), empty(61), empty(61.1)], [TERMINATE, KILL, WAIT, END],
        Phase.ENDED, Reason.TIMEOUT,
    ),
    "the host below its floor": (
        RULES, [at(0, host=500), at(1, host=499), empty(2), empty(2.1)], [WAIT, KILL, WAIT, END],
        Phase.ENDED, Reason.HOST_FLOOR,
    ),
    "the host below its floor, while another agent is stopped for it first": (
        RULES, [spared(0, 499), spared(1, 250), spared(2, 249), empty(3), empty(3.1)], [WAIT, WAIT, KILL, WAIT, END],
        Phase.ENDED, Reason.HOST_FLOOR,
    ),
    "the host below its floor, but the tree is gone by itself: nobody to blame": (
        RULES, [empty(1, host=10), empty(1.1, host=10)], [WAIT, END], Phase.ENDED, None,
    ),
    "more processes than it may have": (
        FEW, [at(0, processes=4096), at(1, processes=4097), at(2, processes=9)], [WAIT, KILL, KILL],
        Phase.KILLING, Reason.PROCESSES,
    ),
    "any number of processes": (RULES, [at(0, processes=10**6)], [WAIT], Phase.RUNNING, None),
    "as long as wall allows": (
        RULES, [at(59.9), at(60)], [WAIT, TERMINATE], Phase.STOPPING, Reason.TIMEOUT,
    ),
    "silent for as long as stall allows": (
        RULES, [at(31, quiet=29.9), at(31.1, quiet=30)], [WAIT, TERMINATE], Phase.STOPPING, Reason.STALLED,
    ),
    "the operator wants an end after this agent: it goes on": (
        RULES, [at(0, halt=Halt.AFTER_AGENT), empty(1), empty(1.1)], [WAIT, WAIT, END], Phase.ENDED, None,
    ),
    "the operator wants an end now, then by force": (
        RULES, [at(0), at(1, halt=NOW), at(2, halt=NOW), at(3, halt=FORCE), empty(4), empty(4.1)],
        [WAIT, TERMINATE, WAIT, KILL, WAIT, END], Phase.ENDED, Reason.HALTED,
    ),
    "the operator's force at once": (
        RULES, [at(1, halt=FORCE), empty(2), empty(2.1)], [KILL, WAIT, END], Phase.ENDED, Reason.HALTED,
    ),
    "too long and above soft in the same look: the time comes first": (
        RULES, [at(57, 250), at(60, 250)], [WAIT, TERMINATE], Phase.STOPPING, Reason.TIMEOUT,
    ),
    "stopped by the user and above hard in the same look: memory comes first": (
        RULES, [at(1, 400, halt=FORCE)], [KILL], Phase.KILLING, Reason.HARD,
    ),
    "leftovers that go by themselves while they may linger": (
        RULES, [at(0), at(1, gone=True), at(1.2, gone=True), empty(1.21), empty(1.22)],
        [WAIT, WAIT, WAIT, WAIT, END], Phase.ENDED, None,
    ),
    "leftovers that heed TERM": (
        RULES, [at(1, gone=True), at(1 + LINGER, gone=True), at(2, gone=True), empty(3), empty(3.1)],
        [WAIT, TERMINATE, WAIT, WAIT, END], Phase.ENDED, None,
    ),
    "deaf leftovers: nobody waits a whole grace for them": (
        RULES, [at(1, gone=True), at(1.5, gone=True), at(3.4, gone=True), at(3.5, gone=True), empty(4), empty(4.1)],
        [WAIT, TERMINATE, WAIT, KILL, WAIT, END], Phase.ENDED, None,
    ),
    "leftovers that pass hard: killed, but what had ended by itself is not blamed": (
        RULES, [at(1, gone=True), at(1.1, 400, gone=True), empty(2), empty(2.1)], [WAIT, KILL, WAIT, END],
        Phase.ENDED, None,
    ),
    "leftovers when the operator is in a hurry: no lingering": (
        RULES, [at(1, gone=True), at(1.01, gone=True, halt=NOW), at(1.02, gone=True, halt=FORCE), empty(2), empty(3)],
        [WAIT, TERMINATE, KILL, WAIT, END], Phase.ENDED, None,
    ),
    "leftovers of a leader that was stopped get the rest of its grace": (
        RULES, [at(60), at(61, gone=True), at(69.9, gone=True), at(70, gone=True), empty(71), empty(72)],
        [TERMINATE, WAIT, WAIT, KILL, WAIT, END], Phase.ENDED, Reason.TIMEOUT,
    ),
    "leftovers where the profile lets them stay": (
        LEFT_ALONE, [at(0), at(1, processes=3, gone=True)], [WAIT, END], Phase.ENDED, None,
    ),
    "a tree over hard is killed wherever leftovers may stay": (
        LEFT_ALONE, [at(0), at(1, 400), at(1.1, gone=True), empty(2), empty(2.1)], [WAIT, KILL, KILL, WAIT, END],
        Phase.ENDED, Reason.HARD,
    ),
    "what does not die of KILL is given up, and named": (
        RULES, [at(1, 400), at(10.9), at(11)], [KILL, KILL, END], Phase.ABANDONED, Reason.HARD,
    ),
    "without any limit": (
        UNLIMITED, [at(0, 10_000, host=0, quiet=1e6), at(1e9, 100_000, host=0)], [WAIT, WAIT], Phase.RUNNING, None,
    ),
    "without a grace": (
        UNLIMITED, [at(0, halt=NOW), at(0.1), empty(0.2), empty(0.3)], [TERMINATE, KILL, WAIT, END],
        Phase.ENDED, Reason.HALTED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_history(name: str) -> None:
    rules, samples, expected, phase, reason = HISTORIES[name]
    taken = take(rules, samples)
    assert [each.action for each in taken] == expected
    assert (taken[-1].watch.phase, taken[-1].watch.reason) == (phase, reason)


def test_every_pair_of_phase_and_reason_that_can_stop_it_is_reported_with_its_numbers() -> None:
    assert "412 MiB" in last(RULES, at(0, 412)).why
    assert "400 MiB" in last(RULES, at(0, 412)).why
    assert last(RULES, at(0, 400)).why == "the tree reached memory.hard 400 MiB"
    assert "499 MiB" in last(RULES, at(0, 60, host=499)).why
    assert "1 min" in last(RULES, at(60)).why
    assert "30 s" in last(RULES, at(40, quiet=31)).why
    soft = last(RULES, at(0, 250), at(3, 270)).why
    assert all(number in soft for number in ("200 MiB", "3 s", "270 MiB"))
    assert "3 leftover" in last(RULES, at(0, processes=3, gone=True), at(1, processes=3, gone=True)).note
    assert "2 still running" in last(RULES, at(60, processes=2), at(70, processes=2)).note


def later(seconds: float, sample: Sample) -> Sample:
    done = sample.collection
    moved = replace(done, at=done.at + seconds) if done is not None else None
    return replace(sample, at=sample.at + seconds, collection=moved)


@pytest.mark.parametrize("name", HISTORIES)
def test_history_is_the_same_whenever_it_begins(name: str) -> None:
    rules, samples, expected, *_ = HISTORIES[name]
    watch, taken = Watch(started=1024.0), []
    for sample in samples:
        watch, action = step(watch, rules, later(1024.0, sample))
        taken.append(action)
    assert taken == expected


STOPS = {
    "hard": ([at(0, 412)], "the tree reached 412 MiB (memory.hard 400 MiB)"),
    "floor": (
        [at(0, 60, host=499)],
        "the host had 499 MiB available, below memory.host_floor 500 MiB; the tree used 60 MiB",
    ),
    "floor, missed by little": (
        [replace(at(0, 60), host_available=500 * MIB - 1024)],
        "the host had 511999 KiB available, below memory.host_floor 512000 KiB; the tree used 60 MiB",
    ),
    "kernel": (
        [replace(at(0), kernel_oom="oom_kill 1")],
        "the kernel killed a process of it: its cgroup or machine ran out of memory (oom_kill 1)",
    ),
    "operator": ([at(0, halt=NOW)], "stopped by the user"),
    "operator, by force": ([at(0, halt=FORCE)], "killed by the user"),
    "wall": ([at(61)], "it ran longer than timeouts.wall 1 min"),
    "budget": ([replace(at(1), spent="it has used 7 turns (budget.turns 7)")], "it has used 7 turns (budget.turns 7)"),
    "stall": ([at(40, quiet=31)], "no output for 31 s (timeouts.stall 30 s)"),
    "soft": ([at(0, 250), at(3, 270)], "the tree was above memory.soft 200 MiB for 3 s (now 270 MiB)"),
    "soft, after a collection": (
        [node(0, 250), node(2, 250), node(7, 240, 2.6)],
        "the tree was above memory.soft 200 MiB for 7 s (now 240 MiB), 5 s after a GC that freed 41 MiB",
    ),
    "soft, after a collection that is not over": (
        [node(0, 250), node(2, 250), node(12, 240)],
        "the tree was above memory.soft 200 MiB for 12 s (now 240 MiB); a GC requested 10 s ago has not finished",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_stop_is_reported_with_its_numbers(name: str) -> None:
    samples, why = STOPS[name]
    watch = last(RULES, *samples)
    assert watch.why == why
    assert watch.note == why, "what the signal was sent for is what it was stopped for"


def test_signals_to_leftovers_are_reported_with_their_numbers() -> None:
    left = [at(0, processes=3, gone=True), at(1, processes=3, gone=True), at(3, processes=2, gone=True)]
    assert last(RULES, *left[:2]).note == "3 leftover processes 1 s after the agent exited"
    assert last(RULES, *left).note == "2 still running 2 s after SIGTERM"
    assert last(RULES, at(60, processes=2), at(70, processes=2)).note == "2 still running 10 s after SIGTERM"


def test_tree_over_hard_that_is_being_stopped_is_killed_for_the_first_reason() -> None:
    watch = last(RULES, at(60), at(61, 500))
    assert watch.why == "it ran longer than timeouts.wall 1 min"
    assert watch.note == "the tree reached 500 MiB (memory.hard 400 MiB)"


def test_one_empty_look_is_enough_if_the_kernel_confirms_it() -> None:
    assert actions(RULES, at(0), replace(empty(1), childless=True)) == [WAIT, END]


def test_empty_tree_whose_leader_has_not_exited_is_not_over() -> None:
    nobody = at(1, 0, processes=0)
    assert actions(RULES, at(0), nobody, nobody, nobody) == [WAIT, WAIT, WAIT, WAIT]


@pytest.mark.parametrize(("mib", "action"), [(99, WAIT), (100, WARN), (101, WARN)])
def test_warning_comes_at_its_limit(mib: int, action: Action) -> None:
    assert actions(RULES, at(0, mib)) == [action]


@pytest.mark.parametrize(("mib", "second"), [(199, WAIT), (200, TERMINATE)])
def test_tree_is_over_soft_at_the_limit_itself(mib: int, second: Action) -> None:
    assert actions(RULES, at(0, mib), at(2, mib))[1] is second


@pytest.mark.parametrize(("seconds", "second"), [(1.99, WAIT), (2.0, TERMINATE), (2.01, TERMINATE)])
def test_tree_is_stopped_once_it_was_over_soft_for_sustain(seconds: float, second: Action) -> None:
    assert actions(RULES, at(0, 250), at(seconds, 250))[1] is second


def test_sustain_restarts_after_a_look_below_soft() -> None:
    looks = [at(0, 250), at(1.9, 99), at(2, 250), at(3.9, 250), at(4, 250)]
    assert actions(RULES, *looks)[1:] == [WAIT, WAIT, WAIT, TERMINATE]


@pytest.mark.parametrize(("seconds", "comebacks"), [(LASTING - 1, 1), (LASTING, 0), (LASTING + 1, 0)])
def test_tree_that_comes_back_within_a_minute_counts(seconds: float, comebacks: int) -> None:
    rules = replace(RULES, timeouts=UNLIMITED.timeouts)
    again = [node(3, 90, 2.6), node(seconds, 250, 2.6), node(2 + seconds, 250, 2.6)]
    taken = take(rules, [node(0, 250), node(2, 250), *again])
    assert taken[-1].action is COLLECT
    assert taken[-1].watch.comebacks == comebacks


@pytest.mark.parametrize(("seconds", "action"), [(COLLECT_EVERY - 0.1, WAIT), (COLLECT_EVERY, COLLECT)])
def test_collections_are_ten_seconds_apart(seconds: float, action: Action) -> None:
    looks = [node(0, 250), node(2, 250), node(3, 90, 2.6), node(4, 250, 2.6), node(2 + seconds, 250, 2.6)]
    assert actions(RULES, *looks)[-1] is action


def test_gap_of_the_profile_is_kept_between_collections() -> None:
    rules = replace(RULES, gap=20.0, timeouts=UNLIMITED.timeouts)
    looks = [node(0, 250), node(2, 250), node(3, 90, 2.6), node(4, 250, 2.6), node(21.9, 250, 2.6), node(22, 250, 2.6)]
    assert actions(rules, *looks)[1:] == [COLLECT, WAIT, WAIT, WAIT, COLLECT]


def test_without_collections_a_tree_above_soft_is_stopped() -> None:
    assert actions(replace(RULES, collects=False), node(0, 250), node(2, 250))[-1] is TERMINATE


EARLY = replace(RULES, early=True, timeouts=UNLIMITED.timeouts)


def test_aggressive_tree_collects_above_warn_each_gap() -> None:
    looks = [
        node(0, 90), node(1, 150), node(1.1, 150), node(2, 150), node(20, 150), node(20.1, 150, 15.0),
        node(24.9, 150, 15.0), node(25, 150, 15.0), node(26, 90, 25.5), node(60, 90, 25.5), node(61, 150, 25.5),
    ]  # fmt: skip
    assert actions(EARLY, *looks) == [WAIT, WARN, COLLECT, WAIT, WAIT, WAIT, WAIT, COLLECT, WAIT, WAIT, COLLECT]
    assert COLLECT not in actions(replace(EARLY, early=False), *looks)
    assert COLLECT not in actions(EARLY, *(at(n, 150) for n in range(30))), "no Node process answers"


def test_early_collection_counts_for_the_gap_and_is_no_comeback() -> None:
    looks = [node(0, 150), node(1, 150), node(2, 250), node(4, 250), node(10.9, 250, 3.0), node(11, 250, 3.0)]
    taken = take(EARLY, looks)
    assert [each.action for each in taken] == [WARN, COLLECT, WAIT, WAIT, WAIT, COLLECT]
    assert taken[-1].watch.comebacks == 0


@pytest.mark.parametrize(("seconds", "action"), [(4.9, WAIT), (5.0, TERMINATE)])
def test_tree_is_stopped_settle_after_a_collection_that_did_not_help(seconds: float, action: Action) -> None:
    looks = [node(0, 250), node(2, 250), node(2 + seconds, 250, 2.6)]
    assert actions(RULES, *looks)[-1] is action


@pytest.mark.parametrize(("collected", "action"), [(1.9, WAIT), (2.0, TERMINATE), (2.1, TERMINATE)])
def test_only_a_collection_that_ended_after_it_was_asked_for_is_over(collected: float, action: Action) -> None:
    """`settle` is 5 s; for one that is not over 5 s more, as 256 MiB are a quarter of a GiB."""
    looks = [node(0, 256), node(2, 256), node(7.5, 256, collected)]
    assert actions(RULES, *looks)[-1] is action


@pytest.mark.parametrize(("seconds", "action"), [(LINGER - 0.01, WAIT), (LINGER, TERMINATE)])
def test_leftovers_may_linger_for_a_quarter_of_a_second(seconds: float, action: Action) -> None:
    assert actions(RULES, at(0, gone=True), at(seconds, gone=True))[-1] is action


@pytest.mark.parametrize(("grace", "killed"), [(10.0, LEFTOVER_GRACE), (1.0, 1.0)])
def test_leftovers_have_two_seconds_or_the_grace_if_that_is_shorter(grace: float, killed: float) -> None:
    rules = replace(RULES, timeouts=replace(RULES.timeouts, grace=grace))
    swept = [at(0, gone=True), at(1, gone=True)]
    assert actions(rules, *swept, at(1 + killed - 0.01, gone=True))[-1] is WAIT
    assert actions(rules, *swept, at(1 + killed, gone=True))[-1] is KILL


@pytest.mark.parametrize(("seconds", "action"), [(KILL_DEADLINE - 0.1, KILL), (KILL_DEADLINE, END)])
def test_tree_that_survives_kill_for_ten_seconds_is_given_up(seconds: float, action: Action) -> None:
    assert actions(RULES, at(0, 400), at(seconds))[-1] is action


def test_snapshot_holds_term_back_only_while_it_is_written() -> None:
    begun = [node(0, 250), node(2, 250), node(12, 250, 2.6)]
    assert actions(SNAPPED, *begun, at(12.1, 250), at(12.2, 250))[-2:] == [TERMINATE, WAIT]
    assert actions(RULES, *begun)[-1] is TERMINATE


@pytest.mark.parametrize(("grown", "since"), [(4 * MIB, float("inf")), (4 * MIB + 1, 0.0)])
def test_first_look_at_a_tree_finds_it_grown_if_it_holds_more_than_4_mib(grown: int, since: float) -> None:
    assert last(RULES, replace(at(0), used=grown)).level_since == since


def test_peak_is_the_most_that_any_look_saw() -> None:
    assert last(RULES, at(0, 50), at(1, 90), at(2, 60)).peak == 90 * MIB


@pytest.mark.parametrize(("grown", "since"), [(4 * MIB, 1.0), (4 * MIB + 1, 2.0)])
def test_tree_grew_if_it_holds_more_than_4_mib_more(grown: int, since: float) -> None:
    before, after = at(1, 50), replace(at(2), used=50 * MIB + grown)
    assert last(RULES, before, after).level_since == since


def _returning(every: float, times: int) -> list[Sample]:
    """A tree that is over soft for three seconds, and below it after each collection."""
    return [
        sample
        for start in (n * every for n in range(times))
        for sample in (node(start, 250, start or None), node(start + 2, 250, start or None), node(start + 3, 90))
    ]


def test_collections_that_never_last_come_to_an_end() -> None:
    taken = take(replace(RULES, timeouts=UNLIMITED.timeouts), _returning(COLLECT_EVERY + 5, COMEBACKS + 1))
    assert [each.action for each in taken].count(COLLECT) == COMEBACKS
    stopped = next(each for each in taken if each.action is TERMINATE)
    assert stopped.watch.reason is Reason.SOFT
    assert all(word in stopped.watch.why for word in ("200 MiB", "250 MiB", "41 MiB", f"{COMEBACKS}th"))


def test_collections_may_last_as_long_as_the_agent() -> None:
    taken = take(replace(RULES, timeouts=UNLIMITED.timeouts), _returning(LASTING + 5, 3 * COMEBACKS))
    assert [each.action for each in taken].count(COLLECT) == 3 * COMEBACKS


def test_why_it_was_stopped_says_what_the_collection_did() -> None:
    tried = [node(0, 250), node(2, 250)]
    assert "5 s after a GC that freed 41 MiB" in last(RULES, *tried, node(7, 240, 2.6)).why
    assert "a GC requested 10 s ago has not finished" in last(RULES, *tried, node(12, 240)).why


def test_the_peak_is_the_highest_sample() -> None:
    assert last(RULES, at(0, 10), at(1, 300), at(2, 20)).peak == 300 * MIB


# -- an agent whose tools end first


TOOLS_FIRST_HISTORIES: dict[str, tuple[list[Sample], list[Action], Reason | None]] = {
    "soft: one process is enough": ([at(1, 250), at(3, 250), at(3.1, 150), at(9)], [WAIT, SPARE, WAIT, WAIT], None),
    "soft: no other process in the same second": (
        [at(1, 250), at(3, 250), at(3.5, 250), at(4, 250)], [WAIT, SPARE, WAIT, SPARE], None,
    ),
    "soft: after five in a row the tree": (
        [at(1, 250), *(at(n, 250) for n in range(3, 9))], [WAIT, *[SPARE] * 5, TERMINATE], Reason.SOFT,
    ),
    "soft: a GC comes first": (
        [node(0, 250), node(2, 250), node(7, 250, 2.6), at(7.5, 150)], [WAIT, COLLECT, SPARE, WAIT], None,
    ),
    "hard: one process is enough": ([at(1, 400), at(1.01, 150)], [SPARE, WAIT], None),
    "hard: a killed process does not count": (
        [at(1, 450), leaving(1.01, 450, 300), at(1.1, 150)], [SPARE, WAIT, WAIT], None,
    ),
    "hard: others grow while a killed process leaves": (
        [at(1, 450), leaving(1.01, 700, 300)], [SPARE, SPARE], None,
    ),
    "hard: a killed process that does not leave": (
        [at(1, 450), leaving(2.9, 450, 300), leaving(3, 450, 300)], [SPARE, WAIT, SPARE], None,
    ),
    "hard: after five in a row the tree": (
        [at(1 + n / 100, 400) for n in range(6)], [*[SPARE] * 5, KILL], Reason.HARD,
    ),
    "the kernel killed: it is seen which process": (
        [oom(1, 400), oom(1.05), oom(1.1), at(1.15)], [WAIT, WAIT, SPARE, WAIT], None,
    ),
    "the kernel killed, and the CLI has exited": ([oom(1), oom(1.05, gone=True)], [WAIT, WAIT], None),
    "floor of the host: the tree": ([at(1, host=499)], [KILL], Reason.HOST_FLOOR),
    "the CLI has exited: the leftovers": ([at(1, gone=True), at(1.01, 400, gone=True)], [WAIT, KILL], None),
}  # fmt: skip


@pytest.mark.parametrize("name", TOOLS_FIRST_HISTORIES)
def test_tools_end_before_the_agent(name: str) -> None:
    samples, expected, reason = TOOLS_FIRST_HISTORIES[name]
    taken = take(TOOLS_FIRST, samples)
    assert [each.action for each in taken] == expected
    assert taken[-1].watch.reason is reason


def test_count_of_ended_tools_starts_again_after_a_minute() -> None:
    first = [at(1 + n / 100, 400) for n in range(VICTIMS)]
    patient = replace(TOOLS_FIRST, timeouts=replace(RULES.timeouts, wall=None))
    assert actions(patient, *first, at(2), at(61.04 + 0.001, 400))[-1] is SPARE


def test_tree_ends_where_no_tool_can() -> None:
    """The runner takes the same step again with rules that do not spare."""
    watch, action = step(Watch(started=0.0), TOOLS_FIRST, at(1, 400))
    assert (action, watch.tool_ended_for, watch.reason) == (SPARE, Reason.HARD, None)
    watch, action = step(Watch(started=0.0), replace(TOOLS_FIRST, spare=False), at(1, 400))
    assert (action, watch.reason) == (KILL, Reason.HARD)


# -- any history at all

SIZES = [0, 1, 99, 100, 199, 200, 300, 399, 400, 401, 2000]


spans = st.sampled_from([None, 0.01, 1.0, 5.0, 100.0])
sizes = st.sampled_from([None, *(mib * MIB for mib in SIZES[1:])])
any_rules = st.builds(
    Rules,
    limits=st.builds(
        Limits, warn=sizes, soft=sizes, hard=sizes, sustain=st.sampled_from([0.0, 1.0, 3.0]), host_floor=sizes,
        measure=st.just(Measure.PRIVATE),
    ),
    timeouts=st.builds(Timeouts, wall=spans, stall=spans, grace=st.sampled_from([0.0, 0.5, 2.0, 10.0])),
    stop=st.sampled_from([("TERM",), ("INT", "TERM")]),
    sweep=st.booleans(),
    snapshot=st.booleans(),
    spare=st.booleans(),
)  # fmt: skip
looks = st.lists(
    st.tuples(
        st.sampled_from([0.001, 0.1, 0.26, 1.0, 2.5, 11.0]),  # seconds since the look before
        st.sampled_from(SIZES),  # used
        st.sampled_from(SIZES),  # host
        st.sampled_from([0.0, 0.5, 7.0]),  # quiet
        st.sampled_from([0, 0, 1, 2]),  # processes besides the leader
        st.sampled_from(["", "", "", "", "exit", "exit", "oom", "after agent", "now", "kill"]),
        st.sampled_from([None, 0.0, 1.0, 100.0]),  # a Node that answers, and when its last collection ended
        st.booleans(),  # a snapshot is being written
    ),
    min_size=1,
    max_size=15,
)


Look = tuple[float, int, int, float, int, str, float | None, bool]


def history(looks: list[Look]) -> list[Sample]:
    """Draw a history that the world can produce: time advances, an exit is final, a stop request only grows, and a tree
    without processes has no memory.
    """
    now, halt, gone, oom = 0.0, Halt.NONE, False, ""
    samples = []
    for passed, used, host, quiet, others, news, collected, written in looks:
        now += passed
        halt = max(halt, {"after agent": Halt.AFTER_AGENT, "now": Halt.NOW, "kill": Halt.KILL}.get(news, halt))
        gone = gone or news == "exit"
        oom = oom or ("oom_kill 1" if news == "oom" else "")  # the kernel's count never falls
        processes = others + (not gone)
        held = used if processes else 0
        sample = at(now, held, processes=processes, host=host, quiet=quiet, gone=gone, halt=halt)
        answers = node(now, held, collected).collection if collected is not None and collected < now else None
        answering = collected is not None and not gone
        samples.append(replace(sample, collectable=answering, collection=answers, kernel_oom=oom, snapping=written))
    return samples


def breach(rules: Rules, sample: Sample) -> bool:
    """Told apart from the code: what allows KILL without a TERM before it."""
    limits, many = rules.limits, rules.processes is not None and sample.processes > rules.processes
    over = limits.hard is not None and sample.used >= limits.hard
    low = limits.host_floor is not None and sample.host_available < limits.host_floor
    return over or low or many or sample.halt is Halt.KILL or bool(sample.kernel_oom)


def kill_comes_only_after_term_and_grace_or_for_a_breach(rules: Rules, taken: list[Taken]) -> None:
    begun: float | None = None
    killing, signals = False, 0
    for sample, watch, action in taken:
        if action is SNAPSHOT:
            assert begun is None, "it comes first, and takes of the grace"
            begun = sample.at
        if action is TERMINATE:
            signals, begun = signals + 1, sample.at if begun is None else begun
            assert signals <= len(rules.stop), "each signal is sent once"
        if action is KILL:
            grace = rules.timeouts.grace if watch.reason else min(rules.timeouts.grace, LEFTOVER_GRACE)
            over = begun is not None and sample.at - begun >= grace
            assert killing or over or breach(rules, sample)
            killing = True


def nobody_is_killed_for_memory_below_the_limit(rules: Rules, taken: list[Taken]) -> None:
    for sample, watch, action in taken:
        if action in (KILL, TERMINATE) and watch.phase is not Phase.SWEEPING and watch.since == sample.at:
            limits = rules.limits
            if watch.reason is Reason.SOFT and action is TERMINATE:
                assert limits.soft is not None
                assert sample.used >= limits.soft
            if watch.reason is Reason.HARD:
                assert limits.hard is not None
                assert sample.used >= limits.hard
            if watch.reason is Reason.KERNEL_OOM:
                assert sample.kernel_oom
            if watch.reason is Reason.HOST_FLOOR:
                assert limits.host_floor is not None
                assert sample.host_available < limits.host_floor


def a_collection_is_asked_for_above_soft_only_and_not_all_the_time(rules: Rules, taken: list[Taken]) -> None:
    asked: float | None = None
    for sample, _, action in taken:
        if action is COLLECT:
            assert rules.limits.soft is not None
            assert sample.used >= rules.limits.soft
            assert sample.collectable
            assert asked is None or sample.at - asked >= COLLECT_EVERY
            asked = sample.at


def no_warning_follows_what_says_more(rules: Rules, taken: list[Taken]) -> None:
    highs = (rules.limits.soft, rules.limits.hard)
    high = False
    for sample, _, action in taken:
        high = high or any(limit is not None and sample.used >= limit for limit in highs)
        assert not (high and action is WARN)


def at_or_above_hard_nothing_waits(rules: Rules, taken: list[Taken]) -> None:
    for sample, watch, action in taken:
        if (rules.limits.hard is not None and sample.used >= rules.limits.hard) or sample.kernel_oom:
            if watch.oom_at is not None and sample.at - watch.oom_at < OOM_SETTLE:
                continue  # the kernel is freeing memory
            if rules.spare and sample.root_exited and sample.used < (rules.limits.hard or inf):
                continue  # the exit tells whether the kernel killed the CLI
            assert action in (KILL, SPARE) or watch.phase is Phase.ABANDONED or not sample.processes


def a_tool_ends_above_a_limit_only_and_few_in_a_row(rules: Rules, taken: list[Taken]) -> None:
    moments = list[float]()
    for sample, watch, action in taken:
        if action is SPARE:
            limits = {Reason.HARD: rules.limits.hard, Reason.SOFT: rules.limits.soft, Reason.KERNEL_OOM: 0}
            assert rules.spare
            assert watch.tool_ended_for is not None
            limit = limits[watch.tool_ended_for]
            assert limit is not None
            assert sample.used >= limit
            assert bool(sample.kernel_oom) is (watch.tool_ended_for is Reason.KERNEL_OOM)
            assert watch.phase is Phase.RUNNING
            assert not sample.root_exited
            if watch.tool_ended_for is Reason.SOFT and moments:
                assert sample.at - moments[-1] >= SPARE_PACE
            moments.append(sample.at)
    rows = zip(moments, moments[VICTIMS:], strict=False)
    assert all(later - first >= LASTING for first, later in rows), "a row ends with a minute without one"


def the_first_reason_is_kept_and_none_given_to_what_ended_by_itself(rules: Rules, taken: list[Taken]) -> None:
    reason: Reason | None = None
    before = Phase.RUNNING
    for sample, watch, action in taken:
        if reason is not None:
            assert watch.reason is reason
        elif watch.reason is not None:
            assert before is Phase.RUNNING
            assert action in (TERMINATE, SNAPSHOT, KILL)
            assert sample.processes
        assert bool(watch.reason) == bool(watch.why)
        reason, before = watch.reason, watch.phase


def it_ends_on_an_empty_tree_or_with_leftovers_that_may_stay_or_when_it_gives_up(
    rules: Rules, taken: list[Taken]
) -> None:
    if taken[-1].action is not END:
        return
    watch, tail = taken[-1].watch, [each.sample for each in taken[-2:]]
    if watch.phase is Phase.ABANDONED:
        killed = next(each.sample.at for each in taken if each.action is KILL)
        assert tail[-1].at - killed >= KILL_DEADLINE
    elif all(not sample.processes for sample in tail):
        assert len(tail) == 2
        assert all(sample.root_exited for sample in tail)
    else:
        assert not rules.sweep
        assert tail[-1].root_exited
        assert watch.reason is None


def the_pause_stays_within_a_millisecond_and_a_second(rules: Rules, taken: list[Taken]) -> None:
    for sample, watch, action in taken:
        for rate, cpus in ((0.0, 1), (5e9, 2), (1e12, 256)):
            assert action is END or 0.001 <= pause(watch, rules, sample, rate, cpus) <= 1.0


def every_stop_comes_to_an_end(rules: Rules, taken: list[Taken]) -> None:
    """Law: once a stop is requested, the sequence ends, even if the processes never exit."""
    sample, watch, action = taken[-1]
    bound = LINGER + LEFTOVER_GRACE + rules.timeouts.grace + KILL_DEADLINE + 2
    now = sample.at
    while action is not END:
        now += 0.5
        deaf = replace(sample, at=now, used=0, processes=1, halt=max(sample.halt, Halt.NOW))
        watch, action = step(watch, rules, deaf)
        assert now - sample.at <= bound


LAWS = [
    kill_comes_only_after_term_and_grace_or_for_a_breach,
    nobody_is_killed_for_memory_below_the_limit,
    no_warning_follows_what_says_more,
    at_or_above_hard_nothing_waits,
    a_tool_ends_above_a_limit_only_and_few_in_a_row,
    a_collection_is_asked_for_above_soft_only_and_not_all_the_time,
    the_first_reason_is_kept_and_none_given_to_what_ended_by_itself,
    it_ends_on_an_empty_tree_or_with_leftovers_that_may_stay_or_when_it_gives_up,
    the_pause_stays_within_a_millisecond_and_a_second,
    every_stop_comes_to_an_end,
]
anything = settings(max_examples=200)


@anything
@given(any_rules, looks)
def test_any_history_keeps_every_law(rules: Rules, looks: list[Look]) -> None:
    taken = take(rules, history(looks))
    for law in LAWS:
        law(rules, taken)


@pytest.mark.parametrize("name", HISTORIES)
def test_the_histories_of_the_table_keep_every_law(name: str) -> None:
    rules, samples, *_ = HISTORIES[name]
    for law in LAWS:
        law(rules, take(rules, samples))


@anything
@given(st.integers(0, 399), st.integers(0, 399), st.floats(0, 1e10), st.integers(1, 8))
def test_the_nearer_to_the_limit_the_shorter_the_pause(one: int, other: int, rate: float, cpus: int) -> None:
    low, high = sorted((one, other))
    watch = Watch(started=0.0)
    assert pause(watch, RULES, at(0, high), rate, cpus) <= pause(watch, RULES, at(0, low), rate, cpus)
    near, far = at(0, host=500 + low), at(0, host=500 + high)
    assert pause(watch, RULES, near, rate, cpus) <= pause(watch, RULES, far, rate, cpus)


@anything
@given(st.integers(0, 399), st.floats(0, 20_000), st.integers(1, 8))
def test_tree_that_grows_steadily_does_not_reach_hard_within_a_pause(mib: int, pace: float, cpus: int) -> None:
    waited = pause(Watch(started=0.0), RULES, at(0, mib), pace * MIB, cpus)
    assert mib + waited * pace <= 400 or waited == 0.001


@anything
@given(st.integers(0, 399), st.integers(1, 8))
def test_idle_tree_that_grows_as_fast_as_any_did_does_not_reach_hard_within_a_pause(mib: int, cpus: int) -> None:
    waited = pause(Watch(started=0.0, level_since=0.0), RULES, at(30, mib), 0.0, cpus)
    assert mib + waited * 2000 * min(cpus, 3) <= 400 or waited == 0.001


def test_pause_before_a_leap_is_that_in_which_it_would_pass_hard_by_two_percent() -> None:
    """200 MiB up to hard and 8 MiB beyond, at 10,000 MiB/s."""
    assert pause(Watch(started=0.0), LEAPING, at(30, 200), 0.0, 1) == pytest.approx(0.0208)
    assert pause(Watch(started=0.0), RULES, at(30, 200), 0.0, 1) == pytest.approx(0.05)


@anything
@given(st.integers(0, 399), st.floats(0, 30), st.integers(1, 8))
def test_a_leap_by_huge_pages_passes_hard_by_two_percent_at_most(mib: int, since: float, cpus: int) -> None:
    known = Watch(started=0.0, level_since=since), LEAPING, at(30, mib)
    waited = pause(*known, 0.0, cpus)
    assert mib + waited * 10_000 < 408.001 or waited == 0.001
    assert waited <= pause(known[0], RULES, known[2], 0.0, cpus)


def test_tree_is_idle_once_it_has_not_grown_for_a_second() -> None:
    def waited(*samples: Sample) -> float:
        return pause(last(RULES, *samples), RULES, samples[-1], 0.0, 1)

    young, grown, calm = at(8, 196), at(9, 300), at(10, 303)  # 100 MiB at 2000 MiB/s: 0.05 s
    assert waited(young, grown) == pytest.approx(0.025)
    assert waited(young, grown, calm) == pytest.approx(0.0485 * 3 / 4)
    assert waited(young, grown, calm, at(10.5, 290)) == pytest.approx(0.055 * 3 / 4)
    assert waited(young, grown, calm, at(10.5, 290), at(10.6, 295)) == pytest.approx(0.0525 / 2)


# -- tables


@pytest.mark.parametrize(
    ("watch", "sample", "expected"),
    [
        (Watch(started=0.0), at(0.001), 0.02),
        (Watch(started=0.0), at(0.03), 0.02),
        (Watch(started=0.0), at(0.2), 0.05),
        (Watch(started=0.0), at(59.95), 0.05),
        (Watch(started=0.0), at(1, quiet=29.95), 0.05),
        (Watch(started=0.0, over_soft_since=1.0), at(2.99, 210), 0.01),
        (Watch(started=0.0, over_soft_since=1.0), at(2.5, 210), 0.0475),  # hard is nearer: 190 MiB at 4 GB/s, half
        (Watch(started=0.0), at(1), 0.0875),
        (Watch(started=0.0, level_since=0.0), at(1), 0.13125),
        (Watch(started=0.0), at(1, 400), 0.001),
        (Watch(started=0.0), at(1, host=510), 0.0025),
        (Watch(started=0.0, phase=Phase.KILLING), at(1), 0.001),
        (Watch(started=0.0, empty=1), at(1), 0.001),
        (Watch(started=0.0, phase=Phase.LINGERING, since=1.0), at(1), 0.005),
        (Watch(started=0.0, phase=Phase.STOPPING, since=1.0), at(1), 0.02),
        (Watch(started=0.0, phase=Phase.STOPPING, since=1.0), at(10.99), 0.01),
    ],
)
def test_pause(watch: Watch, sample: Sample, expected: float) -> None:
    assert pause(watch, RULES, sample, rate=0.0, cpus=1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("watch", "sample", "expected"),
    [
        (Watch(started=100.0), at(100.2), 0.05),
        (Watch(started=100.0), at(159.95), 0.05),
        (Watch(started=100.0, over_soft_since=101.0), at(102.99, 210), 0.01),
        (Watch(started=100.0, over_soft_since=101.0, asked=103.0, settling=True), node(107.95, 210, 103.5), 0.0475),
        (Watch(started=100.0, over_soft_since=101.0, asked=103.0, settling=True), node(107.99, 210, 103.5), 0.01),
        (Watch(started=100.0, over_soft_since=101.0, asked=103.0), at(112.99, 210), 0.01),
        (Watch(started=100.0, over_soft_since=101.0, asked=103.0), at(113.0, 210), 0.0475),
        (Watch(started=100.0, phase=Phase.LINGERING, since=101.0), at(101, 399), 0.001),
        (Watch(started=100.0, phase=Phase.STOPPING, since=101.0), at(101, 390), 0.0025),
        (Watch(started=100.0, phase=Phase.SWEEPING, since=101.0), at(101, host=510), 0.0025),
    ],
)
def test_pause_ends_before_the_next_moment_that_may_change_the_answer(
    watch: Watch, sample: Sample, expected: float
) -> None:
    """A fifth of its life, `wall`, `sustain`, `settle`, the next collection, `hard` and the host's floor."""
    assert pause(watch, RULES, sample, rate=0.0, cpus=1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rate", "cpus", "expected"),
    [(0, 1, 0.05), (0, 2, 0.025), (0, 3, 0.05 / 3), (0, 64, 0.05 / 3), (1000, 1, 0.05), (2000, 1, 0.025)],
)
def test_pause_halves_with_the_pace_that_a_tree_may_have(rate: int, cpus: int, expected: float) -> None:
    assert pause(Watch(started=0.0), RULES, at(4, 200), rate * MIB, cpus) == pytest.approx(expected)


def test_without_limits_it_looks_once_a_second() -> None:
    assert pause(Watch(started=0.0), UNLIMITED, at(4, 10_000, host=1), rate=1e12, cpus=64) == 1.0


def test_automatic_stall_takes_15_minutes_and_says_so() -> None:
    rules = replace(UNLIMITED, timeouts=Timeouts(wall=None, stall="auto"))
    assert step(Watch(started=0), rules, at(899, quiet=899.9))[1] is WAIT
    watch, action = step(Watch(started=0), rules, at(900, quiet=900))
    assert (action, watch.why) == (TERMINATE, "no output and no CPU use for 15 min (timeouts.stall auto)")
