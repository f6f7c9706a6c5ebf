"""A profile's agents, each as often as for_each says, and what the machine has for them. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import msgspec
from msgspec import Struct

from seqsup.model.kinds import KeyPath
from seqsup.model.plan import Account, Detected, NodeBinary
from seqsup.model.profile import LISTEN, AgentTable
from seqsup.node import flags
from seqsup.profile import placeholders


class Copy(Struct, frozen=True, kw_only=True):
    """An agent with {task} and {item} filled in; one of several where for_each says so."""

    agent: AgentTable
    name: str
    item: str | None
    command: tuple[str, ...]  # this, env and stdin still with what only the run can fill in
    env: dict[str, str]
    stdin: str | None
    stdin_file: str | None
    cwd: str
    success_file: str | None
    success_command: tuple[str, ...]


class Found(Struct, frozen=True, kw_only=True):
    """What the machine has for one copy."""

    detected: Detected
    account: Account | None = None  # whom it becomes
    node: NodeBinary | None = None  # where Node will run
    user_options: str = ""  # NODE_OPTIONS as the agent would have it without us
    stdin_digest: str = ""
    problems: dict[str, str] = msgspec.field(default_factory=dict)  # key of the agent -> what is wrong

    @property
    def sets_own_heap(self) -> bool:
        return flags.sets_heap(flags.split(self.user_options))

    @property
    def takes_gc(self) -> bool:
        return self.node is not None and not flags.refused([flags.GC], self.node.allowed)


class Survey(Struct, frozen=True, kw_only=True):
    """What the machine has for a profile."""

    folder: str  # absolute; where the profile's relative paths begin
    memory: int  # of the host, in bytes
    items: dict[str, tuple[str, ...]]  # of each agent with for_each
    found: dict[str, Found]  # for each copy
    problems: dict[KeyPath, str]  # key of the profile -> what is wrong
    account: Account | None = None  # of run.user
    nodes: dict[str, str] = msgspec.field(default_factory=dict)  # companion -> the Node on its PATH
    listen: str | None = LISTEN  # where figures are served unless the profile says so


def copies(agent: AgentTable, items: Sequence[str] | None, folder: str, task: str | None) -> list[Copy]:
    """The agent itself, or one for each item, called agent.1, agent.2, …"""
    if items is None:
        return [_copy(agent, agent.name, None, folder, task)]
    return [_copy(agent, f"{agent.name}.{n}", item, folder, task) for n, item in enumerate(items, 1)]


def runtime(agent: AgentTable, detected: Detected) -> str:
    return detected.kind if agent.runtime == "auto" else agent.runtime


def _copy(agent: AgentTable, name: str, item: str | None, folder: str, task: str | None) -> Copy:
    values: placeholders.Values = {("task", None): placeholders.escape(task or "")}
    if item is not None:
        values["item", None] = placeholders.escape(item)

    def fill(text: str) -> str:
        return placeholders.fill(text, values)

    def path(base: str, text: str | None) -> str | None:
        return None if text is None else _path(base, placeholders.finish(fill(text)))

    cwd = path(folder, agent.cwd) or folder
    return Copy(
        agent=agent,
        name=name,
        item=item,
        command=tuple(map(fill, agent.command)),
        env={variable: fill(value) for variable, value in agent.env.items()},
        stdin=None if agent.stdin is None else fill(agent.stdin),
        stdin_file=path(folder, agent.stdin_file),
        cwd=cwd,
        success_file=path(cwd, agent.success.file),
        success_command=tuple(placeholders.finish(fill(word)) for word in agent.success.command),
    )


@lru_cache(maxsize=16)  # most agents have the same folder
def _path(base: str, text: str) -> str:
    return str(PurePosixPath(base, text))
