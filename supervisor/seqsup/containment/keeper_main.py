"""A keeper: a process of its own that starts one command and is the subreaper of its tree. Standard library only.

    python -ISE keeper_main.py LINE COMMAND…

LINE is the descriptor of a socket whose other end only the supervisor holds. The keeper sends the leader's pid, then
its exit status. It exits once the kernel says that the tree is empty: its own exit is the proof. When the line breaks,
the supervisor is dead, and the keeper kills its whole tree.
"""

import ctypes
import os
import select
import signal
import sys
from contextlib import suppress

KILL, LET_GO = b"k", b"l"  # orders: kill until the tree is empty; exit, and leave the rest to the supervisor
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_WALL = 0x40000000  # children of every kind, clone()'s too
_CHASE = 1  # milliseconds between looks while killing
_AT_ONCE = 100  # exits: a fork bomb may exit faster than that, and the supervisor's orders would wait


def main() -> None:
    line, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(line, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        leader = _start(command)
    except BlockingIOError as error:  # no room for one more process
        os.write(2, f"seqsup: fork: {error.strerror}\n".encode())
        _say(line, "exit 125")
        return
    _say(line, f"leader {leader}")
    _leave_files()
    poll = select.poll()
    poll.register(line, select.POLLIN)
    poll.register(woken, select.POLLIN)
    killing = False
    while _reap(leader, line, wakes):
        for fd, _ in poll.poll(_CHASE if killing else None):
            if fd == woken:
                with suppress(BlockingIOError):
                    os.read(woken, 4096)
            elif (order := _read(line)) == LET_GO:
                return
            else:
                killing = True
                if not order:
                    poll.unregister(line)
        if killing:
            _kill_children()


def _start(command: list[str]) -> int:
    # os.environ contains a value that Python itself coerced
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 (pathlib would double the time that this takes)
        env = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    keeper = os.getpid()
    if pid := os.fork():
        return pid
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == keeper:  # else it died before that was requested
            for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and exec keeps ignored
                signal.signal(signum, signal.SIG_DFL)
            os.execve(command[0], command, env)
    except OSError as error:
        os.write(2, f"seqsup: {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(125)


def _reap(leader: int, line: int, wakes: int) -> bool:
    """Collect exits; False when the tree is empty. After many, the rest waits for a look at the line."""
    for _ in range(_AT_ONCE):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | _WALL)
        except ChildProcessError:
            return False
        if ended is None:
            return True
        if ended.si_pid == leader:
            how = "exit" if ended.si_code == os.CLD_EXITED else "signal"
            _say(line, f"{how} {ended.si_status}")
    with suppress(BlockingIOError):  # full: it wakes anyway
        os.write(wakes, b"\0")
    return True


def _kill_children() -> None:
    """Kill our children; theirs fall to us then. A child keeps its number until we reap it: no pidfd is needed."""
    for pid in _children():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == own]  # noqa: PTH208


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b") ")[2].split()[1])
    except OSError:
        return 0


def _leave_files() -> None:
    """Close the command's files: the keeper must not hold them open."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):  # the third takes our own last words, should there be any
        os.dup2(nothing, fd)
    os.close(nothing)


def _say(line: int, word: str) -> None:
    with suppress(OSError):  # the supervisor is gone: the next look at the line says so
        os.write(line, f"{word}\n".encode())


def _read(line: int) -> bytes:
    try:
        return os.read(line, 1)
    except OSError:
        return b""


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main()
