"""Pauses of a run: at the user's request, or while the disk is too full to start another agent."""

import os
import time
from pathlib import Path

from seqsup.host.machine import room
from seqsup.model.enums import Halt
from seqsup.model.events import RunContinued, RunPaused
from seqsup.policy import resources
from seqsup.runner.context import RunContext
from seqsup.state.run_folder import PAUSED, label

_LOOK_AGAIN = 1.0  # seconds: a disk does not report that it has room again


class Pause:
    def __init__(self, folder: Path, run: int, disk_floor: int | str | None, context: RunContext) -> None:
        """`folder` is the run's; `disk_floor` is in bytes, "auto" or None."""
        self._folder, self._label, self._disk_floor, self._context = folder, label(run), disk_floor, context
        self._file = str(folder / PAUSED)

    def why(self) -> str:
        """Return why no agent may start now, or an empty string."""
        if os.path.exists(self._file):  # noqa: PTH110 (before each agent)
            return f"{RunPaused.BY_USER}; `seqsup resume {self._label}` continues it"
        return resources.disk_too_full(*room(self._folder), self._disk_floor)

    async def over(self) -> bool:
        """Wait until agents may start. Return False if the user stops the run meanwhile."""
        if not (why := self.why()):
            return True
        context, began = self._context, time.monotonic()
        context.emit(RunPaused(why=why))
        while why and context.stop_request.halt is Halt.NONE:
            await context.wake.wait(_LOOK_AGAIN)
            why = self.why()
        if why:
            return False
        context.emit(RunContinued(seconds=time.monotonic() - began))
        return True
