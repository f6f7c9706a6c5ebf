"""Starting a process tree, for agents, checks, companions and hooks alike: environment, stand-in for Node, launcher."""

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from seqsup.containment import launcher
from seqsup.containment.cgroup.group import Cgroup
from seqsup.containment.owner import TreeOwner
from seqsup.host import users
from seqsup.model.enums import Halt
from seqsup.model.events import Warned
from seqsup.model.plan import Account
from seqsup.model.profile import Rlimits
from seqsup.node import stand_in
from seqsup.node.detect import find
from seqsup.plan.environment import leading_node
from seqsup.runner.context import RunContext
from seqsup.units import format_duration

T = TypeVar("T")

_LOOK = 0.5  # seconds between tries to fork
_MORE = "raise `ulimit -u`, kernel.pid_max or pids.max of seqsup's cgroup"


class Launch(Struct, frozen=True, kw_only=True):
    """A command and the user that runs it."""

    command: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    account: Account | None = None  # None: the supervisor's user
    rlimits: Rlimits = Rlimits()
    group: Cgroup | None = None
    oom_score_adj: int = launcher.FIRST_VICTIM

    def wrapped(self, owner: TreeOwner) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the words that enter the cgroup, set limits and user, and become the command; and its environment."""
        become = self.account
        words, env = users.loading_late(become, self.command, self.env)
        kills_leader = owner.kills_leader(grouped=self.group is not None, becomes=become is not None)
        command = launcher.wrap(
            words, self.group.entry if self.group is not None else (), names=env, die_with_us=not kills_leader,
            bounds=launcher.Bounds(self.rlimits, owner.soft_nofile, self.oom_score_adj),
            becoming=users.becoming(become) if become is not None else (), parent=owner.parent_pid,
        )  # fmt: skip
        return command, env


async def until_forked(spawn: Callable[[], T], context: RunContext, name: str, timeout: float) -> T:
    """Call `spawn` again while the machine has no room for another process, for `timeout` seconds at most.

    Others take it, and leave it again: it is reported once. BlockingIOError if it stays full, or a stop is requested.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            return spawn()
        except BlockingIOError as error:
            stopped, waited = context.stop_request.halt is not Halt.NONE, time.monotonic() - began
            if stopped or waited >= timeout:
                why = f"too many processes for {format_duration(max(waited, 0.0))}: {_MORE}"
                raise BlockingIOError(error.errno, why) from None
        if not told:
            told = True
            patience = format_duration(timeout)
            message = f"no room for another process: {name} waits up to {patience}. To allow more, {_MORE}"
            context.emit(Warned(message=message))
        await context.wake.wait(min(_LOOK, timeout))


def lead_node(
    folder: Path, node: str, options: tuple[str, ...], env: Mapping[str, str], *, account: Account | None,
    line: tuple[Path, Path] | None, offer_gc: bool, left_in: Path | None = None,
) -> dict[str, str]:  # fmt: skip
    """Write the stand-in for `node` into `folder`, and return `env` with what leads every Node of the tree to us.

    An earlier attempt may have left its stand-in in `left_in`.
    """
    env = {**env, **leading_node(options, env, folder, line, offer_gc=offer_gc)}
    if account is None:
        stand_in.write(folder, node, options, env, None, left_in)
    else:
        stand_in.write(folder, node, options, env, (account.uid, account.gid))
    return env


def must_be_program(word: str, cwd: str, path: str) -> None:
    """Raise what exec would: through the launcher it would only show as an exit code."""
    if "/" not in word:
        if find(word, cwd, path) is None:
            raise FileNotFoundError(errno.ENOENT, "not found on PATH", word)
        return
    program = os.path.join(cwd, word)  # noqa: PTH118 (hot)
    if not stat.S_ISREG(os.stat(program).st_mode) or not os.access(program, os.X_OK, effective_ids=True):  # noqa: PTH116
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), word)


def refusal(error: OSError, command: tuple[str, ...], cwd: str) -> str:
    """Say why a command could not be started."""
    if error.errno == errno.E2BIG:
        return "an argument or variable is longer than 128 KiB, or all together are too long: use stdin"
    told = error.strerror or str(error)
    return told if error.filename in (None, command[0], cwd) else f"{error.filename}: {told}"
