"""Starts the process of each job: a fork of the worker that was made before it had an event loop, files or threads.

A new interpreter would take longer to load the code of a run than the run takes to begin. The starter has loaded it
already, and shares its memory with the worker and with all that it starts.
"""

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from seqsup.cli.job_process import JobStart, serve
from seqsup.errors import SeqsupError
from seqsup.host.machine import LINUX
from seqsup.runner.supervisor import SIGNALS

_MOST_FDS = 4  # order, lines, errors, place


class Child:
    """A process of a job, seen from its worker."""

    def __init__(self, pid: int, pidfd: int | None, lines: int, errors: BinaryIO) -> None:
        """`lines` is the descriptor of its output."""
        self.pid, self._pidfd = pid, pidfd
        self.lines, self._errors = os.fdopen(lines, "rb", buffering=0), errors

    def signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signum)
            elif not LINUX:
                os.kill(self.pid, signum)

    def gone(self) -> bool:
        """Return whether it has ended, where the kernel reports that."""
        if self._pidfd is None:
            return LINUX  # it ended before its pidfd was opened
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def said(self) -> str:
        """Return what it wrote to stderr: the report of a fault."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def close(self) -> None:
        self.lines.close()
        self._errors.close()
        if self._pidfd is not None:
            os.close(self._pidfd)


class Starter:
    def __init__(self) -> None:
        """Construct it while the process has no event loop, no thread and no open database."""
        gc.collect()
        gc.freeze()  # what both have stays shared: no collection writes to it
        self._line, its_line = socket.socketpair()
        was = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._pid = os.fork()
        if self._pid == 0:
            self._line.close()
            os._exit(_start_jobs(its_line))
        signal.pthread_sigmask(signal.SIG_SETMASK, was)
        its_line.close()

    def start(self, order: JobStart) -> Child:
        """Start the process of a job. SeqsupError: the starter was killed."""
        errors, text = TemporaryFile(), TemporaryFile()  # noqa: SIM115
        ours, its = os.pipe()
        try:
            text.write(msgspec.json.encode(order))
            text.seek(0)
            fds = [text.fileno(), its, errors.fileno(), *(order.place[1:] if order.place is not None else ())]
            socket.send_fds(self._line, [b"j"], fds)
            told, pidfds, _, _ = socket.recv_fds(self._line, 16, 1)
            if not told:
                raise ConnectionResetError
            return Child(int(told), pidfds[0] if pidfds else None, ours, errors)
        except OSError as error:
            os.close(ours)
            errors.close()
            raise SeqsupError(
                f"the worker's process that starts jobs (pid {self._pid}) has ended: start the worker again"
            ) from error
        finally:
            os.close(its)
            text.close()

    def close(self) -> None:
        self._line.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _start_jobs(line: socket.socket) -> int:
    """Fork a process for each order until the worker ends."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them; the worker reads how they ended
    while True:
        told, fds, _, _ = socket.recv_fds(line, 1, _MOST_FDS)
        if not told:
            return 0
        pid = os.fork()
        if pid == 0:
            line.close()
            try:
                os._exit(_carry_out(fds))
            finally:
                os._exit(1)
        pidfds = []
        with suppress(ProcessLookupError):  # it has ended already
            pidfds = [os.pidfd_open(pid)] if LINUX else []
        with suppress(BrokenPipeError):
            socket.send_fds(line, [b"%d" % pid], pidfds)
        for fd in (*fds, *pidfds):
            os.close(fd)


def _carry_out(fds: Sequence[int]) -> int:
    """The process of a job. Return the exit code."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stderr = open(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")  # noqa: PTH123, SIM115
    order, lines, errors, *place = fds
    for number, fd in enumerate((order, lines, errors)):
        os.dup2(fd, number)
        os.close(fd)
    with open(0, "rb", closefd=False) as text:
        start = msgspec.json.decode(text.read(), type=JobStart)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    if place and start.place is not None:
        start = replace(start, place=(start.place[0], place[0]))
    try:
        return serve(start, stderr)
    finally:
        for stream in (sys.stderr, stderr):
            with suppress(OSError):
                stream.flush()
