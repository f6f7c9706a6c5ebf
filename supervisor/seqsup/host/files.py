"""Files in folders that another user may write to."""

import os
from contextlib import suppress
from pathlib import Path

from seqsup.host.folders import HELD


def replace(path: Path, content: bytes, *, mode: int | None = None, owner: tuple[int, int] | None = None) -> None:
    """Replace a file in one step: a reader has the old one or the new one, whatever fails.

    The new file is created under a random name and never through a link. It gets its mode and its owner, a uid and a
    gid, before it has its name. Without `mode` the umask decides. A link at `path` is replaced, not followed.
    OSError where that cannot be.
    """
    folder = os.open(path.parent, HELD & ~os.O_NOFOLLOW)
    new = f".seqsup-{os.urandom(8).hex()}"
    try:
        first = 0o666 if mode is None else 0o600
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, first, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                if owner is not None:
                    os.fchown(fd, *owner)
                if mode is not None:
                    os.fchmod(fd, mode)
            os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=folder)
            raise
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        os.close(folder)
