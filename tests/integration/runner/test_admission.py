"""Who may start: what an agent may take must be there, and nobody waits for what there never was."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import of, proven, shell, write
from seqsup.containment.cgroup.parent_limits import Ceiling
from seqsup.policy.learning import Past, expect, need
from seqsup.policy.resources import no_room
from seqsup.units import MIB

Seqsup = Callable[..., Result]


@pytest.mark.parametrize(
    ("room", "most", "need", "floor", "claimed", "why"),
    [
        (900, 1000, 500, 100, None, ""),
        (599, 1000, 500, 100, None, "it may take 500 MiB above memory.host_floor 100 MiB, and 599 MiB are available"),
        (499, 1000, 500, None, None, "it may take 500 MiB, and 499 MiB are available"),
        (99, 1000, None, 100, None, "99 MiB are available, below memory.host_floor 100 MiB"),
        (100, 1000, None, 100, None, ""),
        (1, 1000, None, None, None, ""),
        # nobody is asked for more than there ever was, but for a host's whims
        (1000, 1000, 8000, 100, None, ""),
        (951, 1000, 8000, 100, None, ""),
        (900, 1000, 8000, 100, None, "it may take 850 MiB above memory.host_floor 100 MiB, and 900 MiB are available"),
        (90, 100, 8000, 512, None, "90 MiB are available, below memory.host_floor 512 MiB"),
        # beside others
        (1000, 1000, 400, 100, 500, ""),
        (999, 1000, 400, 100, 500,
         "it may take 400 MiB, running agents 500 MiB more above memory.host_floor 100 MiB, and 999 MiB are available"),
        (500, 1000, 400, 100, 0, ""),  # they have all that they may take
        (450, 1000, 400, None, 100, "it may take 400 MiB, running agents 100 MiB more, and 450 MiB are available"),
        (99, 1000, 400, 100, 500, "99 MiB are available, below memory.host_floor 100 MiB"),
    ],
)  # fmt: skip
def test_what_stands_against_a_start(
    room: int, most: int, need: int | None, floor: int | None, claimed: int | None, why: str
) -> None:
    mib = [None if size is None else size * MIB for size in (room, most, need, floor, claimed)]
    assert no_room(**dict(zip(("room", "most", "need", "floor", "claimed"), mib, strict=True))) == why  # type: ignore[arg-type]


def past(*peaks: int) -> list[Past]:
    return [Past(1, n, "content", "completed", True, 1.0, peak * MIB) for n, peak in enumerate(peaks)]


@pytest.mark.parametrize(
    ("peaks", "hard", "needed"),
    [((), 1000, None), ((400, 400), 1000, None), ((400, 300, 400), 1000, 500), ((900, 900, 900), 1000, 1000)],
)
def test_what_an_agent_took_is_what_it_may_take_again(peaks: tuple[int, ...], hard: int, needed: int | None) -> None:
    assert need(expect(past(*peaks)), hard * MIB) == (None if needed is None else needed * MIB)


def test_a_limit_above_us_leaves_what_it_has_left_and_page_cache(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("700\n")
    (tmp_path / "stat").write_text("anon 100\ninactive_file 50\n")
    ceiling = Ceiling(tmp_path / "max", tmp_path / "current", tmp_path / "stat", "inactive_file")
    assert ceiling.bounds() == (1000, 350)
    (tmp_path / "max").write_text("max\n")
    assert ceiling.bounds() is None
    ceiling.close()


def test_a_limit_beyond_the_machines_room_holds_nobody_up_for_ever(seqsup: Seqsup, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    path = write(tmp_path, shell("a", "true", memory={"hard": total - MIB, "soft": "none"}), drain={"timeout": "20s"})
    assert proven(seqsup("start", path, "--json"))[-1]["exit_code"] == 0


def test_who_waits_says_for_what_and_the_run_stops_with_it(seqsup: Seqsup, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    path = write(
        tmp_path, shell("a", "true"), memory={"host_floor": total}, drain={"timeout": "300ms", "available": "none"}
    )
    result = seqsup("start", path, "--json")
    events = proven(result)
    (waits,) = of(events, "admission_delayed")
    assert "below memory.host_floor" in waits["why"]
    assert result.code == 4
    assert events[-1]["why"].startswith("a was not started: ")
