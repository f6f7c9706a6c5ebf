"""Files in folders that another user may write to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from seqsup.host.folders import HELD

DRAFT = ".seqsup-"  # what the name of a file begins with that is not whole yet


@contextmanager
def replacing(path: Path, *, mode: int | None = None, owner: tuple[int, int] | None = None) -> Iterator[BinaryIO]:
    """Give a new file to write, which replaces `path` in one step when the block is left without an error.

    The new file is created under a random name and never through a link. It gets its mode and its owner, a uid and a
    gid, before it has its name. Without `mode` the umask decides. A link at `path` is replaced, not followed.
    OSError where that cannot be.
    """
    folder = os.open(path.parent, HELD)
    new = f"{DRAFT}{os.urandom(8).hex()}"
    try:
        first = 0o666 if mode is None else 0o600
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, first, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
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


def replace(path: Path, content: bytes, *, mode: int | None = None, owner: tuple[int, int] | None = None) -> None:
    """Replace a file in one step: a reader has the old one or the new one, whatever fails. See `replacing`."""
    with replacing(path, mode=mode, owner=owner) as file:
        file.write(content)
