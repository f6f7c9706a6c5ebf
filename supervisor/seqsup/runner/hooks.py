"""Hooks: the profile's own commands, run when something happens, each in a tree of its own with the event on stdin."""

import asyncio
import itertools
import shlex
import time

from msgspec.structs import replace

from seqsup.errors import Stopped
from seqsup.model.events import AttemptEnded, HookEnded, HookStarted, MemoryHigh, Recorded
from seqsup.model.outcome import Exit
from seqsup.model.plan import Hooks
from seqsup.model.process import ProcessMemory
from seqsup.model.profile import HOOK_POINTS
from seqsup.model.reason import AT_A_LIMIT
from seqsup.plan.as_root import checked
from seqsup.policy import classify, watch
from seqsup.runner.context import RunContext
from seqsup.runner.side_process import SideProcess, Site
from seqsup.state.output import unnamed
from seqsup.units import format_duration
from seqsup.view.ndjson import encode, flat

FOLDER = "@hooks"  # within the run's: no agent can be called that


class HookRunner:
    """The hooks of one run. As a reader of events it starts background hooks at once."""

    def __init__(self, rules: Hooks, site: Site, profile: str | None, env: dict[str, str], context: RunContext) -> None:
        """`env` are the variables by which companions are found."""
        self._rules, self._site, self._context = rules, site, context
        self._env = {**env, "SEQSUP_RUN": site.folder.name, "SEQSUP_PROFILE": profile or ""}
        self._numbers = itertools.count(1 + len(list((site.folder / FOLDER).glob("*"))))  # of earlier parts
        self._background: set[asyncio.Task[None]] = set()

    def __call__(self, recorded: Recorded) -> None:
        match recorded.body:
            case MemoryHigh():
                self._begin("memory_high", recorded)
            case AttemptEnded(outcome=outcome) if outcome.reason in AT_A_LIMIT:
                self._begin("killed", recorded)

    def wants(self, point: str) -> bool:
        return bool(self._rules.commands.get(point))

    async def on(self, point: str, recorded: Recorded | None) -> None:
        """Run a point's hooks on an event, one after another. Stopped, if one fails and may do that."""
        if recorded is None:
            return
        for command in self._rules.commands.get(point, ()):
            if self._unwanted(point):
                return
            ended = await self._run(point, command, recorded)
            self._context.emit(ended)
            if not ended.ok and self._rules.on_error == "stop" and not self._unwanted(point):
                raise Stopped(f"the hook {command} ({point}) failed: {ended.why}")

    async def settle(self) -> None:
        """Wait for background hooks; Stopped, if one failed and may stop the run."""
        while self._background:
            await self._background.pop()

    async def abandon(self) -> None:
        """End those that still run."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _begin(self, point: str, recorded: Recorded) -> None:
        if self.wants(point):
            self._background.add(asyncio.create_task(self.on(point, recorded)))

    async def _run(self, point: str, command: str, recorded: Recorded) -> HookEnded:
        context = replace(self._context, wake=self._context.wake.branch())
        began = time.monotonic()
        label, agent = f"{FOLDER}/{point}-{next(self._numbers)}", getattr(recorded.body, "agent", "")
        ended: Exit | None = None
        left_over: tuple[ProcessMemory, ...] = ()
        output = ""
        async with SideProcess(label, self._site, context) as hook:
            try:
                words = checked(shlex.split(command), self._rules.cwd, self._rules.account)
                with unnamed(encode(recorded) + b"\n") as stdin:  # no pipe: a hook may leave it unread
                    await hook.start(
                        words, cwd=self._rules.cwd, env=self._variables(point, recorded), stdin=stdin,
                        become=self._rules.account,
                    )  # fmt: skip
            except OSError as error:
                why = f"it could not be started: {error}"
            else:
                if (pid := hook.pid) is not None:
                    self._context.emit(HookStarted(point=point, command=command, agent=agent, pid=pid, folder=label))
                ended = await hook.until_ended(lambda: self._left(point, began))
                left_over = await hook.stop(watch.LEFTOVER_GRACE)
                complaint = hook.complaint()
                why = complaint or self._why(point, ended)
                output = hook.said() if why and not complaint else ""
        return HookEnded(
            point=point, command=command, agent=agent, ok=not why, why=why, exit_code=ended.code if ended else None,
            signal=ended.signal if ended else None, seconds=time.monotonic() - began, folder=label, output=output,
            left_over=left_over if ended else (),
        )  # fmt: skip

    def _left(self, point: str, began: float) -> float:
        """Return for how many seconds a hook may still run; none if the user has stopped it."""
        return 0.0 if self._unwanted(point) else began + self._rules.timeout - time.monotonic()

    def _why(self, point: str, ended: Exit | None) -> str:
        """Say why a hook failed; empty if it did not."""
        if ended is not None:
            return "" if ended.code == 0 else classify.describe(ended)
        if self._unwanted(point):
            return "stopped by the user"
        return f"it took longer than hooks.timeout {format_duration(self._rules.timeout)}"

    def _unwanted(self, point: str) -> bool:
        """Return whether a stop makes the hook useless: one before an agent is, one after an agent still has its work
        to do.
        """
        return self._context.stop_request.halt >= HOOK_POINTS[point]

    def _variables(self, point: str, recorded: Recorded) -> dict[str, str]:
        facts = flat(recorded.body)
        about = {f"SEQSUP_{name.upper()}": str(facts[name]) for name in ("agent", "attempt", "reason") if name in facts}
        return {**self._env, **about, "SEQSUP_HOOK": point}
