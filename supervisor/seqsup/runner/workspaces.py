"""Workspaces of a run: made before an attempt, renewed before a retry, ended after their agent. Git itself runs in a
side process, so the watch of other agents never waits for it.
"""

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from seqsup.host import users
from seqsup.host.git import COMMAND, GitEnded, GitError, GitOpened, GitRenewed, read, request
from seqsup.model.enums import Halt
from seqsup.model.events import WorkspaceDue, WorkspaceEnded, WorkspaceOpened, WorkspaceSaved
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Account, Plan, Step
from seqsup.model.reason import Reason
from seqsup.model.run_view import RunView, WorkspaceView
from seqsup.policy import watch
from seqsup.policy.workspaces import branch, commands, folder, inside, removes, renews
from seqsup.runner.context import RunContext
from seqsup.runner.side_process import SideProcess, Site
from seqsup.state.output import unnamed
from seqsup.state.run_folder import STDERR, STDOUT, tail
from seqsup.state.workspaces import WORKSPACES, Release, end_request, make_parent, mirrors
from seqsup.units import format_duration

FOLDER = "@git"  # within the run's: no agent can be called that
_PATIENCE = 3600.0  # seconds for git: the first copy of a large repository takes long
_SAID = 64 * 1024  # bytes of an answer

T = TypeVar("T")


