"""What is still alive after agents that leave processes behind."""

import shutil
import subprocess
import sys

from lab import AGENTS, Lab, Row, kill, marked

COUNT, PEER_COUNT = 100, 5


def measure(lab: Lab) -> list[Row]:
    commands = {f"leaves-{number}": leave(lab, f"s{number}e") for number in range(COUNT)}
    run = lab.supervise(lab.profile("leaves", list(commands.items())))
    alive, named = [], []
    for event in run.events():
        match event["event"]:
            case "attempt_ended":
                named.append(len(event["left_over"]))
            case "agent_ended":
                alive.append(len(marked(commands[event["agent"]][-1])))
    run.end()
    beside = "; ".join([f"seqsup named {sum(named)} of {2 * COUNT}", *(peer(lab, name) for name in PEERS)])
    return [Row("processes left by an agent that leaves 2", alive, "alive", beside, target=0, worst=True)]


def leave(lab: Lab, who: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(AGENTS / "leaves.py"), f"{lab.mark}-{who}"]


PEERS = {
    "shell loop": ["sh", "-c", '"$@"', "sh"],
    "GNU parallel": ["parallel", "--will-cite", "-j1", ":::"],
}


def peer(lab: Lab, name: str) -> str:
    """How many it leaves alive on average; these are ended here."""
    start = PEERS[name]
    if not shutil.which(start[0]):
        return f"{name}: not installed"
    alive = 0
    for number in range(PEER_COUNT):
        command = leave(lab, f"{start[0]}{number}e")
        job = [" ".join(command)] if start[-1] == ":::" else command
        subprocess.run([*start, *job], env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        left = marked(command[-1])
        alive += len(left)
        for pid in left:
            kill(pid)
    return f"{name} leaves {alive / PEER_COUNT:g}"
