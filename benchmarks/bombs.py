"""Processes that survive when seqsup stops a fork bomb, by kind and tier; seconds until a time limit has stopped a
swarm.
"""

import shutil
import sys
from pathlib import Path

from lab import AGENTS, Failed, Lab, Row, kill, marked
from overshoot import KERNEL, WATCH, tiers

KINDS, SIZE, TRIES = ("tree", "setsid", "comet"), 60, 50
SWARMS, STOPS, WALL = {"bomb": 500, "unreaped": 500, "zombies": 8000}, 5, 5
BOMB = Path(__file__).resolve().parent.parent / "tests" / "stubs" / "fork_bomb.py"


def measure(lab: Lab) -> list[Row]:
    rows = [burn(lab, enforce, kind) for enforce in tiers(lab) for kind in KINDS]
    if swarm := compiled(lab):
        rows += [stop(lab, swarm, enforce, kind) for enforce in tiers(lab) for kind in SWARMS]
    return rows


def compiled(lab: Lab) -> str | None:
    if (compiler := shutil.which("cc")) is None:
        return None
    lab.seconds([compiler, "-O1", "-o", program := str(lab.folder / "swarm"), str(AGENTS / "swarm.c")])
    return program


def stop(lab: Lab, swarm: str, enforce: str, kind: str) -> Row:
    """Run swarms that a time limit ends, one after another: seconds from the spawn to SIGTERM."""
    agents = [(f"{enforce}-{kind}-{number}", [swarm, kind, str(SWARMS[kind]), lab.mark]) for number in range(STOPS)]
    tables = ["[memory]", f'enforce = "{enforce}"', "[timeouts]", f'wall = "{WALL}s"', 'grace = "500ms"']
    tables += ["[rlimits]", 'processes = "none"', "[retry]", "attempts = 1", "[drain]", 'available = "none"']
    run = lab.supervise(lab.profile(f"{enforce}-{kind}", agents, *tables))
    unkillable = sum(event["event"] == "unkillable" for event in run.events())
    spawned, stopped = run.moments("spawned"), run.moments("stop_sent", signal="SIGTERM")
    run.end()
    taken = [stopped[name] - spawned[name] for name, _ in agents if name in stopped]
    if len(taken) != STOPS:
        raise Failed(f"{len(taken)} of {STOPS} swarms were stopped:\n{lab.words()}")
    how = {WATCH: "watched", KERNEL: "in a cgroup"}[enforce]
    what = f"{how}: time limit of {WALL} s, {SWARMS[kind]} processes, {kind}"
    return Row(what, taken, "s", f"{unkillable} times unkillable", target=WALL * 1.1, worst=True)


def burn(lab: Lab, enforce: str, kind: str) -> Row:
    """Run bombs that a time limit stops, one after another. Their marks show which processes are alive after each."""
    marks = {f"{kind}-{number}": f"{lab.mark}-{enforce}-{kind}-{number}e" for number in range(TRIES)}
    agents = [(name, [sys.executable, "-S", "-E", str(BOMB), kind, str(SIZE), mark]) for name, mark in marks.items()]
    tables = ["[memory]", f'enforce = "{enforce}"', "[timeouts]", 'wall = "1s"', 'grace = "0s"']
    tables += ["[retry]", "attempts = 1", "[drain]", 'available = "none"']
    run = lab.supervise(lab.profile(f"{enforce}-{kind}", agents, *tables))
    alive, seconds = [], []
    for event in run.events():
        if event["event"] == "agent_ended":
            left = marked(marks[event["agent"]])
            alive.append(len(left))
            seconds.append(event["seconds"])
            for pid in left:
                kill(pid)
    run.end()
    if len(alive) != TRIES:
        raise Failed(f"{len(alive)} of {TRIES} bombs were run:\n{lab.words()}")
    how = {WATCH: "watched", KERNEL: "in a cgroup"}[enforce]
    unscathed = sum(not left for left in alive)
    beside = (
        f"{unscathed} of {TRIES} without survivors; at most {max(seconds) - 1:.2f} s from the time limit to the last"
    )
    return Row(f"{how}: fork bomb of {SIZE}, {kind}", alive, "alive", beside, target=0, worst=True)
