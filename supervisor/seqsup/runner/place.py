"""The place of one attempt: its folder and files, its cgroup, and the channel to its Node processes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from seqsup.containment.cgroup.group import Cgroup
from seqsup.host.machine import most_processes
from seqsup.model.enums import Enforce
from seqsup.model.plan import Step
from seqsup.node import stand_in
from seqsup.policy.classify import last_words
from seqsup.runner.context import RunContext
from seqsup.state.output import Output
from seqsup.state.run_folder import ARTIFACTS, NOTICES, STDERR, STDOUT, private, tail

if TYPE_CHECKING:  # a run on a machine without Node has no use for it
    from seqsup.node.telemetry import Telemetry

_LATELY = 16 * 1024  # bytes: a stack and details of an error may follow it


class AttemptPaths(Struct, frozen=True):
    """The folder of an attempt, and the marks of its processes."""

    run: Path  # its folder
    folder: Path
    label: str  # of the folder, relative to the run's
    ledger: int
    marks: dict[str, str]
    previous: Path | None = None  # the file with the summaries of those before
    lane: int = 1

    @property
    def artifacts(self) -> Path:
        """The folder for the agent's own files. It is not that of the output, in place of which another user might put
        links.
        """
        return self.folder / ARTIFACTS

    @property
    def notices(self) -> Path:
        """The file in which the agent can read what seqsup ended, and why."""
        return self.folder / NOTICES


class AttemptPlace:
    """Files, group and line of one attempt."""

    def __init__(self, step: Step, number: int, paths: AttemptPaths, context: RunContext) -> None:
        self.paths, self._step, self._number, self._context = paths, step, number, context
        self.groups = context.groups if step.limits.enforce is not Enforce.WATCH else None
        self._group: Cgroup | None = None
        self._telemetry: Telemetry | None = None
        for each in (paths.folder.parent, paths.folder, paths.artifacts):  # mostly none of them is there
            private(each)
        self.stdout, self.stderr = Output(f"{paths.folder}/{STDOUT}"), Output(f"{paths.folder}/{STDERR}")
        if step.ends_tools_first:
            self.add_notice("")
        if step.account is not None:
            for own in (paths.artifacts, self.stdout.fd, self.stderr.fd):  # /dev/stdout is opened by permission
                os.chown(own, step.account.uid, step.account.gid)

    def group(self) -> Cgroup | None:
        """The kernel's group, if there can be one; OSError where it refuses."""
        if self._group is None and self.groups is not None:
            name = f"{self._step.name}-{self._number}"
            hard, processes = self._step.limits.hard, most_processes(self._step.rlimits.processes)
            self._group = self.groups.make(name, hard, processes, as_one=not self._step.ends_tools_first)
        return self._group

    def telemetry(self) -> "Telemetry | None":
        """Return the channel to its Node processes, if it is wanted. OSError says why there can be none."""
        step, context = self._step, self._context
        if self._telemetry is None and step.node is not None and step.node.telemetry:
            from seqsup.node.telemetry import Telemetry

            self._telemetry = Telemetry(step.limits, step.account, self.paths.folder, context.wake, context.sockets)
        return self._telemetry

    def add_notice(self, line: str) -> None:
        """Append a line to the agent's notices. The file is made with the first call, which may give no line."""
        fd = os.open(self.paths.notices, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            if self._step.account is not None:
                os.fchown(fd, self._step.account.uid, self._step.account.gid)
            os.write(fd, f"{line}\n".encode() if line else b"")
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._telemetry is not None:
            self._telemetry.close()
        if self._group is not None:
            self._group.close()
        if self._step.node is not None:
            stand_in.remove(self.paths.folder, self.paths.run if self._step.account is None else None)
        self.stdout.close()
        self.stderr.close()

    def last_line(self, logs: tuple[str, ...] = (STDERR, STDOUT)) -> str:
        """Return the last line of the first of these that has one. Works after it was closed."""
        for log in logs:
            if said := last_words(tail(self.paths.folder / log, _LATELY)):
                return said
        return ""
