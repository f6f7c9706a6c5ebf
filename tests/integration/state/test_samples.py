"""The timeline: a line a second while an agent lives longer than that, and nothing else."""

import sys
from collections.abc import Callable
from pathlib import Path

from helpers.command_line import Result
from helpers.profiles import agent, of, proven, shell, write
from helpers.told import Told, process
from seqsup.model.events import AttemptEnded
from seqsup.model.process import Observation, ProcessMemory, Sample
from seqsup.model.process_names import by_program
from seqsup.state import samples
from seqsup.state.samples import SamplesFile
from seqsup.units import MIB


def seen(at: float, used: int, processes: tuple[ProcessMemory, ...] | None = None, of: str = "a") -> Observation:
    sample = Sample(at=at, used=used, processes=1, host_available=1024 * MIB)
    return Observation(agent=of, attempt=1, sample=sample, took=0.001, processes=processes)


def test_a_line_carries_the_peak_since_the_one_before(tmp_path: Path) -> None:
    keeper = SamplesFile(tmp_path)
    for used in (10, 90, 20):
        keeper.observe(seen(1.0, used))
    keeper.observe(seen(2.0, 30, (process(1, "node a.js", 30),)))
    keeper.observe(seen(3.0, 40, (process(1, "node a.js", 25), process(2, "node a.js", 15))))
    keeper.close()
    assert [(line.used, line.peak, line.programs) for line in samples.read(tmp_path)] == [
        (30, 90, {"node a.js": 30}),
        (40, 40, {"node a.js": 40}),
    ]


def test_the_end_of_an_attempt_writes_what_came_after_its_last_line(tmp_path: Path) -> None:
    told = Told().run("a").started("a").ended("a").started("a", 2).ended("a", number=2)
    keeper = SamplesFile(tmp_path)
    for recorded in told.events:
        if isinstance(recorded.body, AttemptEnded) and recorded.body.attempt == 1:
            keeper.observe(seen(1.0, 30, (process(1, "node a.js", 30),)))
            keeper.observe(seen(1.5, 700))
        elif isinstance(recorded.body, AttemptEnded):
            keeper.observe(seen(4.0, 5))  # over within a second
        keeper(recorded)
    keeper.close()
    assert [(line.used, line.peak) for line in samples.read(tmp_path)] == [(30, 30), (700, 700)]


def test_each_agent_in_lanes_has_its_own_peak_and_end(tmp_path: Path) -> None:
    told = Told().run("a", "b").started("a").started("b").ended("a").ended("b")
    keeper = SamplesFile(tmp_path)
    for at, used in ((1.0, 10), (1.1, 90), (1.2, 20)):
        for name in "ab":
            keeper.observe(seen(at, used, of=name))
    for name in "ab":
        keeper.observe(seen(2.0, 30, (process(1, f"node {name}.js", 30),), of=name))
    for name in "ab":
        keeper.observe(seen(2.5, 700, of=name))
    for recorded in told.events:
        keeper(recorded)
    keeper.close()
    assert [(line.agent, line.used, line.peak, line.programs) for line in samples.read(tmp_path)] == [
        (name, used, peak, {f"node {name}.js": 30}) for used, peak in ((30, 90), (700, 700)) for name in "ab"
    ]


def test_a_torn_last_line_is_left_out_and_no_file_is_an_empty_timeline(tmp_path: Path) -> None:
    assert list(samples.read(tmp_path)) == []
    keeper = SamplesFile(tmp_path)
    keeper.observe(seen(1.0, 30, ()))
    keeper.close()
    path = tmp_path / samples.FILE
    path.write_bytes(path.read_bytes() * 2 + b'{"event":"memory_sampl')
    assert len(list(samples.read(tmp_path))) == 2


def test_programs_are_summed_by_the_name_that_their_user_gives_them() -> None:
    some = (
        process(1, "/usr/bin/node agent.js", 5),
        process(2, "/usr/bin/node mcp.js", 9),
        process(3, "node agent.js", 7),
    )
    assert by_program(some) == {"node agent.js": 12, "node mcp.js": 9}


def test_a_run_keeps_a_timeline_of_what_lasts_and_its_journal_does_not_know_it(
    seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    profile = write(
        tmp_path, shell("short", "exit 0"), agent("long", [sys.executable, "-c", "import time; time.sleep(2.4)"])
    )
    result = seqsup("start", profile, "--json", env={"SEQSUP_STATE_DIR": str(tmp_path / "state")})
    assert result.code == 0
    ended = {event["agent"]: event["seconds"] for event in of(proven(result), "attempt_ended")}
    folder = tmp_path / "state" / "runs" / "r1"
    lines = list(samples.read(folder))
    lines = [line for line in lines if line.agent == "long" or ended[line.agent] < 1]
    assert {line.agent for line in lines} == {"long"}
    assert 2 <= len(lines) <= ended["long"] + 3
    assert all(line.peak >= line.used for line in lines)
    assert lines[0].used > 0
    assert lines[0].programs
    assert (folder / samples.FILE).stat().st_mode & 0o777 == 0o600


def test_a_run_of_short_agents_leaves_no_timeline(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    result = seqsup("run", "--", "true", env={"SEQSUP_STATE_DIR": str(tmp_path / "state")})
    assert result.code == 0
    assert not list((tmp_path / "state").rglob(samples.FILE))


def test_timeline_that_cannot_be_written_is_dropped_and_the_run_continues(
    seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    in_the_way = shell("short", f"mkdir $SEQSUP_FOLDER/{samples.FILE}")
    profile = write(tmp_path, in_the_way, agent("long", [sys.executable, "-c", "import time; time.sleep(2.4)"]))
    result = seqsup("start", profile, "--json", env={"SEQSUP_STATE_DIR": str(tmp_path / "state")})
    assert result.code == 0
    (warned,) = of(proven(result), "warned")
    assert warned["message"].startswith(
        "SamplesFile failed and is disabled for the rest of this run: IsADirectoryError"
    )
