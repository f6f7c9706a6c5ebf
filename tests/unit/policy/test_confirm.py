"""The decision when PSS is read: on looks made by hand, and on simulated histories of a tree."""

from hypothesis import given
from hypothesis import strategies as st

from seqsup.policy.confirm import PAST, ExactReading, Look, MemoryBounds, due, used
from seqsup.units import GIB, MIB

HARD = GIB
BOUNDS = MemoryBounds(hard=HARD)
PACE = 0.03 / GIB  # seconds a byte


def look(mib: int, **more: float) -> Look:
    return Look(at=10.0, estimate=mib * MIB, **more)  # type: ignore[arg-type]


def test_estimate_counts_until_a_reading_shows_less() -> None:
    assert used(look(900), None) == 900 * MIB
    assert used(look(900, growth=50 * MIB), ExactReading(9.0, 300 * MIB, 800 * MIB)) == 350 * MIB
    assert used(look(310, growth=50 * MIB), ExactReading(9.0, 300 * MIB, 800 * MIB)) == 310 * MIB


def test_reading_is_not_due_far_from_the_limits() -> None:
    assert not due(look(500), None, BOUNDS)
    assert due(look(800), None, BOUNDS)
    assert not due(look(5000), None, MemoryBounds())


def test_reading_that_costs_much_needs_a_doubt_below_the_limit() -> None:
    assert not due(look(800, cost=0.1), None, BOUNDS)
    assert due(look(800, cost=0.1, doubt=100 * MIB), None, BOUNDS)
    assert due(look(1100, cost=0.1), None, BOUNDS)


def test_reading_is_due_again_once_the_room_has_halved() -> None:
    reading = ExactReading(9.0, 800 * MIB, 800 * MIB)
    assert not due(look(900, growth=100 * MIB), reading, BOUNDS)
    assert due(look(920, growth=120 * MIB), reading, BOUNDS)


def test_limit_is_confirmed_unless_the_tree_grows_too_fast() -> None:
    assert due(look(1024, rate=100.0 * MIB, cost=0.03), None, BOUNDS)
    assert not due(look(1024, rate=500.0 * MIB, cost=0.03), None, BOUNDS), "nothing is in doubt"
    assert due(look(1024, rate=500.0 * MIB, cost=0.03, doubt=100 * MIB), None, BOUNDS)
    assert not due(look(1024, rate=2000.0 * MIB, cost=0.03), None, BOUNDS)
    assert due(look(4096, doubt=3000 * MIB, cost=0.1), None, BOUNDS), "forked processes leap far over the limit"


def test_soft_limit_that_was_confirmed_is_read_again_only_now_and_then() -> None:
    soft, confirmed = MemoryBounds(soft=HARD), ExactReading(9.9, HARD + MIB, HARD + MIB)
    assert not due(look(1030, cost=0.03), confirmed, soft)
    assert due(Look(at=11.0, estimate=1030 * MIB, cost=0.03), confirmed, soft)
    assert due(look(1030, growth=MIB, cost=0.03), ExactReading(9.9, HARD - MIB, HARD), soft)


# What a simulated tree does for a while, in MiB/s and seconds
STRETCH = st.tuples(
    st.sampled_from(["grow", "copy", "fork", "free", "still"]), st.integers(1, 3000), st.floats(0.05, 1.0)
)


@given(st.lists(STRETCH, min_size=1, max_size=12))
def test_simulated_tree_is_killed_neither_too_early_nor_too_late(history: list[tuple[str, int, float]]) -> None:
    """Its estimate is never below what is true. A fork adds to the estimate alone, a copy to what is true alone."""
    now, true, shared, grown = 0.0, 100 * MIB, 0, 0
    reading: ExactReading | None = None
    for what, rate, seconds in history:
        end = now + seconds
        if what == "fork":
            shared += true
        while now < end:
            step = min(max((HARD - used_by(true, shared, grown, reading)) / 2 / (6000 * MIB), 0.001), 0.1)

            def pass_on(duration: float, what: str = what, rate: int = rate) -> None:
                nonlocal now, true, shared, grown
                now += duration
                moved = int(rate * MIB * duration)
                if what == "grow":
                    true, grown = true + moved, grown + moved
                elif what == "copy":
                    moved = min(moved, shared)
                    true, shared, grown = true + moved, shared - moved, grown + moved
                elif what == "free":
                    true -= min(moved, true // 2)

            pass_on(step)
            speed = rate * MIB if what in ("grow", "copy") else 0.0
            estimate = true + shared
            seen = Look(at=now, estimate=estimate, growth=grown, doubt=shared, rate=speed, cost=PACE * estimate)
            if reading is not None and estimate < HARD * 3 / 4:
                reading = None
            exactly = due(seen, reading, BOUNDS)
            if exactly:
                reading, grown, began = ExactReading(now + seen.cost, true, estimate), 0, true
                pass_on(seen.cost)
                counted = min(estimate, began)
            else:
                counted = used(seen, reading)
            # A look may come late by as much as the tree grows in it and in one reading that was thought harmless
            if counted >= HARD:
                if exactly:
                    assert reading is not None
                    assert reading.exact >= HARD
                else:
                    in_doubt = estimate - counted >= HARD * PAST or shared >= HARD * PAST
                    assert speed * seen.cost * (1 if in_doubt else 4) > HARD * PAST / 2, "there was time to read it"
                assert true <= HARD * (1 + PAST) + speed * step
                return
            assert true <= HARD * (1 + PAST) + speed * step


def used_by(true: int, shared: int, grown: int, reading: ExactReading | None) -> int:
    return used(Look(at=0.0, estimate=true + shared, growth=grown), reading)
