"""The sockets that a supervisor listens on: in a folder with a short name, which is removed with it."""

import os
import shutil
import socket
import stat
import struct
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from seqsup.host.machine import LINUX
from seqsup.model.plan import Account

_PREFIX = "seqsup-node-"
_LONGEST_PATH = 107 if LINUX else 103  # bytes, of sockaddr_un
_LONGEST_NAME = 20  # bytes, of what follows the prefix
_STALE = 60.0  # seconds: a younger folder may be about to get a socket
_BACKLOG = 128
_UCRED = struct.Struct("3i")  # Linux: pid, uid, gid
_XUCRED = struct.Struct("II68x")  # macOS: version, uid, groups
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # macOS; Python has no names for them


class Sockets:
    def __init__(self) -> None:
        self._folders: dict[bool, Path] = {}
        self._given = 0

    def listen(self, account: Account | None = None) -> tuple[socket.socket, Path]:
        """Return a socket for processes of `account` (or our own user) only, and its path.

        OSError says why there is none.
        """
        path = self._new_path(shared=account is not None)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            listener.bind(os.fspath(path))
            if account is not None:
                os.chown(path, account.uid, account.gid)
            path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener, path

    def close(self) -> None:
        for folder in self._folders.values():
            with suppress(OSError):
                folder.rmdir()
        self._folders.clear()

    def _new_path(self, *, shared: bool) -> Path:
        """Give one for a new socket; with `shared` another user can pass to it."""
        folder = self._folders.get(shared)
        if folder is None or not folder.is_dir():  # a cleanup of /tmp may have removed it
            folder = self._folders[shared] = _make_folder(shared=shared)
        self._given += 1
        return folder / str(self._given)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the pid and the uid of the process at the other end, as they were when it connected."""
    if LINUX:
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    else:
        _, uid = _XUCRED.unpack(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
        pid = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
    return pid, uid


def discard(listener: socket.socket, path: Path) -> None:
    listener.close()
    with suppress(OSError):
        path.unlink()


def _make_folder(*, shared: bool) -> Path:
    """Make a folder with a short name: in the user's runtime folder, or, shared, where another user can pass too."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    fits = len(os.fsencode(runtime)) + len(_PREFIX) + _LONGEST_NAME <= _LONGEST_PATH
    own = not shared and fits and runtime.startswith("/") and os.access(runtime, os.W_OK | os.X_OK)
    base = runtime if own else "/tmp"
    _remove_stale(Path(base))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    if shared:
        folder.chmod(0o711)
    return folder


def _remove_stale(base: Path) -> None:
    """Remove what supervisors that were killed have left."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            old = time.time() - status.st_mtime > _STALE
            if ours and old and not any(map(_listens, folder.iterdir())):
                shutil.rmtree(folder)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass
    return True
