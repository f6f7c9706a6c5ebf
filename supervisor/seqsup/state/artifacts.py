"""Artifacts: a summary and files that agents pass on, in a folder of each attempt that belongs to the agent.

The agent may be another user, and the reader may be root: no name leads out of the folder, no link is followed.
"""

import os
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from seqsup.errors import SeqsupError
from seqsup.host.files import DRAFT, replacing
from seqsup.host.folders import HELD, entries
from seqsup.state.run_folder import ANSWER, ARTIFACTS, STDOUT, at_once, tail
from seqsup.text import unstyled

SUMMARY, DETAILS = "summary.md", "details.md"
LONGEST = 16 * 1024  # bytes of a summary: it may become a word of a command, which Linux bounds to 128 KiB
_TAIL = 4000  # bytes of output that replace a missing summary
_PIECE = 1024 * 1024


class ArtifactError(SeqsupError):
    """A file that cannot be stored or shown; the message says why."""


class Stored(Struct, frozen=True):
    """A stored file."""

    name: str  # relative to the folder
    size: int


def put(folder: Path, summary: str | None, details: Sequence[Path], text: str | None = None) -> list[Stored]:
    """Store files under their own names, `text` as details.md, and the summary last: a reader that sees it sees all
    files. Each write is atomic.

    ArtifactError if one of them cannot be stored; files stored before it stay.
    """
    names = [_name(file) for file in details]
    for name in names:
        if names.count(name) > 1:
            raise ArtifactError(f"two files have the name {name}: give them different names")
    short = None if summary is None else summary.encode(errors="replace")
    if short is not None and len(short) > LONGEST:
        told = f"the summary has {len(short)} bytes, more than {LONGEST}"
        raise ArtifactError(f"{told}: shorten it, and give the whole text as details")
    stored = [_store(folder, name, file) for name, file in zip(names, details, strict=True)]
    if text is not None:
        stored.append(Stored(DETAILS, _write(folder, DETAILS, [text.encode(errors="replace")])))
    if short is not None:
        _write(folder, SUMMARY, [short])
        stored.append(Stored(SUMMARY, len(short)))
    return stored


def summary(attempt: Path) -> str:
    """Return an attempt's summary, or else its CLI's answer, or else the end of its output, as text that fits into an
    argument.
    """
    given = _read(attempt / ARTIFACTS, SUMMARY)
    given = _read(attempt, ANSWER) if given is None else given
    if given is None:
        return unstyled(tail(attempt / STDOUT, _TAIL).decode(errors="replace")).strip()
    return given.decode(errors="replace").replace("\0", "").strip()


def has_summary(attempt: Path) -> bool:
    return _read(attempt / ARTIFACTS, SUMMARY) is not None


def files(attempt: Path) -> list[Stored]:
    """List all that an attempt left in its folder; links are not followed."""
    with suppress(FileNotFoundError, NotADirectoryError):  # the agent can put a link in its place
        found = [
            Stored(entry.path, entry.status.st_size)
            for entry in entries(attempt / ARTIFACTS)
            if stat.S_ISREG(entry.status.st_mode) and not _is_temporary(entry.name)
        ]
        return sorted(found, key=lambda each: each.name)
    return []


def opened(attempt: Path, name: str) -> BinaryIO:
    """Open one of an attempt's files. ArtifactError: there is none of this name, or it leads elsewhere."""
    top = attempt / ARTIFACTS
    if name not in {each.name for each in files(attempt)}:
        raise ArtifactError(f"no file {name} in {top}")
    return os.fdopen(_open(top, name), "rb")


class Summaries:
    """One file with the summaries of those before, in Markdown: a heading for each agent. It grows with the run."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW, 0o600)

    def add(self, agent: str, how: str, text: str) -> None:
        """`how` says how it ended, if not well."""
        if not text:
            return
        heading = f"## {agent} ({how})" if how else f"## {agent}"
        with suppress(OSError):  # a full disk: the journal will report it
            os.write(self._fd, f"{heading}\n\n{text}\n\n".encode(errors="replace"))

    def hand_to(self, uid: int, gid: int) -> None:
        """Let one other user read it, and no user change it. Where no access list can be kept, its group reads it."""
        if not _let_read(self._fd, uid):
            os.fchown(self._fd, -1, gid)
            os.fchmod(self._fd, 0o640)

    def close(self) -> None:
        os.close(self._fd)


def _let_read(fd: int, reader: int) -> bool:
    """Give a file a POSIX access list, as in acl(5): its owner reads and writes, one other user reads."""
    if sys.platform != "linux":
        return False
    owner, user, group, mask, other, no_id = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF
    entries = ((owner, 6, no_id), (user, 4, reader), (group, 0, no_id), (mask, 4, no_id), (other, 0, no_id))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(fd, "system.posix_acl_access", packed)
    except OSError:
        return False
    return True


def _name(file: Path) -> str:
    name = file.name
    if name in ("", "..") or _is_temporary(name):
        raise ArtifactError(f"{file} has no name: give files")
    if name == SUMMARY:
        raise ArtifactError(
            f"{file}: {SUMMARY} is the name of the summary: give its text as the summary, or rename the file"
        )
    return name


def _store(folder: Path, name: str, file: Path) -> Stored:
    try:
        with open(file, "rb", opener=at_once) as source:
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactError(f"{file} is not a regular file: give files, or an archive")
            with suppress(FileNotFoundError):
                if (folder / name).samefile(file):
                    return Stored(name, status.st_size)  # it was made there
            size = _write(folder, name, iter(lambda: source.read(_PIECE), b""))
    except IsADirectoryError:
        raise ArtifactError(f"{file} is a folder: give the files, or an archive") from None
    except OSError as error:
        raise ArtifactError(f"{file} cannot be stored in {folder}: {error.strerror}") from None
    return Stored(name, size)


def _write(folder: Path, name: str, pieces: Iterable[bytes]) -> int:
    """Under another name first: a reader, or a kill in the midst, never meets half of it."""
    size = 0
    try:
        with replacing(folder / name, mode=0o600) as target:
            for piece in pieces:
                size += target.write(piece)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise ArtifactError(f"{name} cannot be stored in {folder}: {error.strerror}") from None
    return size


def _is_temporary(name: str) -> bool:
    return name.startswith(DRAFT)


def _open(folder: Path, name: str) -> int:
    """Open without following a link or waiting for a pipe, and only files of the folder's owner (no hard link)."""
    fd = os.open(folder, HELD | os.O_NOFOLLOW)
    try:
        owner = os.fstat(fd).st_uid
        *inner, last = name.split("/")
        for part in inner:
            below = os.open(part, HELD | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        opened = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
    finally:
        os.close(fd)
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
        os.close(opened)
        raise ArtifactError(f"{folder / name} is not a file of the agent's own")
    return opened


def _read(folder: Path, name: str) -> bytes | None:
    try:
        fd = _open(folder, name)
    except (OSError, ArtifactError):
        return None
    try:
        return os.pread(fd, LONGEST, 0)
    finally:
        os.close(fd)
