"""`seqsup bench`: what becomes of agents at once, one after another, beside leftovers and under seqsup."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.profiles import agent, shell, write
from helpers.waiting import wait_for
from seqsup.runner import bench_agent_main

Cli = Callable[..., Result]
SMALL = ("--memory", "128MiB")
TIERS = pytest.mark.parametrize("tier", ["", "subreaper"])
FITS: dict[str, Any] = {
    "memory": {"hard": "100MiB", "host_floor": "none"},
    "drain": {"available": "none"},
    "retry": {"attempts": 1},
}


def running(word: str) -> list[int]:
    """List the processes that have this word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def crashes(said: Result) -> dict[str, Any]:
    return {row["way"]: row["crashed"] for row in json.loads(said.stdout)["ways"]}


@pytest.mark.memory
@TIERS
def test_bench_crashes_agents_at_once_and_none_under_seqsup(seqsup: Cli, tier: str) -> None:
    said = seqsup("bench", "--agents", "3", *SMALL, "--json", env={"SEQSUP_TIER": tier}, deadline=120)
    assert said.code == 0, said.stderr
    assert crashes(said) == {
        "all at once": 2,
        "one after another": 0,
        "with leftovers": 1,
        "under seqsup": 0,
    }
    fields = json.loads(said.stdout)
    assert fields["limit"] == 128 * 2**20
    assert fields["by_kernel"] == (fields["tier"] != "subreaper")
    for row in fields["ways"]:
        assert 70 * 2**20 < row["peak"] < 200 * 2**20
        assert row["peak"] <= fields["limit"] or not fields["by_kernel"], row
        assert row["seconds"] > 0.2
    assert not running(f"{bench_agent_main.__file__}\0" + "75")


def test_bench_shows_a_table(seqsup: Cli) -> None:
    said = seqsup("bench", "--agents", "1", *SMALL, env={"COLUMNS": "100"}, deadline=120)
    first, by, _, titles, *rows = said.stdout.splitlines()
    assert first == "1 test agent of 75 MiB in 128 MiB together"
    assert by.startswith("limit kept by ")
    assert titles.split() == ["way", "crashed", "peak", "time"]
    assert [row.split("  ")[1] for row in rows] == [
        "all at once",
        "one after another",
        "with leftovers",
        "under seqsup",
    ]


def test_bench_says_why_a_peak_can_be_above_a_limit_that_is_only_watched(seqsup: Cli) -> None:
    env = {"COLUMNS": "200", "SEQSUP_TIER": "subreaper"}
    said = seqsup("bench", "--agents", "1", *SMALL, env=env, deadline=120)
    assert "looks every 5 ms, so a peak can be above the limit" in said.stdout


def test_bench_runs_a_profile_four_times(seqsup: Cli, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    says = agent("says", ["sh", "-c", f"cat - >>{notes}; echo '{{task}} {{{{x}}' >>{notes}"], stdin="in {summary:bad}")
    bad = shell("bad", "echo no luck >&2; exit 3")
    profile = write(tmp_path, bad, says, run={"on_failure": "continue"}, **FITS)
    said = seqsup("bench", profile, "--yes", "--task", "go", *SMALL, "--json", deadline=120)
    assert said.code == 1
    assert set(crashes(said).values()) == {1}
    assert "1 of 2 crashed without any other agent: no luck" in said.stderr
    assert notes.read_text().count("go {{x}") == 4


def test_bench_asks_before_it_runs_a_profile(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", f"touch {tmp_path}/ran"), **FITS)
    said = seqsup("bench", profile, *SMALL)
    assert (said.code, "may cost money" in said.stderr, "--yes" in said.stderr) == (2, True, True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--memory", "100TiB"), "more than half of the"),
        (("--memory", "20MiB"), "at least 128 MiB"),
        (("--agents", "0"), "a whole number from 1"),
        (("--task", "x"), "--task is for a PROFILE"),
        (("x.toml", "--agents", "2"), "--agents is for test agents"),
    ],
)
def test_bench_refuses_what_it_cannot_do(seqsup: Cli, words: tuple[str, ...], why: str) -> None:
    said = seqsup("bench", *words)
    assert said.code == 2
    assert why in said.stderr


def test_bench_refuses_a_limit_in_which_seqsup_would_start_nothing(seqsup: Cli, tmp_path: Path) -> None:
    floors: dict[str, Any] = {"memory": {"host_floor": "200MiB"}, "drain": {"available": "100MiB"}}
    said = seqsup("bench", write(tmp_path, shell("a", "true"), **floors), "--yes", *SMALL)
    assert (said.code, "at least 300 MiB" in said.stderr) == (2, True)


def test_bench_refuses_to_disturb_a_run(seqsup: Cli, seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    seqsup_started("start", write(tmp_path, shell("a", "sleep 600")))
    wait_for(lambda: "sleep" in seqsup("mem").stdout, 60)
    said = seqsup("bench")
    assert (said.code, "a run is active" in said.stderr) == (3, True)


@TIERS
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_to_bench_leaves_nothing(
    seqsup_started: Callable[..., Started], tmp_path: Path, tier: str, signum: int, code: int
) -> None:
    left = f"987.{os.getpid()}"
    profile = write(
        tmp_path, shell("a", f"setsid sh -c 'exec sleep {left}' & touch {tmp_path}/ready; sleep 600"), **FITS
    )
    bench = seqsup_started("bench", profile, "--yes", *SMALL, env={"SEQSUP_TIER": tier})
    wait_for(lambda: running(left) and (tmp_path / "ready").exists(), 60)
    while bench.process.poll() is None:  # impatient Ctrl-C after the first wait too, up to the very end
        bench.send(signal.Signals(signum))
    said = bench.wait()
    assert said.code == code
    assert 'interrupted while measuring "all at once": bench stopped its agents, and no process' in said.stderr
    assert not running(left)
