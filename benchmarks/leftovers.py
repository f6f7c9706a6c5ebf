"""Processes that are still alive after agents that leave some behind."""

import shlex
import shutil
import sys
import time
from pathlib import Path

from lab import AGENTS, Failed, Lab, Row, marked
from peers import Start, end_all, installed

COUNT, PEER_COUNT = 100, 5
PATIENCE = 30.0  # seconds until a peer's agent has ended
SETTLE = 1.0  # seconds that a peer has then, to end what the agent left


def measure(lab: Lab) -> list[Row]:
    commands = {f"leaves-{number}": leave(f"{lab.mark}-s{number}e") for number in range(COUNT)}
    run = lab.supervise(lab.profile("leaves", list(commands.items())))
    alive, named = [], []
    for event in run.events():
        match event["event"]:
            case "attempt_ended":
                named.append(len(event["left_over"]))
            case "agent_ended":
                alive.append(len(marked(commands[event["agent"]][-1])))
    run.end()
    beside = "; ".join(
        [f"seqsup named {sum(named)} of {2 * COUNT}", *(peer(lab, *each) for each in peers(lab).items())]
    )
    return [Row("processes left by an agent that leaves 2", alive, "alive", beside, target=0, worst=True)]


def leave(mark: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(AGENTS / "leaves.py"), mark]


def peers(lab: Lab) -> dict[str, Start]:
    here: dict[str, Start] = {"shell loop": lambda agent: ["sh", "-c", '"$@"; :', "sh", *agent]}
    if shutil.which("parallel"):
        here["GNU parallel"] = lambda agent: ["parallel", "--will-cite", "-j1", ":::", shlex.join(agent)]
    return here | dict(installed(lab))


def peer(lab: Lab, name: str, start: Start) -> str:
    """How many it leaves alive on average; these are ended here."""
    alive = 0
    for number in range(PEER_COUNT):
        mark = f"{lab.mark}-{''.join(filter(str.isalnum, name))}{number}e"
        script, over = lab.folder / f"{mark}.sh", lab.folder / f"{mark}.over"
        script.write_text(f"{shlex.join(leave(mark))}\n: >{shlex.quote(str(over))}\n")
        process = lab.start(start(["/bin/sh", str(script)]))
        wait_for(over, name)
        time.sleep(SETTLE)
        alive += len([pid for pid in marked(mark) if "leaves.py" in words(pid)])
        end_all(lab, process)
    return f"{name} leaves {alive / PEER_COUNT:g}"


def wait_for(path: Path, name: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > ends:
            raise Failed(f"{name} has not run its agent after {PATIENCE:.0f} s")
        time.sleep(0.01)


def words(pid: int) -> str:
    """Its command line; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
