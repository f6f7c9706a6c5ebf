"""A machine that is nearly full is a matter for the host's floor, before the kernel picks a victim; run inside, by
tests/system/guest/test_guest.py: there a machine of 1 GiB may be filled."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import agent, of, parsed, write

Cli = Callable[..., Result]
FLOOR = "48MiB"  # the default of a machine of 1 GiB
GROWS = "held = []\nwhile True: held.append(b'x' * (1 << 20))"


def kernel_kills() -> int:
    return int(dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())["oom_kill"])


@pytest.mark.parametrize("processes", [1, 10])
def test_an_agent_that_fills_the_machine_is_stopped_before_the_kernel_picks_a_victim(
    seqsup: Cli, tmp_path: Path, processes: int
) -> None:
    script = f'for n in $(seq {processes}); do {sys.executable} -c "$0" & done; wait'
    profile = write(
        tmp_path, agent("grows", ["sh", "-c", script, GROWS]),
        memory={"hard": "none", "soft": "none", "host_floor": FLOOR, "enforce": "watch"},
    )  # fmt: skip
    before = kernel_kills()
    events = parsed(seqsup("start", profile, "--json", deadline=200).stdout)
    (ended,) = of(events, "attempt_ended")
    assert ended["reason"] == "host-floor", ended
    assert ended["processes"][0]["name"] == Path(sys.executable).name
    assert kernel_kills() == before
    (drained,) = of(events, "drained")
    assert drained["reached"]
