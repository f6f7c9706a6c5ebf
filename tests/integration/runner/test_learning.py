"""Expectations from past attempts: pure, and as shown by plan, status, tune and the log."""

import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.past import learned, state_dir
from helpers.profiles import agent, of, proven, shell, write
from helpers.waiting import wait_for
from seqsup.units import MIB

Seqsup = Callable[..., Result]
Start = Callable[..., Started]


def test_plan_says_what_agents_usually_take_and_why_they_are_taken(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("ui", "true", when=["button", "form"]), shell("db", "true", when=["sql"]))
    learned(profile, "ui", 300, 310, 320)
    shown = seqsup("plan", profile, "-v", "--task", "Mend the Button").stdout
    assert "usually 30 s, highest peak 310 MiB" in " ".join(shown.split())
    assert "30 s, peak 310 MiB; of 3 attempts 95 % within 30 s and 320 MiB" in " ".join(shown.split())
    assert "taken" in shown
    assert "the task has button" in shown
    assert "db: the task contains none of the words sql" in shown
    told = json.loads(seqsup("plan", profile, "--task", "Mend the Button", "--json").stdout)
    assert told["routing"] == [
        {"agent": "ui", "taken": True, "why": "the task has button"},
        {"agent": "db", "taken": False, "why": "the task contains none of the words sql"},
    ]
    assert told["steps"][0]["expected"]["peak"] == 310 * MIB
    fresh = json.loads(seqsup("plan", profile, "--only", "db", "--json").stdout)
    assert (fresh["routing"][0]["why"], fresh["steps"][0]["expected"]) == ("named with --only", None)


def test_status_says_about_how_long_the_rest_will_take(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    waits = "touch ran; while [ ! -e gate ]; do sleep 0.01; done"
    profile = write(tmp_path, shell("a", waits), shell("b", "true"), shell("new", "true"))
    learned(profile, "b", 10, seconds=300)
    process = seqsup_started("start", profile)
    wait_for((tmp_path / "ran").exists)
    status = " ".join(seqsup("status").stdout.split())
    assert "about 5 min left, and 2 agents that never ran" in status
    assert json.loads(seqsup("status", "--json").stdout)["remaining"] == {"seconds": 300, "agents_unknown": 2}
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


@pytest.mark.memory
def test_peak_that_rose_is_reported_with_its_numbers(seqsup: Seqsup, tmp_path: Path) -> None:
    grows = f"held = b'x' * {200 * MIB}; import time; time.sleep(1)"
    profile = write(tmp_path, agent("a", [sys.executable, "-c", grows]))
    learned(profile, "a", 20, 21, 22, 23, 24)
    events = proven(seqsup("start", profile, "--json"))
    (rose,) = of(events, "peak_rose")
    assert (rose["agent"], rose["usual"], rose["attempts"]) == ("a", 22 * MIB, 5)
    assert rose["peak"] > 150 * MIB
    log = (state_dir() / "runs/r6/seqsup.log").read_text()
    assert "its median 22 MiB of 5 attempts" in log


def test_tune_suggests_and_writes_and_keeps_the_rest_as_it_is(seqsup: Seqsup, tmp_path: Path) -> None:
    text = """# nightly, by hand
[memory]
host_floor = "none"

[[agents]]
name = "one"  # the first
command = ["true"]
memory = { hard = "4GiB" }   # too much

[[agents]]
name = "each"
command = ["echo", "{item}"]
for_each = ["x", "y"]
[agents.env]
MODE = "fast"

[[agents]]
name = "new"
command = ["true"]
"""
    profile = tmp_path / "nightly.toml"
    profile.write_text(text)
    learned(profile, "one", 300, 310, 320)
    learned(profile, "each.1", 90, 100)
    learned(profile, "each.2", 110)
    shown = seqsup("tune", profile)
    assert shown.code == 0, shown.stderr
    told = tomllib.loads(shown.stdout)["agents"]
    assert told == [
        {"name": "one", "memory": {"soft": "448MiB", "hard": "512MiB"}, "timeouts": {"wall": "2m"}},
        {"name": "each", "memory": {"soft": "192MiB", "hard": "256MiB"}, "timeouts": {"wall": "2m"}},
    ]
    assert "new (has 0): 3 successful runs are needed" in shown.stderr
    assert profile.read_text() == text
    assert seqsup("tune", profile, "--write").code == 0
    changed = profile.read_text()
    assert [line for line in text.splitlines() if line not in changed.splitlines()] == [
        'memory = { hard = "4GiB" }   # too much'
    ]
    steps = json.loads(seqsup("plan", profile, "--json").stdout)["steps"]
    assert [step["limits"]["hard"] // MIB for step in steps[:3]] == [512, 256, 256]
    assert [step["timeouts"]["wall"] for step in steps] == [120, 120, 120, 3600]
    tuned = json.loads(seqsup("tune", profile, "--json").stdout)
    assert (tuned["schema"], tuned["agents"][0]["peak_p95"]) == ("seqsup.tune/1", 320 * MIB)


@pytest.mark.parametrize(("begins", "ends"), [("", "\r\n"), ("\ufeff", "\n"), ("\ufeff", "\r\n")])
def test_tune_keeps_a_profile_as_an_editor_of_another_system_leaves_it(
    seqsup: Seqsup, tmp_path: Path, begins: str, ends: str
) -> None:
    lines = ["# by hand", "[[agents]]", 'name = "a"', 'command = ["true"]', 'memory = { hard = "4GiB" }', ""]
    (tmp_path / "kept").mkdir()
    profile, link = tmp_path / "kept/nightly.toml", tmp_path / "nightly.toml"
    profile.write_bytes((begins + ends.join(lines)).encode())
    os.chown(profile, *(owner := (os.geteuid(), 1234 if os.geteuid() == 0 else os.getegid())))
    link.symlink_to(profile)
    learned(link, "a", 300, 310, 320)
    tuned = seqsup("tune", link, "--write")
    assert tuned.code == 0, tuned.stderr
    changed = profile.read_bytes().decode()
    assert changed.startswith(begins + ends.join(lines[:4]))
    assert (changed.count("\n"), changed.count(ends)) == (6, 6)
    assert json.loads(seqsup("plan", profile, "--json").stdout)["steps"][0]["limits"]["hard"] == 512 * MIB
    assert (link.is_symlink(), (profile.stat().st_uid, profile.stat().st_gid)) == (True, owner)


def test_tune_leaves_alone_what_it_could_not_write_whole(seqsup: Seqsup, tmp_path: Path) -> None:
    text = (
        '[[agents]]\nname = "a"\ncommand = ["true"]\n\n[run]\nchain = 3\n\n[[agents]]\nname = "b"\ncommand = ["true"]\n'
    )
    profile = tmp_path / "nightly.toml"
    profile.write_text(text)
    learned(profile, "a", 300, 310, 320)
    refused = seqsup("tune", profile, "--write")
    assert refused.code in (0, 2)
    if refused.code == 2:
        assert (profile.read_text(), "[[agents]] next to each other" in refused.stderr) == (text, True)


def test_before_anything_ran_tune_has_nothing_to_say(seqsup: Seqsup, tmp_path: Path) -> None:
    tuned = seqsup("tune", write(tmp_path, shell("a", "true")))
    assert (tuned.code, tuned.stdout) == (0, "")
    assert "3 successful runs are needed" in tuned.stderr
