"""A profile of thousands of agents runs to its end, and the supervisor's memory does not grow with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import of, proven
from seqsup.units import MIB

WEIGHS = "grep VmHWM /proc/$PPID/status >>weighed"  # the most that the supervisor ever took


def shell(name: str, script: str) -> str:
    return f'[[agents]]\nname = "{name}"\ncommand = ["sh", "-c", "{script}"]'


@pytest.mark.parametrize("many", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_agents_are_run_to_the_end_in_memory_that_does_not_grow(
    seqsup: Callable[..., Result], tmp_path: Path, many: int
) -> None:
    need_bad = (f'[[agents]]\nname = "a{n}"\ncommand = ["true"]\nneeds = ["bad"]' for n in range(many))
    tables = '[run]\non_failure = "continue"\n[memory]\nhost_floor = "none"\n[drain]\navailable = "none"\n'
    agents = [shell("first", WEIGHS), shell("bad", "exit 1"), *need_bad, shell("last", WEIGHS)]
    path = tmp_path / "many.toml"
    path.write_text(tables + "[retry]\nattempts = 1\n" + "\n".join(agents) + "\n")
    plan = seqsup("plan", path, "-v", deadline=250)
    assert plan.code == 0, plan.stderr
    assert f"3–{many + 2}. a0 … a{many - 1}, like this one:" in plan.stdout
    events = proven(seqsup("start", path, "--json", deadline=250))
    assert events[-1]["skipped"] == many
    assert (events[-1]["completed"], events[-1]["gave_up"]) == (2, 1)
    assert len(of(events, "agent_skipped")) == many
    first, last = (int(line.split()[1]) * 1024 for line in (tmp_path / "weighed").read_text().splitlines())
    assert first < 150 * MIB
    assert last - first < 16 * MIB
