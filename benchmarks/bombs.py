"""Who survives of a fork bomb, by kind and tier: seqsup stops each at once while it burns."""

import sys
from pathlib import Path

from lab import Failed, Lab, Row, kill, marked
from overshoot import KERNEL, WATCH, tiers

KINDS, SIZE, TRIES = ("tree", "setsid", "comet"), 60, 50
BOMB = Path(__file__).resolve().parent.parent / "tests" / "stubs" / "fork_bomb.py"


def measure(lab: Lab) -> list[Row]:
    return [burn(lab, enforce, kind) for enforce in tiers(lab) for kind in KINDS]


def burn(lab: Lab, enforce: str, kind: str) -> Row:
    """Run bombs that a time limit ends, one after another; their marks tell who is alive after each."""
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
