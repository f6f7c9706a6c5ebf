"""Users of this machine: the user of an agent when seqsup is root, and what that user can reach."""

import ctypes
import errno
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from seqsup.errors import SeqsupError
from seqsup.host.folders import HELD
from seqsup.host.trust import user_name
from seqsup.model.plan import Account
from seqsup.text import nearest

# What another user's processes get of root's environment, beside what the profile names
_INHERITED = ("LANG", "LC_*", "TERM", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as systemd, and sudo on most distributions
# Their values name files that are loaded into a program: perhaps the user's own
_LOADING = ("LD_", "GCONV_PATH")
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}  # its number, by machine
_JOIN_SESSION_KEYRING = 1
# Numbers of setgroups(2), setresuid(2) and setresgid(2), by machine
_CREDENTIAL_CALLS = {"x86_64": (116, 117, 119), "aarch64": (159, 147, 149), "riscv64": (159, 147, 149)}
_LOOK = 'cd -- "$1" || exit 20; shift; for file do [ -x "$file" ] || exit 21; done'


class NoAccount(SeqsupError):
    """Agents cannot become this user; the message says why."""


def look_up(name: str, inherit: tuple[str, ...] = ()) -> Account | None:
    """Return the user to become; None if it is the present one.

    `inherit` names the variables of ours that its processes get too, as in `run.inherit`.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise NoAccount(
            f"there is no user {name}{nearest(name, [entry.pw_name for entry in pwd.getpwall()])}"
        ) from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise NoAccount(
            f"only root can start agents as {name}, and this is {user_name(os.geteuid())}:"
            " start seqsup as root, or remove the key"
        )
    return Account(
        name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=tuple(os.getgrouplist(name, entry.pw_gid)),
        home=entry.pw_dir, shell=entry.pw_shell, inherit=inherit,
    )  # fmt: skip


def environment(account: Account | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of our environment that a user's processes get. Another user gets little of it, and its own PATH.

    A name that ends in `*` matches all names that begin so.
    """
    named = {name: value for name, value in environ.items() if name}  # Python starts no process with any other
    if account is None:
        return named
    wanted = (*_INHERITED, *account.inherit)
    exact, begins = set(wanted), tuple(name[:-1] for name in wanted if name.endswith("*"))
    kept = {name: value for name, value in named.items() if name in exact or name.startswith(begins)}
    own = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}
    return {"PATH": _PATH, **kept, **own}


def leave_keyring() -> None:
    """Start a session keyring of our own. A change of user keeps the keyring, and would keep root's keys with it.

    A kernel without keyrings refuses, and then there is nothing to leave.
    """
    if (keyctl := _KEYCTL.get(os.uname().machine)) is not None:
        ctypes.CDLL(None).syscall(keyctl, _JOIN_SESSION_KEYRING, None)


def becoming(account: Account) -> list[str]:
    """Give the words before a command that make it this user's, without a way back."""
    setpriv = shutil.which("setpriv")  # whole: the agent's own PATH may begin with a folder that is not root's
    if setpriv is None:
        raise NoAccount("there is no setpriv on this machine to change the user with: install util-linux")
    return [
        setpriv, "--reuid", str(account.uid), "--regid", str(account.gid),
        "--groups", ",".join(map(str, account.groups)), "--inh-caps", "-all", "--no-new-privs",
    ]  # fmt: skip


def loading_late(
    account: Account | None, command: Sequence[str], env: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Give a command and its environment so that nothing that root still runs takes in a file of the user's.

    LD_LIBRARY_PATH with an empty part means the agent's own folder. These few values are in an argument for a moment.
    """
    late = {name: value for name, value in env.items() if name.startswith(_LOADING)} if account is not None else {}
    if not late:
        return list(command), dict(env)
    given = [f"{name}={value}" for name, value in late.items()]
    return ["/usr/bin/env", *given, *command], {name: value for name, value in env.items() if name not in late}


def out_of_reach(account: Account, folder: str, programs: tuple[str, ...] = ()) -> str:
    """Have the user try: say what cannot be entered or started, or nothing."""
    tried = subprocess.run(
        [*becoming(account), "/bin/sh", "-c", _LOOK, "seqsup", folder, *programs],
        cwd="/", env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    match tried.returncode:
        case 0:
            return ""
        case 20:
            return f"{account.name} cannot enter {folder}"
        case 21:
            return f"{account.name} cannot start {programs[0]}"
        case _:
            return f"nothing can be started as {account.name}: {tried.stderr.strip()}"


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Let the calling thread open and enter only what the user may: a path of the user's can lead anywhere.

    Nothing may wait inside, and no process or thread may be started. The kernel keeps credentials for each thread;
    glibc's own calls would change those of all. Without an account nothing changes.
    """
    if account is None:
        yield
        return
    set_groups, set_uids, set_gids = _credential_calls()
    ours, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
    try:
        set_groups(account.groups)
        set_gids(account.gid)
        set_uids(account.uid)  # last: with it the right to change the others goes
        yield
    finally:
        set_uids(uid)
        set_gids(gid)
        set_groups(ours)


def may_enter(account: Account, folder: str) -> bool:
    """Say whether the user may enter a folder."""
    with suppress(OSError), entering(account, folder):
        return True
    return False


@contextmanager
def entering(account: Account | None, folder: str) -> Iterator[str | int]:
    """Give what chdir(2) takes for a folder: a descriptor, if a user must be able to enter it by itself.

    PermissionError where it may not. By its path root could be led anywhere.
    """
    if account is None:
        yield folder
        return
    try:
        with acting_as(account):
            fd = os.open(f"{folder}/.", HELD)
    except PermissionError:
        raise PermissionError(errno.EACCES, f"{account.name} may not enter it", folder) from None
    try:
        yield fd
    finally:
        os.close(fd)


@cache
def _credential_calls() -> tuple[Callable[[Sequence[int]], None], Callable[[int], None], Callable[[int], None]]:
    """Return what sets groups, effective uid and effective gid: of this thread, where the calls are known."""
    numbers = _CREDENTIAL_CALLS.get(os.uname().machine)
    if numbers is None:
        return os.setgroups, os.seteuid, os.setegid
    call = ctypes.CDLL(None, use_errno=True).syscall
    groups, uids, gids = numbers

    def checked(number: int, *words: object) -> None:
        if call(number, *words):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def set_groups(some: Sequence[int]) -> None:
        checked(groups, len(some), (ctypes.c_uint32 * len(some))(*some))

    return set_groups, lambda uid: checked(uids, -1, uid, -1), lambda gid: checked(gids, -1, gid, -1)


def open_way(folder: Path, top: Path) -> None:
    """Let other users pass through these folders, from `top` down to `folder`, but list none of them."""
    for each in (folder, *folder.parents):
        each.chmod(stat.S_IMODE(each.stat().st_mode) | 0o111)
        if each == top:
            return
