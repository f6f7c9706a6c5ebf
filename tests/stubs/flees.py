"""Leaves the tree in one of many ways, by KIND; prints `ready PID …` of the process that left and holds, or with
--leave exits.

fork, double-fork, setsid: as their names say. closed: a daemon, with a session of its own, no descriptor open and / for
its folder. env-i: restarted with no environment. zeroed: overwrote its environment. renamed: has another name, for the
kernel and in its arguments. setuid: a setuid copy of Python, which became another user. subreaper: adopted by its own
leader. headless: its first thread has exited, another runs on. vfork: a chain of four, each held by its child. deaf:
ignores TERM, INT, HUP. stopped: by SIGSTOP. hung FILE: opens it, and waits in the kernel for an answer.
"""

import ctypes
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from tempfile import TemporaryDirectory

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
CLONE_VFORK, SYS_CLONE = 0x4000, {"x86_64": 56, "aarch64": 220}
HOLDS = """
import os, signal, sys
signal.alarm(60)
os.write(int(sys.argv[1]), b"%d " % os.getpid())
os.close(int(sys.argv[1]))
while True: signal.pause()
"""

kind = sys.argv[1]
libc = ctypes.CDLL(None)
reading, writing = os.pipe()
os.set_inheritable(writing, True)
mark = f"--seqsup-test={os.environ.get('SEQSUP_TEST', '')}"


def say() -> None:
    os.write(writing, b"%d " % os.getpid())


def hold() -> None:
    signal.alarm(60)
    while True:
        signal.pause()


def silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def child(does: Callable[[], None], *, twice: bool = False, session: bool = False) -> int:
    """Fork a process that does this, or have a child fork it; return the pid of the first."""
    if pid := os.fork():
        return pid
    if session:
        os.setsid()
    if not twice or not os.fork():
        silence()
        does()
    os._exit(0)


def say_and_hold() -> None:
    say()
    hold()


def close_all() -> None:
    os.chdir("/")
    say()
    os.closerange(0, 1024)
    hold()


def without_environment() -> None:
    os.execve(sys.executable, [sys.executable, "-ISc", HOLDS, str(writing), mark], {})


def zero_environment() -> None:
    with open("/proc/self/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    ctypes.memset(start, 0, end - start)
    say_and_hold()


def renamed() -> None:
    rename = "import ctypes; ctypes.CDLL(None).prctl(15, b'kworker/0:1', 0, 0, 0)\n"
    os.execv(sys.executable, ["[kworker/0:1]", "-ISc", rename + HOLDS, str(writing), mark])


def other_user() -> None:
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101
        copy = shutil.copy(sys.executable, folder)
        shutil.chown(copy, 65534, 65534)
        os.chmod(copy, 0o6755)  # noqa: PTH101
        become = "import os; os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        if not os.fork():
            os.execv(copy, [copy, "-ISc", become + HOLDS, str(writing), mark])
        hold()


def vforks(depth: int = 4) -> None:
    say()
    if depth and not libc.syscall(SYS_CLONE[os.uname().machine], CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0):
        vforks(depth - 1)
    hold()


def deaf() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    say_and_hold()


def stopped() -> None:
    say()
    os.kill(os.getpid(), signal.SIGSTOP)
    hold()


def headless() -> None:
    threading.Thread(target=say_and_hold).start()
    libc.pthread_exit(None)


def hung() -> None:
    say()
    os.open(sys.argv[2], os.O_RDONLY)


expected = {"vfork": 5, "setuid": 1}.get(kind, 1)
if kind == "subreaper":
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
does = {
    "closed": close_all, "env-i": without_environment, "zeroed": zero_environment, "renamed": renamed,
    "setuid": other_user, "vfork": vforks, "deaf": deaf, "stopped": stopped, "headless": headless,
    "hung": hung,
}.get(kind, say_and_hold)  # fmt: skip
plain = kind in ("fork", "setsid", "deaf", "stopped", "hung")
first = child(does, twice=not plain, session=kind not in ("fork", "double-fork", "hung"))
if not plain:
    os.waitpid(first, 0)
os.close(writing)
said: list[str] = []
with os.fdopen(reading) as pipe:
    text = ""
    while len(text.split()) < expected or not text.endswith(" "):
        text += os.read(pipe.fileno(), 512).decode()
print("ready", *text.split(), flush=True)
if "--leave" not in sys.argv:
    if kind == "deaf":
        deaf_too = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for signum in deaf_too:
            signal.signal(signum, signal.SIG_IGN)
    hold()
