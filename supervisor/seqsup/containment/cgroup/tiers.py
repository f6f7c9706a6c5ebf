"""Which groups this machine gives: found out by doing, strongest first, and why a better one was not had."""

import os
import secrets
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from seqsup.containment import needs
from seqsup.containment.cgroup import v2
from seqsup.containment.cgroup.claim import Claim
from seqsup.containment.cgroup.files import mounts, own_directory, read, run_name
from seqsup.containment.cgroup.group import Cgroups, Unavailable
from seqsup.containment.cgroup.v1 import CgroupsV1
from seqsup.containment.launcher import wrap
from seqsup.errors import SeqsupError
from seqsup.host.machine import LINUX, in_wsl
from seqsup.model.enums import Enforce
from seqsup.state.run_folder import state_dir
from seqsup.text import nearest
from seqsup.units import MIB

_PATIENCE = 5.0  # seconds for a rehearsal or systemd's answer; they take 10 ms
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_ALL_USERS = ["0", "0", str(2**32 - 1)]  # as the first user namespace maps them
SUBREAPER, PSUTIL = "subreaper", "psutil"

# Shown in plan, doctor and log
WITHOUT_LINUX = (
    "not Linux: experimental, we have not run it on a Mac."
    " Memory is read more slowly, so a leak overshoots further, and no kernel keeps memory.hard."
    " A process that leaves its parents and its session before seqsup sees it is not found."
    " If seqsup is killed, its agent runs on until the next start or `seqsup sweep`."
    " Companions, hooks and concurrency need Linux"
)
_MOUNTED = (
    "mount cgroup v2 with its memory controller (mount -t cgroup2 none /sys/fs/cgroup), or run it where systemd does"
)
_MOUNTED_V1 = "mount cgroup v1's memory controller (mount -t cgroup -o memory none /sys/fs/cgroup/memory)"
_ROOTED = (
    "run it as root, outside of user namespaces: only that may make cgroups of cgroup v1 here;"
    " run.user gives the agents another user"
)
_WRITABLE = (
    "start the container with its cgroup writable (docker run --security-opt writable-cgroups=true …,"
    " podman run --security-opt unmask=/sys/fs/cgroup …) and seqsup as its first process"
)
_SYSTEMD_OF_WSL = "let systemd run: write [boot] systemd=true to /etc/wsl.conf, then run `wsl --shutdown` in Windows"


class NoGroup(SeqsupError):
    """The profile requires a limit by the kernel, and no tier provides it."""

    exit_code = 3


class Chosen(Struct, frozen=True):
    """The means that contain an agent's tree, besides session, subreaper and cookie."""

    groups: Cgroups | None
    tier: str
    detail: str
    why: tuple[str, ...]  # of each better one: why it was not had
    claim: Claim | None = None  # on the groups
    remedy: str = ""  # how to make the kernel enforce memory.hard; empty if it does

    def close(self) -> None:
        """Remove the cgroups. One in which a released process still lives stays until a sweep finds it empty."""
        gone = self.groups is None or self.groups.close()
        if self.claim is not None:
            self.claim.give_up(gone=gone)


def choose(enforce: Enforce, cookie: str, key: str = "memory.enforce", tier: str = "") -> Chosen:
    """Take the strongest tier that works, for the run of this cookie. May move this process to a scope of its own.

    Call it before the reaper starts. With enforce = "cgroup" the kernel must keep hard, else SeqsupError; `key` is
    the profile's that asks for it. With `tier` no other is tried.
    """
    if not LINUX:
        if enforce is Enforce.CGROUP:
            raise NoGroup(f'{key} = "cgroup", but only Linux has cgroups: leave {key} at auto')
        return Chosen(None, PSUTIL, WITHOUT_LINUX, (), remedy="run it on Linux")
    if tier and tier not in (known := [*TIERS, SUBREAPER]):
        near = nearest(tier, known)
        raise NoGroup(f"SEQSUP_TIER = {tier!r} is no tier{near}; unset it, or take one of {', '.join(known)}")
    needs.demand()
    if enforce is Enforce.WATCH:
        return Chosen(None, SUBREAPER, "no cgroup is used (memory.enforce); memory.hard is enforced by watching", ())
    claim, why = _claimed(cookie), list[str]()
    for name, give in TIERS.items():
        if tier not in ("", name):
            continue
        try:
            groups = _rehearsed(give(cookie))
        except (OSError, Unavailable) as error:
            why.append(f"{name}: {_spelled(error)}")
            continue
        if groups.limits or enforce is not Enforce.CGROUP:
            return Chosen(groups, name, groups.detail, tuple(why), claim, remedy="" if groups.limits else remedy())
        groups.close()
    if claim is not None:
        claim.give_up(gone=True)
    better = remedy()
    if enforce is Enforce.CGROUP:
        raise NoGroup(
            f'{key} = "cgroup", but no cgroup with a memory limit is available here:\n'
            + "".join(f"  {line}\n" for line in why)
            + (f"Start it as `{better}`" if better.startswith("systemd-run") else better[0].upper() + better[1:])
            + f", or leave {key} at auto."
        )
    return Chosen(None, SUBREAPER, "", tuple(why), remedy=better)


