"""What travels with a job: the text of its profile, and the small files that seqsup itself reads for it.

On the embedded queue a job runs where it was added, so only the text travels: `order_of`. For another machine `pack`
adds the files, and `unpack` lays them out there.
"""

import os
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from msgspec.structs import replace

from seqsup.errors import SeqsupError
from seqsup.host import folders, users
from seqsup.host.machine import machine_id
from seqsup.model.kinds import KeyPath
from seqsup.model.plan import Account
from seqsup.model.profile import AgentTable, Profile
from seqsup.plan.expand import is_copy, numbered
from seqsup.plan.items import reader_of
from seqsup.plan.preset_files import user_folder
from seqsup.plan.select import Choice
from seqsup.profile import placeholders
from seqsup.profile.complaint import ProfileError, complaints
from seqsup.queue.jobs import Order
from seqsup.state.run_folder import at_once, private, straight
from seqsup.units import format_size

LARGEST = 1024 * 1024  # bytes of a file
MOST = 16 * 1024 * 1024  # bytes of all files of a job
_PRESETS = "presets"
_ELSEWHERE = (
    "move it into the folder of the profile and name it relative to that, or let the command of the agent open it"
)


def order_of(profile: Profile, *, task: str = "", only: tuple[str, ...] = (), workspace: str | None = None) -> Order:
    """Return the order to carry out a profile that was read from a file, without other files."""
    assert profile.file is not None
    path = straight(Path(profile.file))
    return Order(
        folder=str(path.parent), profile=profile.text, path=str(path), task=task, only=only, workspace=workspace,
        origin=machine_id(),
    )  # fmt: skip


def choice_of(order: Order) -> Choice:
    """Return what of the profile a worker is to plan."""
    return Choice(task=order.task, only=order.only, items=order.items)


def pack(order: Order, profile: Profile) -> Order:
    """Add the files that the profile names, so that another machine can carry the order out.

    ProfileError says of each file that cannot travel why, and what to do.
    """
    return replace(order, files=_Packer(order, profile).packed())


class _Packer:
    def __init__(self, order: Order, profile: Profile) -> None:
        self._order, self._profile = order, profile
        self._folder = Path(order.folder)
        self._files: dict[str, bytes] = {}
        self._wrong: dict[KeyPath, str] = {}

    def packed(self) -> dict[str, bytes]:
        for n, table in enumerate(self._profile.agents):
            copies = self._copies(n, table)
            if self._takes(table) and table.stdin_file is not None:
                self._stdin_files(("agents", n, "stdin_file"), table, copies)
        self._presets()
        size = sum(map(len, self._files.values()))
        if size > MOST and not self._wrong:
            told = f"its files have {format_size(size)} together, and those of a job may have {format_size(MOST)}"
            self._wrong[("agents",)] = f"{told}\nuse --spread: each job then carries its own files only"
        if self._wrong:
            raise ProfileError(complaints(self._profile, self._wrong.items()))
        return self._files

    def _takes(self, table: AgentTable) -> bool:
        only = self._order.only
        return not only or any(name == table.name or is_copy(name, table.name) for name in only)

    def _copies(self, n: int, table: AgentTable) -> Mapping[str, str | None]:
        """Return the items of an agent by its copies; without for_each, the agent alone."""
        each, at = table.for_each, ("agents", n, "for_each")
        if each is None:
            return {table.name: None}
        if self._order.items is not None:  # the worker looks for no others
            return {name: item for name, item in self._order.items.items() if is_copy(name, table.name)}
        if each.glob is not None:
            if self._takes(table):
                told = "another machine does not have the files of this one"
                self._wrong[*at, "glob"] = f"{told}\nuse --spread, which lists them now"
            return {}
        items = each.items
        if each.lines is not None:
            content = self._take((*at, "lines"), each.lines, reader_of(table, self._profile)) or b""
            text = content.decode("utf-8-sig", errors="replace")  # the worker complains of what is no UTF-8
            items = tuple(line.strip() for line in text.splitlines() if line.strip())
        return numbered(table.name, items, {})

    def _stdin_files(self, at: KeyPath, table: AgentTable, copies: Mapping[str, str | None]) -> None:
        reader = reader_of(table, self._profile)
        for item in dict.fromkeys(copies.values()):
            values: placeholders.Values = {("task", None): placeholders.escape(self._order.task)}
            if item is not None:
                values["item", None] = placeholders.escape(item)
            text = placeholders.fill(placeholders.escape_foreign(table.stdin_file or ""), values)
            self._take(at, placeholders.finish(text), reader, may_come=bool(table.needs))

    def _presets(self) -> None:
        """Take all presets beside the profile, and those of the user's own that an agent has."""
        beside = self._folder / _PRESETS
        if beside.is_dir():
            for name in sorted(os.listdir(beside)):  # noqa: PTH208
                if name.endswith(".toml"):
                    self._take((), f"{_PRESETS}/{name}", None)
        for n, agent in enumerate(self._profile.agents):
            if agent.settings is not None and Path(agent.settings.file).parent == user_folder():
                read = partial(_read, Path(agent.settings.file))
                self._add(("agents", n, "preset"), f"{_PRESETS}/{agent.settings.name}.toml", read)

    def _take(self, at: KeyPath, text: str, reader: Account | None, *, may_come: bool = False) -> bytes | None:
        """Take a file that the profile names. `may_come`: an earlier agent may still write it."""
        why = outside(text)
        if why:
            self._wrong.setdefault(at, f"{text} cannot travel to another machine: {why}\n{_ELSEWHERE}")
            return None

        def read() -> bytes:
            with users.acting_as(reader):
                real, home = (self._folder / text).resolve(), self._folder.resolve()
                if not real.is_relative_to(home):
                    raise ValueError(f"it is a link to {real}, outside of the folder of the profile\n{_ELSEWHERE}")
                return _read(real)

        return self._add(at, os.path.normpath(text), read, may_come=may_come)

    def _add(self, at: KeyPath, name: str, read: Callable[[], bytes], *, may_come: bool = False) -> bytes | None:
        if name not in self._files:
            try:
                self._files[name] = read()
            except FileNotFoundError:
                if not may_come:
                    self._wrong.setdefault(at, f"file {self._folder / name} does not exist")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                self._wrong.setdefault(at, f"{name} cannot travel to another machine: {why}")
        return self._files.get(name)


