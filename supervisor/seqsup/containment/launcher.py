"""The few words of shell that a leader says before it becomes the agent: it limits itself and enters its groups.

So the agent is born inside: charges do not follow a process that is moved later, and a fork between the spawn and
the move, or the limit, would escape.
"""

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import cache

from msgspec import Struct

from seqsup.host.machine import LINUX
from seqsup.model.profile import Rlimits

CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127
_SAYS = (b"seqsup: ", b"setpriv: ")  # $0, which shells put before their messages
# oom_score_adj: the kernel takes an agent before it takes the supervisor, and a tool before its CLI if that is spared.
# The difference counts as half of the limit, or of the machine
FIRST_VICTIM, AFTER_TOOLS = 1000, 500
_BLOCK = 512  # bytes: what a shell's `ulimit -c` counts in, and in KiB -d

# Paths are arguments, never text of the script. 0 is the writer itself, in whatever pid namespace.
_SH = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift\n'
# A live process has an /proc/PID/exe. Only if that is missing or refused are 70 µs spent to read our parent, because
# $PPID stays as it was when the shell started. A shell variable that the environment has too would reach the agent
# changed
_SH_PARENT = """\
[ -e /proc/{parent}/exe ] || {{
while read -r _seqsup_key _seqsup_parent; do [ "$_seqsup_key" != PPid: ] || break; done </proc/self/status
[ "$_seqsup_parent" = {parent} ] || exit 125
}}
"""
_SH_PARENT_ELSEWHERE = '[ "$PPID" = {parent} ] || exit 125\n'
_SH_EXEC = 'exec "$@"'

# dash drops variables whose name is no identifier ("npm_config_//host/:_auth", "BASH_FUNC_f%%"). Python is 12 ms slower
# but keeps them if they are read from where the kernel put them: os.environ has a coerced LC_CTYPE.
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
"""
_PYTHON_PARENT = """
if os.getppid() != {parent}:
    os._exit(125)
"""
_PYTHON_ENV = """
with open("/proc/self/environ", "rb") as file:
    env = dict(entry.split(b"=", 1) for entry in file.read().split(b"\\0") if b"=" in entry)
"""
_PYTHON_ENV_ELSEWHERE = """
env = dict(os.environb)
if {coerced}:
    env.pop(b"LC_CTYPE", None)
"""
_PYTHON_EXEC = """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    os.execvpe(sys.argv[at + 1], sys.argv[at + 1:], env)
except OSError as error:
    print(f"seqsup: exec: {sys.argv[at + 1]}: {error.strerror}", file=sys.stderr)
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""

_PYTHON_BOUNDS = """
import os, resource, sys
try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("{victim}")
except OSError:
    pass
for number, soft, hard, refusal in {limits}:
    try:
        resource.setrlimit(number, (soft, hard if hard is not None else resource.getrlimit(number)[1]))
    except (OSError, ValueError):
        print(f"seqsup: {{refusal}}", file=sys.stderr)
        os._exit(125)
"""


class Bounds(Struct, frozen=True):
    """Limits of each single process of an agent."""

    rlimits: Rlimits
    soft_nofile: int  # that of the user: the supervisor raised its own
    oom_score_adj: int = FIRST_VICTIM


def wrap(
    command: Sequence[str], entry: Sequence[str], *, names: Collection[str] = (), die_with_us: bool = False,
    bounds: Bounds | None = None, becoming: Sequence[str] = (), parent: int | None = None,
) -> list[str]:  # fmt: skip
    """Return the command that enters these cgroup.procs files and then becomes `command`.

    `names` are the variables of its environment. With `die_with_us` the kernel kills the leader (not its children) when
    the thread that spawned it exits. That takes 1 ms more, and an agent that changes its user loses it. `becoming` are
    the words of setpriv that change the user here, after the cgroups are entered; only root may do that. `parent` is
    the pid that must still be the parent: if it died before the cgroups were entered or PDEATHSIG was set, no signal
    would come.
    """
    dying = dying_with_us() if die_with_us else ()
    became = [*becoming, *dying[1:]] if becoming else []  # a change of user clears earlier requests
    if all(name.isidentifier() and name.isascii() for name in names):
        asks = _SH_PARENT if LINUX else _SH_PARENT_ELSEWHERE
        check = asks.format(parent=parent) if parent is not None else ""
        shim = ["/bin/sh", "-c", "".join(_in_shell(bounds)) + _SH + check + _SH_EXEC, "seqsup"]
    else:
        check = _PYTHON_PARENT.format(parent=parent) if parent is not None else ""
        env = _PYTHON_ENV if LINUX else _PYTHON_ENV_ELSEWHERE.format(coerced="LC_CTYPE" not in names)
        shim = [sys.executable, "-ISE", "-c", "".join(_in_python(bounds)) + _PYTHON + check + env + _PYTHON_EXEC]
    return [*(() if became else dying), *shim, *entry, "--", *became, *command]


