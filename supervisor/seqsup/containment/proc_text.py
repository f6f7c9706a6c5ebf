"""Files of /proc that hold names, such as mounts. A name may be any bytes."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct


class Mount(Struct, frozen=True):
    device: str  # major:minor
    shown: str  # the part of the file system that is seen there
    where: str
    filesystem: str
    options: tuple[str, ...]  # of the file system


def mounts(mountinfo: str | None = None) -> Iterator[Mount]:
    """Read the mounts, from the text of a mountinfo or from our own; empty without one."""
    lines: list[str] = []
    with suppress(OSError):
        lines = lines_of(Path("/proc/self/mountinfo")) if mountinfo is None else split(mountinfo)
    for line in lines:
        fields, _, kind = line.partition(" - ")
        device, shown, where = fields.split(" ")[2:5]
        filesystem, _, options = kind.split(" ", 2)
        yield Mount(device, _unescaped(shown), _unescaped(where), filesystem, tuple(options.split(",")))


def filesystem(path: str, mountinfo: str | None = None) -> str:
    """Return the type of the file system that an absolute path without links lies on; empty where it is unknown."""
    above = {"/", *(path[:end] for end, sign in enumerate(path) if sign == "/"), path}
    covering = [mount for mount in mounts(mountinfo) if mount.where in above]
    deepest = max((len(mount.where) for mount in covering), default=0)
    return next((mount.filesystem for mount in reversed(covering) if len(mount.where) == deepest), "")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def lines_of(file: Path) -> list[str]:
    """Read the lines of a file. OSError says why it cannot be read."""
    return split(decoded(file.read_bytes()))


def decoded(content: bytes) -> str:
    """Decode names. Reading text would take a \\r for a line's end."""
    return content.decode(errors="surrogateescape")


def split(text: str) -> list[str]:
    """Return the lines as the kernel ends them: a name may hold what else ends one for Python."""
    return text.removesuffix("\n").split("\n") if text else []
