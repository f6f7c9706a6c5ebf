"""The conversation of an attempt: resumed where the last one was interrupted, or a fresh one."""

from uuid import uuid4

from msgspec.structs import replace

from seqsup.model.outcome import PastAttempt
from seqsup.model.plan import Step
from seqsup.model.run_view import AgentView
from seqsup.policy import sessions
from seqsup.policy.sessions import NONE_CHOSEN, ChosenSession
from seqsup.runner.place import AttemptPaths
from seqsup.state.run_folder import ARTIFACTS, read_notices

_NOTICES = 3  # the newest ones


def choose(step: Step, agent: AgentView) -> ChosenSession:
    """Choose the conversation of the next attempt. `agent` is what the run knows of it so far."""
    if step.prompt is None:
        return NONE_CHOSEN
    one_for_all_rounds = step.repeat is not None and not step.repeat.fresh
    return sessions.choose(
        step.retry.how, step.prompt.form, _past(step, agent), str(uuid4()), one_for_all_rounds=one_for_all_rounds
    )  # fmt: skip


def within(step: Step, chosen: ChosenSession, agent: AgentView, paths: AttemptPaths) -> Step:
    """Return the step with the command line for that conversation. A resumed turn begins with a prompt of ours."""
    if step.prompt is None:
        return step
    text = _reminder(step, agent, paths) if chosen.resumed else None
    return replace(step, command=step.prompt.command(sessions.options(step.prompt.form, chosen), text))


def _reminder(step: Step, agent: AgentView, paths: AttemptPaths) -> str:
    """Return the prompt of a resumed turn, with the notices of the last attempt and the way to its files."""
    text = sessions.reminder(_past(step, agent))
    if agent.folder is None:
        return text
    last = paths.run / agent.folder
    parts = [text, *read_notices(last)[-_NOTICES:]]
    if step.prompt is not None and str(paths.artifacts) in step.prompt.text:
        parts.append(f"Your folder {last / ARTIFACTS} is now {paths.artifacts}: move your files there.")
    return " ".join(parts)


def _past(step: Step, agent: AgentView) -> list[PastAttempt]:
    """Return its attempts with the same prompt, command and folder."""
    return [each for each in agent.past if each.content == step.content]