def _limits(bounds: Bounds) -> Iterator[tuple[str, int, int, str, int]]:
    """Yield each limit: the key, its number, the limit in bytes; a shell's letter for it, the limit in its unit."""
    nofile, core, data = bounds.rlimits.nofile, bounds.rlimits.core, bounds.rlimits.data
    if nofile is not None:
        yield "nofile", resource.RLIMIT_NOFILE, nofile, "n", nofile
    if core is not None:
        yield "core", resource.RLIMIT_CORE, core, "c", core // _BLOCK
    if data is not None:
        yield "data", resource.RLIMIT_DATA, data, "d", data // 1024


def out_of_reach(rlimits: Rlimits) -> Iterator[tuple[str, str]]:
    """Yield the limits above the hard ones of this process, found by trying, with the way to raise them."""
    for key, number, limit, letter, units in _limits(Bounds(rlimits, 0)):
        soft, hard = resource.getrlimit(number)
        if hard == resource.RLIM_INFINITY or limit <= hard:
            continue
        try:
            resource.setrlimit(number, (soft, limit))
        except (OSError, ValueError):
            remedy = f"lower it, or raise that as root: ulimit -H{letter} {units}"
            yield key, f"{limit} is more than the hard limit {hard}; {remedy}"
        else:
            resource.setrlimit(number, (soft, hard))


def _refusal(key: str, limit: int) -> str:
    return f"rlimits.{key}: {limit} is more than the hard limit here"


def _in_shell(bounds: Bounds | None) -> Iterator[str]:
    if bounds is None:
        return
    yield f"{{ echo {bounds.oom_score_adj} >/proc/self/oom_score_adj; }} 2>/dev/null\n"
    if bounds.rlimits.nofile is None:
        yield f"ulimit -S -n {bounds.soft_nofile} || exit {CANNOT_ENTER}\n"
    for key, _, limit, letter, units in _limits(bounds):
        refused = f'echo "seqsup: {_refusal(key, limit)}" >&2; exit {CANNOT_ENTER}'
        yield f"ulimit -{letter} {units} 2>/dev/null || {{ {refused}; }}\n"


def _in_python(bounds: Bounds | None) -> Iterator[str]:
    if bounds is None:
        return
    limits: list[tuple[int, int, int | None, str]] = [
        (number, limit, limit, _refusal(key, limit)) for key, number, limit, _, _ in _limits(bounds)
    ]
    if bounds.rlimits.nofile is None:
        limits.append((resource.RLIMIT_NOFILE, bounds.soft_nofile, None, ""))
    yield _PYTHON_BOUNDS.format(victim=bounds.oom_score_adj, limits=limits)


@cache
def dying_with_us() -> tuple[str, ...]:
    """Return the words before a command for that; none if setpriv lacks the option (busybox's does).

    It is tried once by its output, because its status may go to the reaper.
    """
    if (setpriv := shutil.which("setpriv")) is None:
        return ()
    words = (setpriv, "--pdeathsig", "KILL")
    asked = subprocess.run([*words, "/bin/echo", "yes"], capture_output=True, check=False)
    return words if asked.stdout == b"yes\n" else ()


def complaint(code: int | None, stderr: bytes) -> str | None:
    """Say why the shim did not become the agent; None if it did. `stderr` is all that was written there."""
    if code not in (CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND) or not stderr.startswith(_SAYS):
        return None
    said = stderr.partition(b"\n")[0].partition(b": ")[2].decode(errors="replace")
    return re.sub(r"^(line )?\d+: ", "", said) or None  # without the line number of our script
