"""Artifact-only runs start no process: each agent's brief is written, with the summaries of earlier agents.

They are for chains that are too long to run, or for work by a person or another tool. After the work, its summary.md is
left beside the brief, and the next artifact-only run passes it on.
"""

import shlex
from pathlib import Path

from seqsup.model.events import BriefWritten
from seqsup.model.plan import Plan, Step
from seqsup.runner.begun import BegunRun
from seqsup.runner.context import RunContext
from seqsup.runner.inputs import Inputs
from seqsup.state.artifacts import has_summary
from seqsup.state.journal import Journal
from seqsup.state.run_folder import ARTIFACTS, RUNS, private, run_folder, write_private

FILE = "brief.md"
FOLDER = "brief"  # in the agent's folder, where an attempt would have its number


def write(step: Step, folder: Path, before: str) -> Path:
    """Write an agent's brief. Its stdin is in it, unlike anywhere else: that is what the brief is for."""
    parts = [f"# {step.name}", f"In `{step.cwd}`:"]
    parts += [step.prompt.text] if step.prompt is not None else [f"```sh\n{shlex.join(step.command)}\n```"]
    if step.stdin:
        parts += ["Its stdin:", step.stdin]
    elif step.stdin_file:
        parts += [f"Its stdin: `{step.stdin_file}`"]
    parts += [f"Write a short summary to `{folder / ARTIFACTS / 'summary.md'}`."]
    if before:
        parts += ["# Summaries of earlier agents", before]
    file = folder / ARTIFACTS / FILE
    write_private(file, "\n\n".join(parts).strip() + "\n")
    return file


def standing(journal: Journal, state_dir: Path, profile: str | None, agent: str, own: int) -> Path | None:
    """Return the folder that represents an agent: of earlier runs the last brief with a summary, or the last completed
    attempt.
    """
    good: dict[int, int] = {}  # run -> the last attempt
    for past in journal.past(profile, agent):
        if past.ok:
            good.setdefault(past.run, past.attempt)
    for row in reversed([row for row in journal.runs() if row.profile == profile and row.run != own]):
        folder = run_folder(state_dir, row.run) / agent
        for each in (FOLDER, str(good.get(row.run, ""))):
            if each and (has_summary(folder / each) or (each != FOLDER and (folder / each).exists())):
                return folder / each
    return None


def carry_out(
    plan: Plan, begun: BegunRun, inputs: Inputs, context: RunContext, journal: Journal, ok: dict[str, bool]
) -> None:  # fmt: skip
    """Write a brief for each agent that is not yet in `ok`. Whatever else the profile says, nothing is spawned."""
    state_dir = begun.folder.parent.parent
    for step in plan.steps:
        if context.stop_request.halt:
            return
        if step.name in ok:
            continue
        paths = inputs.paths(step, FOLDER)
        private(paths.artifacts)
        write(inputs.filled_in(step, paths), paths.folder, inputs.so_far())
        found = standing(journal, state_dir, plan.profile, step.name, begun.number)
        if found is not None:
            inputs.standing[step.name] = found
        stands = str(found.relative_to(state_dir / RUNS)) if found is not None else ""
        context.emit(BriefWritten(agent=step.name, content=step.content, folder=paths.label, stands=stands))
        ok[step.name] = True
        inputs.hand_on(step.name, ok=True)
