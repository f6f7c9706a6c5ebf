"""A profile's agents, each as often as for_each says. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

import msgspec
from msgspec import Struct

from seqsup.model.kinds import KeyPath
from seqsup.model.plan import Detected, Prompted
from seqsup.model.profile import AgentTable
from seqsup.profile import placeholders
from seqsup.profile.wrappers import unwrapped
from seqsup.text import shown


class ExpandedAgent(Struct, frozen=True, kw_only=True):
    """An agent with {task} and {item} filled in; one of several where for_each says so."""

    table: AgentTable
    name: str
    item: str | None
    command: tuple[str, ...]  # this, prompt, env and stdin still with what only the run can fill in
    prompt: Prompted | None
    dialect: str | None
    given: tuple[object, ...]  # its command, or its prompt with what else the profile says of its CLI
    env: dict[str, str]
    stdin: str | None
    stdin_file: str | None
    cwd: str
    success_file: str | None
    success_command: tuple[str, ...]
    until: tuple[str, ...]  # of repeat

    @property
    def program_key(self) -> KeyPath:
        """The key that names its program."""
        return ("command", 0) if self.prompt is None else ("preset",)

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
        if is_copy(copy, name):
            number = int(copy.rpartition(".")[2])
            numbers[item].append(number)
            last = max(last, number)
    found = {}
    for item in items:
        if had := numbers.get(shown(item)):
            had.remove(own := min(had))
        else:
            own = last = last + 1
        found[f"{name}.{own}"] = item
    return found


def is_copy(copy: str, name: str) -> bool:
    """Return whether this is a name of a copy of an agent with for_each."""
    base, _, number = copy.rpartition(".")
    return base == name and number.isdecimal()


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
    command, args = tuple(map(fill, table.command)), tuple(map(fill, table.args))
    model = None if table.model is None else fill(table.model)
    given: tuple[object, ...] = command
    prompt = None
    if table.prompt is not None and (form := table.form) is not None:
        prompt = Prompted(form=form, text=fill(table.prompt), options=form.options(model, args))
        command, given = prompt.command(), (table.preset, prompt.text, model, args)
    return ExpandedAgent(
        table=table,
        name=name,
        item=item,
        command=command,
        prompt=prompt,
        dialect=_dialect(table, command, args),
        given=given,
        env={variable: fill(value) for variable, value in table.env.items()},
        stdin=None if table.stdin is None else fill(table.stdin),
        stdin_file=path(folder, table.stdin_file),
        cwd=cwd,
        success_file=path(cwd, table.success.file),
        success_command=tuple(placeholders.finish(fill(word)) for word in table.success.command),
        until=tuple(placeholders.finish(fill(word)) for word in (table.repeat.until if table.repeat else ())),
    )


def _dialect(table: AgentTable, command: tuple[str, ...], args: tuple[str, ...]) -> str | None:
    """Return whose JSON stream the agent writes, if it is asked for one."""
    if table.settings is None or (form := table.settings.prompt) is None:
        return None
    asked = form.streams(unwrapped(command)) if table.form is None else not form.sets_output(args) or form.streams(args)
    return table.settings.dialect if asked else None


@lru_cache(maxsize=16)  # most agents have the same folder
def _path(base: str, text: str) -> str:
    return str(PurePosixPath(base, text))
