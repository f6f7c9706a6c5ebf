"""A profile's agents, each as often as for_each says. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

import msgspec
from msgspec import Struct

from seqsup.model.plan import Detected
from seqsup.model.profile import AgentTable
from seqsup.profile import placeholders
from seqsup.text import shown


class ExpandedAgent(Struct, frozen=True, kw_only=True):
    """An agent with {task} and {item} filled in; one of several where for_each says so."""

    table: AgentTable
    name: str
    item: str | None
    command: tuple[str, ...]  # this, env and stdin still with what only the run can fill in
    env: dict[str, str]
    stdin: str | None
    stdin_file: str | None
    cwd: str
    success_file: str | None
    success_command: tuple[str, ...]
    until: tuple[str, ...]  # of repeat

    @property
    def is_text(self) -> bool:
        """Say whether all of it is UTF-8. Names of files and words of a command line may be any bytes; JSON cannot
        carry those."""
        paths = (self.stdin_file, self.cwd, self.success_file)
        try:
            msgspec.json.encode(
                (self.item, self.command, self.env, self.stdin, paths, self.success_command, self.until)
            )
        except UnicodeEncodeError:
            return False
        return True

    def runtime(self, detected: Detected) -> str:
        return detected.kind if self.table.runtime == "auto" else self.table.runtime


def numbered(name: str, items: Iterable[str], earlier: Mapping[str, str | None]) -> dict[str, str]:
    """Return the items of an agent by the names of its copies: agent.1, agent.2, …

    `earlier` are the copies of the run that is resumed, with their items. An item keeps its number, and a number its
    item: a new item has a new one.
    """
    numbers: defaultdict[str | None, list[int]] = defaultdict(list)
    last = 0
    for copy, item in earlier.items():
        base, _, number = copy.rpartition(".")
        if base == name and number.isdecimal():
            numbers[item].append(int(number))
            last = max(last, int(number))
    found = {}
    for item in items:
        if had := numbers.get(shown(item)):
            had.remove(own := min(had))
        else:
            own = last = last + 1
        found[f"{name}.{own}"] = item
    return found


def expand(table: AgentTable, copies: Mapping[str, str] | None, folder: str, task: str) -> list[ExpandedAgent]:
    """Return the agent itself, or its copies: one for each name and item."""
    if copies is None:
        return [_filled(table, table.name, None, folder, task)]
    return [_filled(table, name, item, folder, task) for name, item in copies.items()]


def _filled(table: AgentTable, name: str, item: str | None, folder: str, task: str) -> ExpandedAgent:
    values: placeholders.Values = {("task", None): placeholders.escape(task)}
    if item is not None:
        values["item", None] = placeholders.escape(item)

    def fill(text: str) -> str:
        return placeholders.fill(placeholders.escape_foreign(text), values)

    def path(base: str, text: str | None) -> str | None:
        return None if text is None else _path(base, placeholders.finish(fill(text)))

    cwd = path(folder, table.cwd) or folder
    return ExpandedAgent(
        table=table,
        name=name,
        item=item,
        command=tuple(map(fill, table.command)),
        env={variable: fill(value) for variable, value in table.env.items()},
        stdin=None if table.stdin is None else fill(table.stdin),
        stdin_file=path(folder, table.stdin_file),
        cwd=cwd,
        success_file=path(cwd, table.success.file),
        success_command=tuple(placeholders.finish(fill(word)) for word in table.success.command),
        until=tuple(placeholders.finish(fill(word)) for word in (table.repeat.until if table.repeat else ())),
    )


@lru_cache(maxsize=16)  # most agents have the same folder
def _path(base: str, text: str) -> str:
    return str(PurePosixPath(base, text))