def _rehearsed(groups: Cgroups) -> Cgroups:
    try:
        rehearse(groups)
    except (OSError, Unavailable):
        groups.close()
        raise
    return groups


def _claimed(cookie: str) -> Claim | None:
    """Claim the cgroups; None if the folder cannot be written, as for a plan. If such a plan is killed, its cgroups are
    not found.
    """
    try:
        return Claim.stake(state_dir(), cookie)
    except OSError:
        return None


def remedy() -> str:
    """Return how to get the strongest tier: a command if systemd runs. If cgroup v1 has memory, mounting v2 does not
    help.
    """
    if in_wsl() and not _systemd_runs():
        return _SYSTEMD_OF_WSL
    if _memory_is_of_v1():
        if not _is_root_of_machine():
            return _ROOTED
        return _WRITABLE if any(where.exists() for _, where in mounts("memory")) else _MOUNTED_V1
    if _systemd_runs():
        return f"systemd-run {'' if os.geteuid() == 0 else '--user '}--scope -p Delegate=yes seqsup start …"
    return _WRITABLE if _contained() else _MOUNTED


def _memory_is_of_v1() -> bool:
    """Say whether a hierarchy of cgroup v1 has the memory controller: v2's has the number 0."""
    lines = (line.split() for line in read("/proc/cgroups").splitlines())
    return any(line[0] == "memory" and line[1] != "0" for line in lines)


def _is_root_of_machine() -> bool:
    """Say whether we are root, and not of a user namespace alone."""
    return os.geteuid() == 0 and read("/proc/self/uid_map").split() == _ALL_USERS


def _contained() -> bool:
    """Return whether the mounted root of cgroup v2 is not the machine's: a container's namespace begins there."""
    return any((where / "cgroup.type").exists() for _, where in mounts(""))


def rehearse(groups: Cgroups) -> None:
    """Start a process in a group, see it there, kill it with the group, and remove that."""
    group = groups.make("rehearsal", 64 * MIB, 64)
    try:
        with subprocess.Popen(
            wrap(["/bin/sh", "-c", "echo in; read line"], group.entry),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                if not _readable(child.stdout.fileno()) or child.stdout.readline() != b"in\n":
                    child.kill()
                    raise Unavailable(child.stderr.read().decode(errors="replace").strip() or "nothing starts in it")
                if child.pid not in group.pids():
                    raise Unavailable("a process that entered it does not appear in it")
                if groups.limits and group.used() is None:
                    raise Unavailable("it does not report used memory")
                pidfd = os.pidfd_open(child.pid)
                group.kill()
                died = _readable(pidfd)
                os.close(pidfd)
                if not died:
                    raise Unavailable("a process in it survived its kill")
            finally:
                child.kill()
    finally:
        removed = _in_time(group.close)
    if not removed:
        raise Unavailable("it cannot be removed")


def _scope(cookie: str) -> Cgroups:
    """Ask systemd to delegate a scope to this very process: the user's manager, or as root the system's."""
    if not any("memory" in read(where / "cgroup.controllers").split() for _, where in mounts("")):
        raise Unavailable("cgroup v2 has no memory controller on this machine")
    busctl, root = shutil.which("busctl"), os.geteuid() == 0
    if busctl is None or not _systemd_runs():
        raise Unavailable("systemd is not running")
    if own_directory("").suffix == ".service" and read(Path(f"/proc/{os.getppid()}/comm")) == "systemd\n":
        raise Unavailable("as the main process of a service seqsup stays there: add Delegate=yes to its unit")
    name = f"{run_name(cookie)}-{secrets.token_hex(2)}.scope"
    properties = ["PIDs", "au", "1", str(os.getpid()), "Delegate", "b", "1", "CollectMode", "s", "inactive-or-failed"]
    asked = subprocess.run(
        [busctl, *([] if root else ["--user"]), f"--timeout={_PATIENCE:.0f}", "call", *_MANAGER, "StartTransientUnit",
         "ssa(sv)a(sa(sv))", name, "fail", "3", *properties, "0"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not asked.stdout.startswith("o "):
        raise Unavailable(f"{asked.stderr.strip() or 'systemd did not answer'} (try: {remedy()})")
    if not _in_time(lambda: own_directory("").name == name):
        raise Unavailable(f"systemd did not move this process to {name}")
    return v2.with_controllers(cookie)


# By the names that plan, doctor, journal and metrics have for them too
TIERS: dict[str, Callable[[str], Cgroups]] = {
    "cgroup2": v2.with_controllers,
    "cgroup2 scope": _scope,
    "cgroup1 with cgroup2": lambda cookie: CgroupsV1(cookie, v2.without_controllers(cookie)),
    "cgroup1": CgroupsV1,
    "cgroup2 without controllers": v2.without_controllers,
}


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").exists()


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(_PATIENCE * 1000))


def _in_time(fact: Callable[[], bool]) -> bool:
    """Ask until it is so. There is no event to wait for, and no loop yet to wait in."""
    ends = time.monotonic() + _PATIENCE
    while not (so := fact()) and time.monotonic() < ends:
        time.sleep(0.001)
    return so


def _spelled(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error)
