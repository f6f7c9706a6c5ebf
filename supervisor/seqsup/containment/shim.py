"""The few words of shell that a leader says before it becomes the agent: they enter its groups, so it is born inside.

Charges do not follow a process that is moved later, and a fork between spawn and move would escape.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache

CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127
_SAYS = b"seqsup: "  # what shells put before their complaints is their $0

# Paths are arguments, never text of the script. 0 is the writer itself, in whatever pid namespace.
_SH = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@"'

# dash throws away variables whose name is no identifier ("npm_config_//host/:_auth", "BASH_FUNC_f%%"). Python is
# 12 ms slower but keeps them, if read from where the kernel put them: os.environ has a coerced LC_CTYPE in it.
_PYTHON = """
import os, signal, sys
at = sys.argv.index("--")
try:
    for path in sys.argv[1:at]:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)
except OSError as error:
    print(f"seqsup: {path}: {error.strerror}", file=sys.stderr)
    os._exit(125)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("/proc/self/environ", "rb") as file:
    env = dict(entry.split(b"=", 1) for entry in file.read().split(b"\\0") if b"=" in entry)
try:
    os.execvpe(sys.argv[at + 1], sys.argv[at + 1:], env)
except OSError as error:
    print(f"seqsup: exec: {sys.argv[at + 1]}: {error.strerror}", file=sys.stderr)
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""


def wrap(
    command: Sequence[str], entry: Sequence[str], *, names: Iterable[str] = (), die_with_us: bool = False
) -> list[str]:
    """Give the command that enters these cgroup.procs files and then becomes `command`.

    `names` are those of the environment it will have. `die_with_us` lets the kernel kill the leader (its children
    not) when the thread that spawned it ends; +1.3 ms, and an agent that changes its user loses it.
    """
    if all(name.isidentifier() and name.isascii() for name in names):
        shim = ["/bin/sh", "-c", _SH, "seqsup"]
    else:
        shim = [sys.executable, "-ISE", "-c", _PYTHON]
    return [*(dying_with_us() if die_with_us else ()), *shim, *entry, "--", *command]


@cache
def dying_with_us() -> tuple[str, ...]:
    """Give the words before a command for that; none where no setpriv can (busybox's cannot).

    It is tried once, and its output asked: its status may be the reaper's.
    """
    if (setpriv := shutil.which("setpriv")) is None:
        return ()
    words = (setpriv, "--pdeathsig", "KILL")
    asked = subprocess.run([*words, "/bin/echo", "yes"], capture_output=True, check=False)
    return words if asked.stdout == b"yes\n" else ()


def complaint(code: int | None, stderr: bytes) -> str | None:
    """Say why the shim did not become the agent; None when it did. `stderr` is all that was written there."""
    if code not in (CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND) or not stderr.startswith(_SAYS):
        return None
    return stderr.removeprefix(_SAYS).splitlines()[0].decode(errors="replace")
