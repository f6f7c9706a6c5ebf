"""Starts the process of a job: a fork of the worker, which has loaded the code of a run already.

A new interpreter would need longer for that than the run needs to begin.
"""

import gc
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NoReturn

from seqsup.cli.job_process import JobStart, serve
from seqsup.host.forks import STEADY
from seqsup.host.machine import LINUX, give_back
from seqsup.host.slim_asyncio import asyncio
from seqsup.host.wake import Wake
from seqsup.model.preset import built_in
from seqsup.runner.supervisor import SIGNALS

_LOOK_AGAIN = 0.01  # seconds between two looks whether another thread is at something


class Child:
    """The process of a job, seen from its worker."""

    def __init__(self, pid: int, lines: int, errors: BinaryIO) -> None:
        """`lines` is the descriptor of its output."""
        self._pid, self._errors = pid, errors
        self._pidfd: int | None = None
        if LINUX:
            self._pidfd = os.pidfd_open(pid)
        self.lines = os.fdopen(lines, "rb", buffering=0)

    def signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signum)  # it is not reaped before close()

    def gone(self) -> bool:
        """Return whether it has ended, where the kernel reports that. Its output ends a little earlier or later."""
        if self._pidfd is None:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def said(self) -> str:
        """Return what it wrote to stderr: the report of a fault."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Reap it. It has told its last line, or is gone."""
        self.lines.close()
        self._errors.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        os.waitpid(self._pid, 0)


def prepare() -> None:
    """Load what each job would load again, and make it fit to be shared: no collection writes to it from here on."""
    import encodings.idna  # noqa: F401 (for an address that a socket is bound to)

    import seqsup.metrics.exporter
    import seqsup.node.telemetry  # noqa: F401

    built_in()
    gc.collect()
    gc.freeze()
    give_back()


async def start_job(start: JobStart) -> Child:
    started = asyncio.get_running_loop().create_future()
    wake = Wake()
    while not STEADY.acquire(blocking=False):
        await wake.wait(_LOOK_AGAIN)
    try:
        # Not from within this task: in the child no task runs when its own loop begins
        asyncio.get_running_loop().call_soon(_fork, start, started)
        child: Child = await started
    finally:
        STEADY.release()
    return child


def _fork(start: JobStart, started: "asyncio.Future[Child]") -> None:
    errors = TemporaryFile()  # noqa: SIM115
    ours, its = os.pipe()
    sys.stderr.flush()
    was = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # so that it hears an early one once it can
    try:
        pid = os.fork()
        if pid == 0:
            _in_child(start, its, errors.fileno())
        started.set_result(Child(pid, ours, errors))
    except OSError as error:
        os.close(ours)
        errors.close()
        started.set_exception(error)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, was)
        os.close(its)


def _in_child(start: JobStart, lines: int, errors: int) -> NoReturn:
    """Carry the job out, without anything that is the worker's: its files, its queue and its event loop.

    Their objects stay as they are, since the frames below this one are never left.
    """
    code = 1
    try:
        STEADY.release()  # its metrics have a thread too
        asyncio._set_running_loop(None)
        signal.set_wakeup_fd(-1)
        os.setsid()  # the end of the worker's terminal is none of its business
        worker = os.dup(2)
        with Path(os.devnull).open("rb") as nothing:
            for number, fd in enumerate((nothing.fileno(), lines, errors)):
                os.dup2(fd, number)
        keep = {0, 1, 2, worker} | ({start.place[1]} if start.place is not None else set())
        for fd in {int(name) for name in os.listdir("/dev/fd")} - keep:  # noqa: PTH208
            with suppress(OSError):
                os.close(fd)
        with open(worker, "w", encoding=sys.stderr.encoding, errors="replace") as stderr:  # noqa: PTH123
            code = serve(start, stderr)
        sys.stderr.flush()
    finally:
        os._exit(code)