def outside(text: str) -> str:
    """Return why a path leaves the folder that it begins in; empty if it does not. Links are not looked at."""
    if text.startswith("/"):
        return "its path is absolute"
    if text == "~" or text.startswith("~/"):
        return "it is in a home folder"
    if os.path.normpath(text).split("/")[0] == "..":
        return "it is outside of the folder of the profile"
    return ""


def _read(file: Path) -> bytes:
    """ValueError says why a file cannot travel."""
    with open(file, "rb", opener=at_once) as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        content = opened.read(LARGEST + 1)
        if len(content) > LARGEST:
            size = format_size(max(status.st_size, len(content)))
            told = f"it has {size}, and a file that travels with a job may have {format_size(LARGEST)}"
            raise ValueError(f"{told}\nput it into a git repository and use --workspace, or let the command fetch it")
        return content


# -- on the worker


def unpack(order: Order, folder: Path) -> Path:
    """Lay a profile and its files out in a new folder, whole or not at all, and return the profile's path there.

    A folder that has them already stays as it is: agents may have worked in it. SeqsupError: the order names a path
    outside of the folder, or the disk refuses.
    """
    assert order.profile is not None
    name = PurePosixPath(order.path or "").name or "profile.toml"
    content = {**order.files, name: order.profile.encode()}
    for path in content:
        if outside(path) or "\0" in path or path != os.path.normpath(path) or path == ".":
            raise SeqsupError(f"the job names the file {path!r}, which is not inside its folder: nothing was written")
    if (folder / name).is_file():
        return folder / name
    new = folder.with_name(f".{folder.name}.new")
    try:
        folders.remove(new)  # of a worker that was killed meanwhile
        for path, text in content.items():
            _write(private((new / path).parent) / PurePosixPath(path).name, text)
        new.rename(folder)
    except OSError as error:
        folders.remove(new)
        raise SeqsupError(f"the files of the job cannot be written to {folder}: {error.strerror}") from error
    return folder / name


def _write(file: Path, content: bytes) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(fd)  # before its folder has the name that says that all is there