class Workspaces:
    """GitPlace agents of this run work, if the profile has [workspace]."""

    def __init__(self, plan: Plan, site: Site, view: Callable[[], RunView], context: RunContext) -> None:
        self._rules, self._state_dir = plan.workspaces, Path(plan.state_dir)
        self._site, self._view, self._context = site, view, context
        self._numbers = itertools.count(1 + len(list((site.folder / FOLDER).glob("*"))))

    def within(self, step: Step) -> Step:
        """Return the step with its folder, and the file that proves its success, in its workspace."""
        rules = self._rules
        if rules is None or not step.in_workspace:
            return step
        tree = self._due(step).folder

        def moved(path: str) -> str:
            there = inside(path, rules.base, rules.below)
            return path if there is None else str(Path(tree, there))

        file = step.success.file
        success = replace(step.success, file=moved(file)) if file is not None else step.success
        return replace(step, cwd=moved(step.cwd), success=success)

    async def ready(self, step: Step, number: int, *, resumed: bool) -> Outcome | None:
        """Make the step's workspace, find it again, or renew it. Return how its attempt ended if that fails.

        `resumed`: the attempt resumes a conversation.
        """
        if self._rules is None or not step.in_workspace:
            return None
        own, past = self._due(step), self._view().agents[step.name].past
        try:
            opened = await self._open(own, self._account(step))
            last = past[-1].outcome.reason if past and own.last == step.name else None
            if renews(step.retry.workspace, last, resumed=resumed):
                await self._renew(own, step, number)
                opened = replace(opened, head=own.head, snapshot=own.snapshot)
        except (GitError, OSError) as error:
            if self._context.stop_request.halt >= Halt.NOW:
                return Outcome(reason=Reason.HALTED, why="stopped by the user", exit=None, seconds=0.0, peak=0)
            remedy = f"; {error.remedy}" if isinstance(error, GitError) and error.remedy else ""
            why = f"its workspace {own.folder} is not ready: {error}{remedy}"
            return Outcome(reason=Reason.SPAWN_FAILED, why=why, exit=None, seconds=0.0, peak=0)
        self._context.emit(
            WorkspaceOpened(
                agent=step.name, attempt=number, shared=self._rules.shared, folder=own.folder, branch=opened.branch,
                base=opened.base, head=opened.head, snapshot=opened.snapshot,
            )
        )  # fmt: skip
        return None

    async def agent_over(self, step: Step, *, ok: bool) -> None:
        """End the workspace of an agent, unless others share it."""
        if self._rules is not None and not self._rules.shared:
            await self._end(step.name, self._account(step), ok=ok)

    async def settle(self, ok: Mapping[str, bool], *, all_ok: bool) -> None:
        """End the workspace that all agents share, and those of agents that ended when an earlier supervisor died.

        `ok` says of each agent that is over whether it completed.
        """
        for owner, own in list(self._view().workspaces.items()) if self._rules is not None else ():
            if not own.ended and (owner in ok or not owner):
                try:
                    account = users.look_up(own.user) if own.user else None
                except users.NoAccount:
                    continue
                await self._end(owner, account, ok=ok[owner] if owner else all_ok)

    async def release(self, old: Release) -> None:
        """Remove the workspace of an old run. OSError: it stays, because it holds work."""
        ended, why = None, ""
        try:
            ended = await self._ask(GitEnded, "end", old.request, old.account, Halt.NOW)
        except (GitError, OSError) as error:
            why = str(error)
        if stays := old.stays(ended, why):
            raise OSError(stays)

    def _account(self, step: Step) -> Account | None:
        assert self._rules is not None
        return self._rules.account if self._rules.shared else step.account

    def _due(self, step: Step) -> WorkspaceView:
        """Return the workspace of a step. A new one is in the journal before anything of it is made."""
        rules = self._rules
        assert rules is not None
        owner, known = "" if rules.shared else step.name, self._view().workspaces
        if (own := known.get(owner)) is not None and own.git == rules.shown and not self._is_done(step, own):
            return own
        run, top = self._site.folder.name, self._state_dir / WORKSPACES
        names = (folder(run, owner, number) for number in itertools.count(1))
        name = next(each for each in names if not os.path.lexists(top / each))
        account = self._account(step)
        self._context.emit(
            WorkspaceDue(
                agent=owner, folder=str(top / name / rules.name), branch=branch(rules.branch, run, owner),
                git=rules.shown, user=account.name if account is not None else None, remote=rules.remote,
                home=rules.home, common=rules.common,
            )
        )  # fmt: skip
        return known[owner]

    def _is_done(self, step: Step, own: WorkspaceView) -> bool:
        """Say whether an agent has completed in it, and runs again: the branch of its work stays as it is."""
        past = self._view().agents[step.name].past
        return bool(own.agent and own.ended and past and past[-1].outcome.reason is Reason.COMPLETED)

    async def _open(self, own: WorkspaceView, account: Account | None) -> GitOpened:
        rules = self._rules
        assert rules is not None
        make_parent(self._state_dir, Path(own.folder).parent.name, account)
        mirror = ""
        if rules.remote:
            digest = hashlib.sha256(rules.git.encode()).hexdigest()[:12]
            mirror = str(mirrors(self._state_dir, account) / f"{rules.name}-{digest}.git")
        asked = request(
            "open", git=rules.git, shown=rules.shown, remote=rules.remote, home=rules.home, common=rules.common,
            mirror=mirror, folder=own.folder, branch=own.branch, known=own.branch if own.base else "", base=own.base,
            ref=rules.ref, untouched=not own.base,
        )  # fmt: skip
        return await self._ask(GitOpened, "open", asked, account, Halt.NOW)

    async def _renew(self, own: WorkspaceView, step: Step, number: int) -> None:
        last = number - 1
        asked = request(
            "renew", folder=own.folder, branch=own.branch, head=own.head, snapshot=own.snapshot,
            save=f"{own.branch}-{step.name}-attempt-{last}" if not own.agent else f"{own.branch}-attempt-{last}",
            message=f"seqsup: what attempt {last} of {step.name} left",
        )  # fmt: skip
        renewed = await self._ask(GitRenewed, "renew", asked, self._account(step), Halt.NOW)
        for each in renewed.saved:
            self._context.emit(
                WorkspaceSaved(
                    agent=step.name, attempt=last, branch=each.branch, commits=each.commits, files=each.files
                )
            )  # fmt: skip

    async def _end(self, owner: str, account: Account | None, *, ok: bool) -> None:
        rules, own = self._rules, self._view().workspaces.get(owner)
        if rules is None or own is None or own.ended:
            return
        push_to = rules.push_to if ok else ""
        ended, why = (
            GitEnded(branch=own.branch, commits=0, changed=0, pushed=False, problem="", removed=False, holds=""),
            "",
        )
        try:
            asked = end_request(own, push_to, remove=removes(rules.keep, ok=ok))
            ended = await self._ask(GitEnded, "end", asked, account, Halt.KILL)
            why = f"not pushed: {ended.problem}" if ended.problem else ""
        except (GitError, OSError) as error:
            why = str(error)
        if ended.removed:
            with suppress(OSError):
                Path(own.folder).parent.rmdir()
        told = commands(
            branch=ended.branch, home="" if rules.remote else rules.home, folder=own.folder, commits=ended.commits,
            changed=ended.changed, push_to=push_to, pushed=ended.pushed, removed=ended.removed,
        )  # fmt: skip
        self._context.emit(
            WorkspaceEnded(
                agent=owner, folder=own.folder, branch=ended.branch, commits=ended.commits, changed=ended.changed,
                pushed=ended.pushed, removed=ended.removed, why=why, holds=ended.holds, next=told,
            )
        )  # fmt: skip

    async def _ask(self, kind: type[T], do: str, given: bytes, account: Account | None, enough: Halt) -> T:
        """Have git do it as that user. GitError or OSError: nothing was done. `enough` is the stop that ends it."""
        context = replace(self._context, wake=self._context.wake.branch())
        until = time.monotonic() + _PATIENCE

        def left() -> float:
            return 0.0 if context.stop_request.halt >= enough else until - time.monotonic()

        async with SideProcess(f"{FOLDER}/{do}-{next(self._numbers)}", self._site, context) as process:
            with unnamed(given) as stdin:
                await process.start(COMMAND, cwd="/", env={}, stdin=stdin, become=account)
            ended = await process.until_ended(left)
            await process.stop(watch.LEFTOVER_GRACE if ended else 0)
            if ended is None:
                raise GitError("stopped" if left() <= 0 < until - time.monotonic() else
                               f"git took longer than {format_duration(_PATIENCE)}")  # fmt: skip
            said = tail(process.folder / STDERR, _SAID).decode(errors="replace").strip().rpartition("\n")[2]
            return read(kind, tail(process.folder / STDOUT, _SAID), process.complaint() or said)
