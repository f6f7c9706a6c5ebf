"""The exit code of `seqsup run`, by the conventions of env(1), timeout(1) and docker run. Pure."""

from seqsup.model.reason import AT_A_LIMIT, Reason
from seqsup.model.run_view import AgentView, RunView

AT_LIMIT = 124  # seqsup or the kernel stopped the command at a limit
NOT_RUN = 125  # seqsup itself refused or failed
NOT_STARTED = 126  # the program was found and could not be started
NOT_FOUND = 127


def seen(view: RunView) -> int | None:
    """Return the exit code that the shell got from a run that is over: of `run`, what it passed on."""
    if view.exit_code is None or view.profile is not None or len(view.agents) != 1:
        return view.exit_code
    return passed_on(view.exit_code, *view.agents.values())


def passed_on(code: int, agent: AgentView) -> int:
    """Return the exit code for `agent`, the one command of a run that ended with `code`.

    It is that of the last attempt. 128+n means that signal n ended the command.
    """
    if agent.attempts == 0:  # such as too little memory for it, or a Ctrl-C before it
        return code if code > 128 else NOT_RUN
    if agent.reason is Reason.SPAWN_FAILED:
        return NOT_STARTED
    if agent.reason in (Reason.HALTED, Reason.NO_CREDIT):  # 128 + the signal that seqsup got, or 4
        return code
    if agent.reason in AT_A_LIMIT:
        return AT_LIMIT
    if agent.signal is not None:
        return 128 + agent.signal
    return code if agent.exit_code is None else agent.exit_code
