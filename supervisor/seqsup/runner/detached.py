"""A run in the background: a process of its own session, which its caller leaves once it runs or waits its turn."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from seqsup.state.run_folder import private
from seqsup.view.terminal import discard

LOG = "detached.log"  # in the state folder: what such a run would have told a terminal


class Detached:
    """The background end of `start --detach`: reports once how to find the run, and releases the caller."""

    def __init__(self, line: int, state_dir: Path) -> None:
        self._line: int | None = line
        self._state_dir = state_dir

    def announce(self, label: str, name: str) -> None:
        """Release the caller; afterwards nothing is written to its terminal."""
        if self._line is None:
            return
        log = os.open(private(self._state_dir) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        sys.stdout.flush()
        for fd in (1, 2):
            os.dup2(log, fd)
        os.close(log)
        os.write(self._line, f"{label} {name}\n".encode())
        os.close(self._line)
        self._line = None


def detach(state_dir: Path, carry_out: Callable[[Detached], int], profile: str = "") -> int:
    """Carry out in a process of its own. What ends before it is announced is the caller's to see, exit code and all.

    By its `profile` a run is found that is kept in a state folder of the profile's own.
    """
    ours, line = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os.setsid()  # the end of the terminal is none of its business
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        return carry_out(Detached(line, state_dir))
    os.close(line)
    with os.fdopen(ours) as told:
        said = told.readline().split()
    if not said:
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code
    label, name = said
    state = "waits for the machine's turn" if label.startswith("q") else "runs"
    lines = [f"seqsup: {name} {state} in the background, pid {pid}"]
    try:
        click.echo(label)
    except OSError as error:
        discard(1)
        lines.append(f"seqsup: stdout: {error.strerror}")
    runs = label.startswith("r")
    of = (profile or label) if runs else label if profile else name
    then = f"seqsup logs {of} -f · seqsup stop {of}" if runs else f"seqsup stop {label}"  # waiting: no logs yet
    lines.append(f"next: seqsup status {of} · {then}")
    try:
        click.echo("\n".join(lines), err=True)
    except OSError:  # the run continues without a reader
        discard(2)
    return 0
