"""`seqsup plan`: what `start` would do; starts nothing."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import asdict

from seqsup.cli.choose import take, taking_options
from seqsup.cli.output import put_object
from seqsup.containment.cgroup.parent_limits import ceilings
from seqsup.containment.cgroup.tiers import Chosen
from seqsup.errors import Refused, SeqsupError
from seqsup.host.machine import Host, most_processes
from seqsup.model.plan import ARTIFACT_ONLY, Plan
from seqsup.model.profile import HOOK_POINTS
from seqsup.plan.brief import brief
from seqsup.plan.containment import would_contain
from seqsup.plan.describe import for_node, full, going_on, told_of_stdin
from seqsup.plan.resume import PlannedRun
from seqsup.policy.advice import advice
from seqsup.policy.learning import Expected, expect
from seqsup.profile.placeholders import finish
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import JournalError
from seqsup.state.run_folder import label
from seqsup.text import Width
from seqsup.view.terminal import width

_WIDTH = Width(100)  # where it is not known


@click.command(short_help="Show what start would do, without starting anything.")
@taking_options
@click.option("-v", "--verbose", is_flag=True, help="Show all of it: commands, environment, presets, retries, drain.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes and times in seconds.")
def plan(as_json: bool, verbose: bool, **asked: Any) -> int:
    """Show what `start PROFILE` would do: agents in order, their limits, notes. Starts nothing.

    Without PROFILE: agents.toml, or the only profile of the current folder. PROFILE may be another folder.

    Exits as `start` does if that would refuse: 3 if a required cgroup is not available, 2 if a program is missing.
    `doctor PROFILE` also tries state folder and ports.
    """
    taken = take(any_program=True, **asked)
    usual = _usual(taken.plan)
    found = would_contain(taken.plan)
    if as_json:
        put_object("seqsup.plan/1", {**_as_object(taken, found, usual), "advice": _advice(taken, usual)})
    else:
        lines = (full if verbose else brief)(taken, found, usual, _advice(taken, usual), width() or _WIDTH)
        click.echo("\n".join(line.rstrip() for line in lines))
    return Refused.exit_code if isinstance(found, str) else SeqsupError.exit_code if taken.plan.missing else 0


def _usual(made: Plan) -> dict[str, Expected]:
    """Return the usual use of agents that ran before. Read-only."""
    try:
        journal = Journal.open(Path(made.state_dir))
    except JournalError:
        return {}
    known = ((step.name, expect(journal.past(made.profile, step.name), step.content)) for step in made.steps)
    return {name: each for name, each in known if each is not None}


def _advice(taken: PlannedRun, usual: dict[str, Expected]) -> list[str]:
    """Return advice on the agents that would start now."""
    made = taken.plan
    done = going_on(made, taken.earlier)[0].done if taken.earlier is not None else ()
    steps = [step for step in made.steps if step.name not in done and made.execution_mode != ARTIFACT_ONLY]
    with closing(Host(ceilings())) as host:
        available = host.room()
    known = [usual.get(step.name) for step in steps]
    return list(advice([(step.timeouts.wall, step.retry) for step in steps], known, made.concurrency, available))


def _as_object(taken: PlannedRun, chosen: Chosen | str, usual: dict[str, Expected]) -> dict[str, Any]:
    made = taken.plan
    fields: dict[str, Any] = msgspec.to_builtins(made)
    for step, told in zip(made.steps, fields["steps"], strict=True):
        told["env"] = sorted(step.env)  # values may be secrets
        told["command"] = [finish(word) for word in step.command]
        told["rlimits"]["processes"] = most_processes(step.rlimits.processes)
        told["stdin"] = told_of_stdin(step)  # a prompt may hold one too
        told["prompt"] = step.prompt and finish(step.prompt.text)
        for key in ("programs", "prompt", "keys", "session_env") if step.preset is not None else ():
            del told["preset"][key]  # what is not of this run
        told["expected"] = asdict(usual[step.name]) if step.name in usual else None
        if step.node is not None:
            told["node"]["environment"] = for_node(step)
            told["node"]["node_options"] = told["node"]["environment"]["NODE_OPTIONS"]
    if isinstance(chosen, str):
        fields["containment"] = {"refused": chosen}
    else:
        fields["containment"] = {
            "tier": chosen.tier, "detail": chosen.detail, "why_none_better": chosen.why, "remedy": chosen.remedy
        }  # fmt: skip
    for companion in fields["companions"]:
        companion["env"] = sorted(companion["env"])
        companion["ready"]["delay"] = companion["ready"]["delay"] or 0.0
    hooks = fields["hooks"]
    commands = {point: told for point in HOOK_POINTS if (told := hooks.pop(point))}
    fields["hooks"] = {"commands": commands, "stop_on_error": hooks.pop("on_error") == "stop", **hooks}
    fields["notify"]["to"] = made.notify.shown
    if made.workspaces is not None:  # its address may contain a password
        fields["workspaces"]["git"] = fields["workspaces"].pop("shown")
    fields["resumes"] = None
    if taken.earlier is not None:
        found, away = going_on(made, taken.earlier)
        done = {name: each.folder for name, each in found.done.items()}
        fields["resumes"] = {
            "run": label(taken.earlier.run), "completed": done, "again": found.again, "gone": list(away)
        }  # fmt: skip
    fields["routing"] = [
        *({"agent": step.name, "taken": True, "why": step.chosen} for step in made.steps),
        *({"agent": skip.name, "taken": False, "why": skip.why} for skip in made.skips),
    ]
    return fields
