"""One command in a tree of its own, beside the running agent: a companion or a hook. Measured and stopped whole."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from msgspec import Struct

from seqsup.containment import launcher
from seqsup.containment.cgroup.group import Cgroup
from seqsup.containment.keeper import Keeper
from seqsup.containment.mark import marks
from seqsup.containment.stop import stop
from seqsup.containment.tree import Tree
from seqsup.host import users
from seqsup.host.machine import most_processes
from seqsup.model.enums import Halt, Measure
from seqsup.model.events import Unkillable, Warned
from seqsup.model.outcome import Exit
from seqsup.model.plan import Account
from seqsup.model.process import ProcessMemory
from seqsup.node import stand_in
from seqsup.node.binary import preload
from seqsup.plan.environment import added, inherited
from seqsup.policy import watch
from seqsup.policy.confirm import NO_BOUNDS, MemoryBounds
from seqsup.runner.context import RunContext
from seqsup.runner.launch import Launch, lead_node, until_forked
from seqsup.runner.output_guard import OutputGuard
from seqsup.state.output import Output
from seqsup.state.run_folder import STDERR, STDOUT, private

if TYPE_CHECKING:  # hooks, and a machine without Node, have no use for it
    from seqsup.node.telemetry import Telemetry

_SAID = 2000  # bytes
_PATIENCE = 30.0  # seconds, while the machine has no room for another process
_LOOK = 1.0  # seconds between looks at the processes of its tree


class Site(Struct, frozen=True):
    """The run that something lives in."""

    folder: Path
    cookie: str
    ledger: int  # descriptor of the members file
    output_max: int | None = None  # bytes of each stream

    def marks(self, label: str) -> dict[str, str]:
        """Return the variables by which processes are found. `label` is the name of their owner within the run."""
        return marks(self.cookie, self.folder, label)


class SideProcess:
    """A process tree from its start until it is proven empty. Leaving the block stops it, by force if necessary."""

    def __init__(self, label: str, site: Site, context: RunContext) -> None:
        """`label` names it within the run, and its folder."""
        self.label, self._site, self._context = label, site, context
        self.folder = site.folder / label
        self._wake = context.wake
        self._group: Cgroup | None = None
        self._tree: Tree | None = None
        self.telemetry: Telemetry | None = None  # of its Node processes
        self._outputs: list[Output] = []  # stdout and stderr, from its start on
        self._guard: OutputGuard | None = None
        self._given_up = False  # a process survived SIGKILL, which was reported

    @property
    def begun(self) -> bool:
        """Whether there ever was a process of it."""
        return self._tree is not None

    async def start(
        self, command: tuple[str, ...], *, cwd: str, env: Mapping[str, str], stdin: IO[bytes] | None = None,
        bounds: MemoryBounds = NO_BOUNDS, become: Account | None = None, measure: Measure = Measure.PRIVATE,
        node: str | None = None,
    ) -> None:  # fmt: skip
        """Start it, as the user `become`. OSError says why it could not be.

        `bounds.hard` is for the kernel to enforce, if it can. With the `node` of its PATH, its Node processes can be
        asked.
        """
        reaper, groups = self._context.reaper, self._context.groups
        private(self.folder)
        for name in (STDOUT, STDERR):
            self._outputs.append(Output(self.folder / name))
            if become is not None:  # /dev/stdout is opened by permission
                os.chown(self._outputs[-1].fd, become.uid, become.gid)
        if self._site.output_max is not None:
            self._guard = OutputGuard(self._outputs, self._site.output_max)
        if groups is not None:
            self._group = groups.make(self.label.replace("/", "+"), bounds.hard, most_processes())
        whole = {**inherited(become, os.environ), "PWD": cwd, **added(env), **self._site.marks(self.label)}
        if node is not None:
            whole = self._with_line_to(node, become, whole)
        self._keeper = Keeper(reaper, self.label)
        launch = Launch(command=command, cwd=cwd, env=whole, account=become, group=self._group)
        streams = (0 if stdin is None else stdin.fileno(), self._outputs[0].fd, self._outputs[1].fd)
        with users.entering(become, cwd) as entered:

            def begin() -> None:
                wrapped, env_of_leader = launch.wrapped(self._keeper)
                self._keeper.begin(wrapped, cwd=entered, env=env_of_leader, streams=streams)

            await until_forked(begin, self._context, self.label, _PATIENCE)
        self._tree = Tree(self._keeper, self._keeper.known_leader, measure, self._site.ledger, self._group, bounds)
        while self._keeper.leader is None and not self._keeper.over:
            await self._wake.wait(1.0)

    def _with_line_to(self, node: str, become: Account | None, env: dict[str, str]) -> dict[str, str]:
        """Open the line to its Node processes, and return the environment that leads them to it."""
        from seqsup.node.telemetry import Telemetry

        try:
            if become is not None:
                users.open_way(self.folder, self._site.folder.parent.parent)
            self.telemetry = Telemetry(None, become, self.folder, self._wake, self._context.sockets)
            options = ("--require", str(preload(self.folder if become is not None else None)))
            return lead_node(
                self.folder, node, options, env, account=become, line=self.telemetry.line, offer_gc=False
            )  # fmt: skip
        except OSError as error:
            self._context.emit(Warned(message=f"{self.label}: its Node processes cannot be asked: {error}"))
            return env

    @property
    def pid(self) -> int | None:
        return self._keeper.leader

    @property
    def ended(self) -> Exit | None:
        """Return its leader's exit; None while it lives."""
        return self._keeper.ending(self._keeper.known_leader)

    async def until_ended(self, left: Callable[[], float]) -> Exit | None:
        """Wait while `left` gives seconds. Return how its leader ended; None if it lives."""
        while (seconds := left()) > 0 and self.ended is None:
            self.used()  # each process that is seen once stays known
            await self._wake.wait(min(seconds, _LOOK))
        return self.ended

    def used(self) -> int:
        """Weigh its tree in bytes."""
        tree = self._tree
        assert tree is not None
        used = tree.used()
        self._trim()
        if self.telemetry is not None:
            self.telemetry.look(time.monotonic(), used, tree.__contains__, tree.describe)
        return used

    def _trim(self) -> None:
        if self._site.output_max is not None:
            for output in self._outputs:
                output.trim(self._site.output_max)

    def describe(self) -> tuple[ProcessMemory, ...]:
        """Name its largest processes."""
        assert self._tree is not None
        return self._tree.describe()

    def kernel_oom(self) -> str:
        """Return the kernel's figures, once it killed in the cgroup; empty before."""
        return self._tree.kernel_oom() if self._tree is not None else ""

    def complaint(self) -> str | None:
        """Why the program could not be started; None when it was."""
        return launcher.complaint(self.ended.code if self.ended is not None else None, self._outputs[1].tail())

    def output(self) -> bytes:
        """Return its recent output, errors last."""
        return b"".join(output.tail() for output in self._outputs)

    def said(self) -> str:
        """The end of it, for people."""
        return self.output()[-_SAID:].decode(errors="replace").strip()

    async def stop(self, grace: float) -> tuple[ProcessMemory, ...]:
        """Stop its tree: KILL comes after `grace` seconds, or at the user's third request. Name what was there."""
        tree = self._tree
        if tree is None or self._given_up:
            return ()
        met = tree.describe() if grace and tree.living() else ()
        left = await stop(
            tree, self._wake, grace=grace, deadline=grace + watch.KILL_DEADLINE,
            hurry=lambda: self._context.stop_request.halt is Halt.KILL,
        )  # fmt: skip
        if left is not None:
            self._context.emit(Unkillable(agent=self.label, processes=left, seconds=watch.KILL_DEADLINE))
            self._given_up = True
        return met

    async def __aenter__(self) -> "SideProcess":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Stop its whole tree, whatever went wrong."""
        if self._tree is not None:
            await self.stop(0)
            self._tree.close()
        if self.telemetry is not None:
            self.telemetry.close()
            stand_in.remove(self.folder)
        if self._group is not None:
            self._group.close()
        self._trim()
        if self._guard is not None:
            self._guard.close()
        for output in self._outputs:
            output.close()
