"""From the words of `seqsup add` to jobs. All is checked here, before any of it is queued."""

import os
import posixpath
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from seqsup.cli.load_plan import command_profile, for_command, load, plan_of
from seqsup.cli.read_profile import read
from seqsup.host.machine import machine_id
from seqsup.host.trust import user_name
from seqsup.model.profile import Profile
from seqsup.plan.expand import expand, is_copy
from seqsup.plan.objections import refuse_no_task
from seqsup.plan.repositories import must_be_everywhere, with_order
from seqsup.plan.select import Choice, select
from seqsup.profile.complaint import ProfileError
from seqsup.profile.order import in_order
from seqsup.queue.jobs import CommandOptions, NewJob, Order
from seqsup.queue.parcel import order_of, pack
from seqsup.state.run_folder import straight
from seqsup.text import fit, printable

_LONGEST = 60  # columns of the name of a job that is a command or a prompt


class Wanted(Struct, frozen=True, kw_only=True):
    """What holds for all jobs of a call."""

    fleet: bool  # another machine may carry it out
    workspace: str | None
    priority: int
    not_before: float | None
    after: tuple[int, ...]

    def job(self, name: str, order: Order) -> NewJob:
        by = f"{user_name(os.geteuid())}@{os.uname().nodename}"
        return NewJob(
            name=name, order=order, priority=self.priority, not_before=self.not_before, after=self.after, by=by
        )  # fmt: skip


class Made(Struct, frozen=True):
    jobs: list[NewJob]
    notes: list[str] = []


def of_profile(path: str, wanted: Wanted, *, task: str, only: tuple[str, ...], spread: bool) -> Made:
    """Return the jobs of a profile. For the embedded queue it is planned as `start` does it.

    ProfileError, or another SeqsupError, says all that is wrong.
    """
    choice = Choice(task=task, only=only)
    try:
        profile = with_order(read(path), wanted.workspace)
    except ProfileError:
        load(path, choice)  # says also what this machine lacks
        raise
    folder = straight(Path(path)).parent
    order = order_of(profile, task=task, only=only, workspace=wanted.workspace)
    job = wanted.job(profile.name, order)
    if wanted.fleet:
        must_be_everywhere(profile)
    else:
        plan_of(profile, folder, choice)
    if spread:
        from seqsup.plan.items import find_items
        from seqsup.queue.spread import spread as divided

        made = divided(profile, find_items(profile, str(folder)), job)
        packed = [replace(each, order=pack(each.order, profile)) for each in made.jobs] if wanted.fleet else made.jobs
        return Made(packed, made.notes)
    if wanted.fleet:
        job = replace(job, order=pack(order, profile))
        _select(profile, choice)
    return Made([job])


def _select(profile: Profile, choice: Choice) -> None:
    """Raise ProfileError if --only names an unknown agent, or {task} is empty. The worker may know more items."""
    ordered = in_order(profile.agents)
    copies = {
        table.name: [name for name in choice.only if table.for_each and is_copy(name, table.name)] or [table.name]
        for table in ordered
    }
    skips = select(ordered, copies, choice)
    if not choice.task.strip():
        taken = [table for table in ordered if any(name not in skips for name in copies[table.name])]
        refuse_no_task(
            each for table in taken for each in expand(table, dict.fromkeys(copies[table.name], ""), "/", "")
        )  # fmt: skip


def of_command(words: Sequence[str], wanted: Wanted, options: CommandOptions) -> Made:
    """Return the job of a command, or with a preset of a prompt in several words."""
    given: dict[str, Any] = {name: getattr(options, name) for name in CommandOptions.__struct_fields__}
    if wanted.fleet:
        must_be_everywhere(with_order(command_profile(words, **given), wanted.workspace))
    else:
        for_command(words, workspace=wanted.workspace, **given)
    order = Order(
        folder=str(straight(Path())), command=tuple(words), options=options, workspace=wanted.workspace,
        origin=machine_id(),
    )  # fmt: skip
    return Made([wanted.job(options.name or _name(words, options.preset), order)])


def _name(words: Sequence[str], preset: str | None) -> str:
    if preset is not None:
        told = f"{preset}: {' '.join(words)}"
    else:
        told = shlex.join([posixpath.basename(words[0]), *words[1:]])
    return fit(" ".join(printable(told).split()), _LONGEST)
