"""Who may start: what an agent may take must be there, and nobody waits for what there never was."""

from collections.abc import Callable
from pathlib import Path

from helpers.command_line import Result
from helpers.profiles import of, proven, shell, write
from seqsup.containment.cgroup.parent_limits import Ceiling
from seqsup.units import MIB

Seqsup = Callable[..., Result]


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
