"""The process that carries out a plan for `start` and `run`: its signals, its terminal, its exit code."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from seqsup.containment.mark import COOKIE, FOLDER
from seqsup.errors import Refused
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.model.plan import Plan
from seqsup.model.run_view import RunView
from seqsup.runner.job_run import JobRun
from seqsup.runner.readers import Display, Readers, TerminalReaders
from seqsup.runner.run_plan import run_plan
from seqsup.runner.stop_request import StopRequest

SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP,
)  # fmt: skip


def supervise(
    plan: Plan, display: Display | Readers, *, resume: int | None = None, wait: bool = True,
    first: Halt = Halt.AFTER_AGENT, place: tuple[int, int] | None = None,
    verdict: Callable[[int, RunView], int] | None = None, job: JobRun | None = None,
) -> int:  # fmt: skip
    """Carry out a plan and return the exit code, or what `verdict` makes of that of a run that began. See run_plan.

    `first` is what the first Ctrl-C requests.
    """
    must_be_outside()
    # Until we listen: by a Ctrl-C before that asyncio would cancel the run, in the midst of its agent
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    readers = display if isinstance(display, Readers) else TerminalReaders(plan, display)
    code = asyncio.run(_supervise(plan, readers, StopRequest(first), resume=resume, wait=wait, place=place, job=job))
    return code if verdict is None or readers.view is None else verdict(code, readers.view)


def must_be_outside() -> None:
    """Raise Refused inside an agent: a run of its own would wait for that of the agent."""
    if inside := os.environ.get(COOKIE):
        agent, run = os.environ.get("SEQSUP_AGENT", "?"), Path(os.environ.get(FOLDER, inside)).name
        raise Refused(
            f"cannot start a run inside agent {agent} of {run}: it would wait for itself. Run the command directly."
        )


async def _supervise(
    plan: Plan, readers: Readers, stop: StopRequest, *, resume: int | None, wait: bool, place: tuple[int, int] | None,
    job: JobRun | None,
) -> int:  # fmt: skip
    wake = Wake()
    if _listen(stop, wake, readers.say):
        await wake.wait(0.001)  # a request that came early is heard before an agent starts
    stop.subscribe(readers.stops)
    code = await run_plan(plan, stop, readers, wake, resume=resume, wait=wait, place=place, job=job)
    if code == 0 and (lost := readers.lost()) is not None:
        raise lost
    return code


def _listen(stop: StopRequest, wake: Wake, say: Callable[[str], None]) -> bool:
    """Hear signals from here on. Return whether some came before."""
    loop = asyncio.get_running_loop()
    if not _ignored(signal.SIGINT):
        loop.add_signal_handler(signal.SIGINT, stop.interrupt, signal.SIGINT)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if not _ignored(signum):
            loop.add_signal_handler(signum, stop.wish, Halt.NOW, signum, signum.name)
    loop.add_signal_handler(signal.SIGUSR1, stop.wish, Halt.AFTER_AGENT, signal.SIGINT, "seqsup stop")
    loop.add_signal_handler(signal.SIGUSR2, wake.poke)  # `seqsup resume`
    # Stopped, it would no longer see the tree grow, while the agent ran on in its own session
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # in the background, after `stty tostop`
    loop.add_signal_handler(signal.SIGTSTP, say, "Ctrl-Z has no effect: a suspended seqsup cannot watch memory")
    early = bool(signal.sigpending())
    # Our parent may have blocked some, which agents would inherit
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return early


def _ignored(signum: signal.Signals) -> bool:
    """Under nohup, or behind a script's `&`, our parent wants these to have no effect."""
    return signal.getsignal(signum) is signal.SIG_IGN
