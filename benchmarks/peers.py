"""How others stop the same leak: each is installed from its package, and told to keep 1 GiB of memory.

The leak ends by itself at 3 GiB: some look every few seconds, and some never see a grandchild.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
from lab import AGENTS, NODE, SEQSUP, Lab, Row, kill, marked
from overshoot import LIMIT, SLACK, Note, memory, new_note, over, tiers

CAP = 3 * LIMIT
Start = Callable[[list[str]], list[str]]
PATIENCE = 30.0  # seconds
REPEATS = 3
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "seqsup-benchmarks"
PACKAGES = ("supervisor", "superlance", "circus", "benchexec")

SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {folder}/supervisord.pid
[unix_http_server]
file = {folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:leak]
command = {command}
startsecs = 0
[eventlistener:memmon]
command = {bin}/memmon -c -a 1GB
events = TICK_5
"""
CIRCUS = """
[circus]
endpoint = ipc://{folder}/circus-endpoint
pubsub_endpoint = ipc://{folder}/circus-pubsub
[watcher:leak]
cmd = {command}
respawn = false
[plugin:memory]
use = circus.plugins.resource_watcher.ResourceWatcher
watcher = leak
max_mem = 1G
max_count = 1
process_children = true
loop_rate = 1
"""


def measure(lab: Lab) -> list[Row]:
    if NODE is None or psutil.virtual_memory().available < CAP + SLACK:
        print("peers: needs Node and 4 GiB available, left out", file=sys.stderr)
        return []
    rows = []
    for name, start in {**ours(lab), **dict(installed(lab))}.items():
        for where in ("itself", "a grandchild"):
            rows += against(lab, name, where, start)
    return rows


def against(lab: Lab, name: str, where: str, start: Start) -> list[Row]:
    held, dead, given_up = [], [], 0
    for number in range(REPEATS):
        note = new_note(lab, "".join(filter(str.isalnum, f"{name}{where}{number}")))
        leak = [str(NODE), str(AGENTS / "leaks.mjs"), str(note), str(CAP), lab.mark]
        script = lab.folder / f"{note.name}.sh"
        script.write_text(f"{' '.join(leak)} & wait\n")
        process = lab.start(start(["/bin/sh", str(script)] if where == "a grandchild" else leak))
        seconds = until_dead(note)
        held.append(over(Note(note).held))
        dead += [seconds * 1000] if seconds is not None and Note(note).crossed else []  # a kernel's limit comes first
        given_up += seconds is None
        end_all(lab, process)
        if given_up:
            break  # what looks at nothing will not look at the next
    what = f"{name}, the leak in {where}"
    never = f"not stopped in {PATIENCE:.0f} s; it ends itself at {CAP // LIMIT} GiB" if given_up else ""
    rows = [Row(f"{what}: overshoot", held, "% of the limit", never)]
    return [*rows, Row(f"{what}: from crossing to dead", dead, "ms")] if dead else rows


def until_dead(note: Path) -> float | None:
    """Seconds from the crossing of the limit until the leaking process was gone; None when that took too long."""
    ends = time.monotonic() + PATIENCE
    leaking: psutil.Process | None = None
    while time.monotonic() < ends:
        if leaking is None:
            began, leaking = Note(note).held > 0, holder(note)
            if began and leaking is None:  # between two looks
                return time.monotonic() - Note(note).crossed
        elif not leaking.is_running() or leaking.status() == psutil.STATUS_ZOMBIE:
            return time.monotonic() - Note(note).crossed
        time.sleep(0.002)
    return None


def holder(note: Path) -> psutil.Process | None:
    """Return the process that has the note open. Only the leak itself opens it, whatever its name and its parent."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(file.path == str(note) for file in process.open_files()):
                return process
    return None


def end_all(lab: Lab, process: "subprocess.Popen[bytes]") -> None:
    """The peer first: it would start the leak again."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    lab.end(process)
    for each in family:
        if each.is_running():
            kill(each.pid)
    for pid in marked(lab.mark):
        kill(pid)


def ours(lab: Lab) -> dict[str, Start]:
    """seqsup by each means that this machine has."""
    return {f"seqsup ({enforce})": partial(seqsup, lab, enforce) for enforce in tiers(lab)}


def seqsup(lab: Lab, enforce: str, leak: list[str]) -> list[str]:
    profile = lab.profile(f"peer-{enforce}", [("leak", leak)], *memory(enforce))
    return ["sh", "-c", '"$@"; :', "sh", *SEQSUP, "start", "-q", profile]  # its exit code 1 is what is wanted


def installed(lab: Lab) -> Iterator[tuple[str, Start]]:
    """The peers that can be had here."""
    try:
        programs = install()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"peers: cannot be installed, left out: {error}", file=sys.stderr)
        return

    def from_file(name: str, text: str, *command: str) -> Start:
        def start(agent: list[str]) -> list[str]:
            path = lab.folder / name
            path.write_text(text.format(folder=lab.folder, bin=programs, command=shlex.join(agent)))
            return [*command, str(path)]

        return start

    def pm2(agent: list[str]) -> list[str]:
        by = {} if agent[0] == NODE else {"interpreter": agent[0]}  # its limit holds for scripts of its own Node only
        app = {"name": "leak", "script": agent[1], "args": agent[2:], "autorestart": False, "max_memory_restart": "1G"}
        path = lab.folder / "pm2.json"
        path.write_text(json.dumps({"apps": [app | by]}))
        env = [f"PM2_HOME={lab.folder / 'pm2'}", "PM2_WORKER_INTERVAL=5000"]  # it would look each 30 s
        return ["env", *env, str(CACHE / "node_modules/.bin/pm2-runtime"), "start", str(path)]

    runexec = [f"{programs}/runexec", "--no-container", "--quiet", "--output", os.devnull, "--memlimit"]
    yield "runexec", lambda leak: [*runexec, f"{LIMIT}B", "--", *leak]
    yield "supervisord with memmon -c", from_file("supervisord.conf", SUPERVISORD, f"{programs}/supervisord", "-c")
    yield "circus", from_file("circus.ini", CIRCUS, f"{programs}/circusd")
    if NODE is not None:
        yield "pm2 that looks each 5 s", pm2


def install() -> Path:
    """Install the peers into a cache, once; give the folder of their programs."""
    programs = CACHE / "venv" / "bin"
    if not (programs / "runexec").exists():
        do(sys.executable, "-m", "venv", CACHE / "venv")
        do(programs / "pip", "install", "--quiet", *PACKAGES)
    if NODE is not None and not (CACHE / "node_modules" / "pm2").exists():
        do("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", CACHE, "pm2")
    return programs


def do(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
