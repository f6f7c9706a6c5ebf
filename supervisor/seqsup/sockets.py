"""Where the sockets of a supervisor are: in a folder with a short name, which is removed with it."""

import contextlib
import os
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path

_PREFIX = "seqsup-node-"
_LONGEST_PATH, _LONGEST_NAME = 107, 20  # bytes, of sockaddr_un, and of what follows the prefix
_STALE = 60.0  # seconds: a younger folder may be about to get a socket


class Sockets:
    def __init__(self) -> None:
        self._folders: dict[bool, Path] = {}
        self._given = 0

    def path(self, *, shared: bool = False) -> Path:
        """Give a path for a new one; with `shared` another user can pass to it. OSError says why there is none."""
        folder = self._folders.get(shared)
        if folder is None or not folder.is_dir():  # who tidies up there may have taken it
            folder = self._folders[shared] = _make_folder(shared=shared)
        self._given += 1
        return folder / str(self._given)

    def close(self) -> None:
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._folders.clear()


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
        with contextlib.suppress(OSError):
            status = folder.lstat()
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            old = time.time() - status.st_mtime > _STALE
            if ours and old and not any(map(_listens, folder.iterdir())):
                shutil.rmtree(folder)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass
    return True
