"""Notifications of a run: each message is sent by a side process, and the watch never waits for one."""

import asyncio
import itertools
import os
import shlex
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from msgspec.structs import replace

from seqsup.errors import SeqsupError
from seqsup.host import notification
from seqsup.model.enums import Halt
from seqsup.model.events import LimitPaused, Recorded, RunEnded, Warned
from seqsup.model.plan import Plan
from seqsup.model.run_view import AgentState, RunView
from seqsup.plan.as_root import checked
from seqsup.policy import classify, notify, watch
from seqsup.runner.context import RunContext
from seqsup.runner.side_process import SideProcess, Site
from seqsup.state.output import unnamed
from seqsup.state.run_folder import state_dir
from seqsup.units import format_duration
from seqsup.view.notice import words

FOLDER = "@notify"  # within the run's: no agent can be called that
_LAST = 10.0  # seconds that the run's end waits for messages
_TO_COME = (AgentState.PENDING, AgentState.RUNNING, AgentState.BACKOFF)


def _take_addresses(recipients: Sequence[str]) -> list[str]:
    """Return where they are, and take their variables out of our environment, so that no agent can print one."""
    addresses = [notification.address(to, os.environ) for to in recipients]
    for to in recipients:
        if to.startswith("$"):
            os.environ.pop(to[1:], None)
    return addresses


class Notifier:
    """A reader of events that has a message sent for some of them."""

    def __init__(self, plan: Plan, site: Site, view: Callable[[], RunView], context: RunContext) -> None:
        self._plan, self._rules, self._site, self._view, self._context = plan, plan.notify, site, view, context
        self._addresses = _take_addresses(self._rules.to)
        self._sent = notify.Sent()
        self._known = {agent.limit_until for agent in view().agents.values()}  # pauses of earlier parts of this run
        self._numbers = itertools.count(1 + len(list((site.folder / FOLDER).glob("*"))))
        self._tasks: set[asyncio.Task[None]] = set()
        self._until = inf  # monotonic: when the run waits no longer
        self._enough = Halt.KILL  # the user's request that ends all sending

    def __call__(self, recorded: Recorded) -> None:
        event = recorded.body
        if not isinstance(event, RunEnded) and not (isinstance(event, LimitPaused) and event.until in self._known):
            self._hear(recorded)

    async def finish(self, ended: RunEnded) -> None:
        """Tell of the run's end, and wait for all messages, but not for long. A further Ctrl-C ends the wait."""
        run, now = self._site.folder.name, time.monotonic()
        self._until, self._enough = now + _LAST, Halt(min(self._context.stop_request.halt + 1, Halt.KILL))
        self._hear(Recorded(run=run, seq=0, at=time.time(), mono=now, body=ended))
        self._context.wake.poke()  # those under way have less time from now on
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def abandon(self) -> None:
        """End those that are still being sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hear(self, recorded: Recorded) -> None:
        view = self._view()
        continues = not self._plan.stop_on_failure and view.count(*_TO_COME) > 0
        self._sent, told = notify.hear(
            self._sent, recorded.body, self._rules.on, recorded.mono, continues=continues
        )  # fmt: skip
        if told is None:
            return
        elsewhere = self._plan.state_dir != str(state_dir())
        of = shlex.quote(self._plan.profile) if elsewhere and self._plan.profile else recorded.run
        title, body = words(recorded, view, told.held, of)
        if self._rules.to:
            given = notification.message(self._addresses, told.notice, title, body)
            self._begin(self._send(told, given))
        if self._rules.command:
            self._begin(self._run_command(told, title, body))

    def _begin(self, send: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(send)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, told: notify.Told, given: bytes) -> None:
        """Have the sender send to all recipients, and warn of each that did not get it."""
        said, why = await self._run(told, notification.COMMAND, "/", {}, given)
        for number, reason in notification.failures(self._rules.to, said, why or "the sender does not say").items():
            self._warn(told, f" to {self._rules.shown[number]}", reason)

    async def _run_command(self, told: notify.Told, title: str, body: str) -> None:
        rules = self._rules
        env = {
            "SEQSUP_RUN": self._site.folder.name, "SEQSUP_PROFILE": self._plan.profile or "",
            "SEQSUP_NOTICE": told.notice, "SEQSUP_TITLE": title,
        }  # fmt: skip
        try:
            command = checked(rules.command, rules.cwd, rules.account)
        except PermissionError as error:
            self._warn(told, " by notify.command", str(error))
            return
        said, why = await self._run(told, command, rules.cwd, env, f"{title}\n\n{body}\n".encode())
        if why:
            self._warn(told, " by notify.command", f"{why}: {said}" if said else why)

    async def _run(
        self, told: notify.Told, command: tuple[str, ...], cwd: str, env: dict[str, str], given: bytes
    ) -> tuple[str, str]:
        """Run a command with this on stdin, for a limited time. Return what it said, and why it failed, if it did."""
        context = replace(self._context, wake=self._context.wake.branch())
        began = time.monotonic()

        def unwanted() -> bool:
            return context.stop_request.halt >= self._enough

        def left() -> float:
            return 0.0 if unwanted() else min(began + notification.PATIENCE, self._until) - time.monotonic()

        label = f"{FOLDER}/{told.notice}-{next(self._numbers)}"
        async with SideProcess(label, self._site, context) as process:
            try:
                with unnamed(given) as stdin:
                    await process.start(command, cwd=cwd, env=env, stdin=stdin, become=self._rules.account)
            except OSError as error:
                return "", f"{command[0]} could not be started: {error}"
            ended = await process.until_ended(left)
            late = "stopped by the user" if unwanted() else f"no answer in {format_duration(time.monotonic() - began)}"
            await process.stop(watch.LEFTOVER_GRACE if ended else 0)
            if complaint := process.complaint():
                return "", complaint
            failed = classify.describe(ended) if ended is not None and ended.code != 0 else ""
            return process.output().decode(errors="replace").strip(), failed if ended is not None else late

    def _warn(self, told: notify.Told, where: str, why: str) -> None:
        with suppress(SeqsupError):  # a journal that fails stops the run at its next event
            self._context.emit(Warned(message=f"notification ({told.notice}){where} not sent: {why}"))
