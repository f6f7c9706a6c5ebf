"""Retention removes what old runs left, and nothing else."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import of, proven, shell, write
from helpers.told import Told
from helpers.waiting import wait_for
from seqsup.state.journal import Journal
from seqsup.state.retention import Kept, too_much
from seqsup.state.run_folder import LOCK, MEMBERS, private, run_folder

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
DAY = 86400.0
WAITS = "touch ran; while [ ! -e gate ]; do sleep 0.01; done"
RUNS = st.builds(Kept, run=st.integers(1, 50), name=st.just("n"), age=st.floats(0, 1e7), size=st.integers(0))


def state_dir() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"])


def aged(days: float, profile: str | None, *, ended: bool = True, members: bool = False) -> int:
    """A run as it was left so many days ago."""
    journal = Journal.open(state_dir(), write=True)
    run = journal.begin("nightly", profile, os.urandom(16).hex())
    told = Told().run("a").attempt("a").agent_ended("a")
    for recorded in (told.run_ended(0) if ended else told).events:
        journal.append(run, recorded.body)
    journal.flush()
    journal._db.execute("UPDATE events SET at = ? WHERE run = ?", (time.time() - days * DAY, run))
    journal._db.execute("UPDATE runs SET started = ? WHERE run = ?", (time.time() - days * DAY - 60, run))
    journal.close()
    folder = private(run_folder(state_dir(), run) / "a" / "1")
    (folder / "stdout.log").write_bytes(b"x" * 100_000)
    if members:
        (run_folder(state_dir(), run) / MEMBERS).write_text("")
    return run


def folders() -> set[str]:
    return {folder.name for folder in (state_dir() / "runs").iterdir()}


def listed() -> list[int]:
    journal = Journal.open(state_dir())
    try:
        return [row.run for row in journal.runs()]
    finally:
        journal.close()


def test_a_start_removes_its_own_profiles_runs_that_are_too_old_and_says_so(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), run={"keep": "2d"})
    aged(30, str(profile))  # r1
    aged(30, "/another.toml")
    aged(3, str(profile))
    aged(1, str(profile))
    aged(30, str(profile))  # its last run stays: --resume may still need it
    events = proven(seqsup("start", profile, "--json"))
    (removed,) = of(events, "runs_removed")
    assert removed["runs"] == ["r1", "r3"]
    assert removed["bytes"] >= 200_000
    assert listed() == [2, 4, 5, 6]
    assert folders() == {"r2", "r4", "r5", "r6"}
    assert "older than run.keep 2 days" in (state_dir() / "runs/r6/seqsup.log").read_text()
    assert seqsup("status", "r1").code == 2
    journal = Journal.open(state_dir())
    assert {past.run for past in journal.past(str(profile), "a")} == {1, 3, 4, 5, 6}, "what was learned is kept"
    journal.check()


def test_age_counts_from_the_last_event_of_a_run(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), run={"keep": "2d"})
    run = aged(30, str(profile), ended=False)
    journal = Journal.open(state_dir(), write=True)
    journal.append(run, Told().run("a", resumed=True).events[0].body)  # it was resumed a moment ago
    journal.close()
    aged(30, str(profile))
    assert seqsup("start", profile).code == 0
    assert listed() == [1, 2, 3]


def test_run_that_cannot_be_removed_does_not_block_others(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), run={"keep": "2d"})
    for _ in range(4):
        aged(30, str(profile))
    for run in (1, 3):
        (run_folder(state_dir(), run) / LOCK).symlink_to(LOCK)  # in a circle: that stops root too
    events = proven(seqsup("start", profile, "--json"))
    assert [event["runs"] for event in of(events, "runs_removed")] == [["r2"]]
    assert ["cannot be removed" in event["message"] for event in of(events, "warned")] == [True, True]
    cleaned = seqsup("artifacts", "clean", "--days", "7")
    assert (cleaned.stdout.split()[0], "r1 stays" in cleaned.stderr) == ("r4", True)


def test_folder_that_a_tool_made_read_only_is_removed_too(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), run={"keep": "2d"})
    run = aged(30, str(profile))
    aged(30, str(profile))
    cache = private(run_folder(state_dir(), run) / "a/1/artifacts/mod")
    (cache / "file").touch()
    (run_folder(state_dir(), run) / "link").symlink_to(tmp_path)
    cache.chmod(0o500)
    cache.parent.chmod(0o500)
    assert seqsup("start", profile).code == 0
    assert "r1" not in folders()
    assert profile.exists()


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may enter every folder")
def test_unreadable_folder_does_not_delay_a_start(tmp_path: Path) -> None:
    """After a `chmod -R 644` its names can be listed, but no file can be examined."""
    profile = write(tmp_path, shell("a", "true"), run={"keep": "2d"})
    run = aged(30, str(profile))
    aged(30, str(profile))
    made = private(run_folder(state_dir(), run) / "a/1/artifacts/made/within")
    (made / "file").touch()
    (made.parent / "file").touch()
    for folder in (made, made.parent):
        folder.chmod(0o644)
    powers = "-dac_override,-dac_read_search"
    humbly = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    command = [*humbly, sys.executable, "-m", "seqsup", "start", str(profile)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "r1" not in folders()


def test_clean_removes_by_age_and_size_and_never_what_lives(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    for days in (9, 8, 7, 6):
        aged(days, None)
    aged(9, None, members=True)  # r5: died, and not recovered yet
    process = seqsup_started("start", write(tmp_path, shell("a", WAITS)))
    wait_for((tmp_path / "ran").exists)  # r6, after it put r5 in order
    (run_folder(state_dir(), 5) / MEMBERS).touch()
    before = listed()
    dry = seqsup("artifacts", "clean", "--days", "7.5", "--dry-run")
    assert (dry.code, [line.split()[0] for line in dry.stdout.splitlines()]) == (0, ["r1", "r2"])
    assert listed() == before
    real = seqsup("artifacts", "clean", "--days", "7.5")
    assert real.code == 0
    assert listed() == [3, 4, 5, 6]
    assert seqsup("artifacts", "clean", "--days", "9.5").stderr == "seqsup: nothing to remove\n"
    assert seqsup("artifacts", "clean", "--max-size", "0").code == 0
    assert listed() == [5, 6]
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


@pytest.mark.parametrize("args", [[], ["--days", "x"], ["--max-size", "1X"], ["--days", "-1"]])
def test_a_slip_of_the_pen_removes_nothing(seqsup: Seqsup, args: list[str]) -> None:
    aged(9, None)
    refused = seqsup("artifacts", "clean", *args)
    assert refused.code == 2
    assert listed() == [1]


@given(
    runs=st.lists(RUNS, unique_by=lambda each: each.run),
    days=st.none() | st.floats(0, 100),
    size=st.none() | st.integers(0),
)  # fmt: skip
def test_kept_runs_are_within_both_bounds_and_no_run_is_removed_without_need(
    runs: list[Kept], days: float | None, size: int | None
) -> None:
    going = too_much(runs, days=days, size=size)
    staying = [each for each in runs if each not in going]
    assert days is None or all(each.age <= days * DAY for each in staying)
    assert size is None or sum(each.size for each in staying) <= size
    young = [each for each in runs if days is None or each.age <= days * DAY]
    for each in going:  # when it went, there was too much of what is not older than it
        needed = size is not None and sum(one.size for one in young if one.run >= each.run) > size
        assert each not in young or needed


def test_learned_peaks_outlive_their_run_and_are_bounded(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, write=True)
    runs = [journal.begin("nightly", "p", str(n)) for n in range(60)]
    for run in runs:
        for recorded in Told().run("a").attempt("a").events:
            journal.append(run, recorded.body)
    for run in runs[:-1]:
        journal.forget(run)
    left = journal._db.execute("SELECT count(*) FROM attempts").fetchone()[0]
    assert left == 50
    journal.close()
