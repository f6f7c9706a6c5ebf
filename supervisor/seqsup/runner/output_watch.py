"""An attempt's output as it grows: how long it has been quiet, and that it stays within output.max."""

import time
from collections.abc import Callable
from math import inf

from seqsup.model.events import AnyEvent, OutputCut
from seqsup.model.plan import Step
from seqsup.policy import pacing
from seqsup.policy.stall import LOOK_EVERY, is_busy
from seqsup.runner.output_guard import OutputGuard
from seqsup.state.output import Output


class OutputWatch:
    def __init__(
        self, step: Step, number: int, stdout: Output, stderr: Output, emit: Callable[[AnyEvent], object]
    ) -> None:  # fmt: skip
        self._step, self._number, self._emit = step, number, emit
        self._streams = {"stdout": stdout, "stderr": stderr}
        self._heard = self._trimmed = self._looked = time.monotonic()
        self._cpu: dict[int, float] | None = None  # at the last look; None: it printed since
        self._size = self._size_when_trimmed = 0  # bytes
        self._cut: set[str] = set()  # streams of which it was reported
        self.next_trim = inf  # seconds until the output must be looked at again, without a guard
        self._guard = OutputGuard((stdout, stderr), step.output_max) if step.output_max is not None else None

    def quiet(self, now: float, cpu: Callable[[], dict[int, float]]) -> float:
        """Return the seconds since the last sign of life; 0 where nothing depends on it.

        `cpu` returns the CPU seconds of each process. It is called now and then in a long silence.
        """
        if (stall := self._step.timeouts.stall) is None:
            return 0.0
        if (size := self._total()) != self._size:
            self._heard, self._size, self._cpu = now, size, None
        elif isinstance(stall, str) and now - max(self._heard, self._looked) >= LOOK_EVERY:
            before, self._cpu = self._cpu, cpu()
            if before is not None and is_busy(before, self._cpu, now - self._looked):
                self._heard = now
            self._looked = now
        return now - self._heard

    def trim(self) -> None:
        """Discard the middle of a stream that exceeds output.max. Report it once."""
        if (most := self._step.output_max) is None:
            return
        now, total = time.monotonic(), self._total()
        grown = total - self._size_when_trimmed
        for name, output in self._streams.items() if grown else ():
            output.trim(most)
            if output.cut and name not in self._cut:  # also by the guard
                self._cut.add(name)
                self._emit(
                    OutputCut(
                        agent=self._step.name, attempt=self._number, stream=name, size=output.size(), most=most
                    )
                )  # fmt: skip
        guarded = self._guard is not None and self._guard.works
        self.next_trim = inf if guarded else pacing.until_trim(grown / max(now - self._trimmed, 1e-4), most)
        self._trimmed, self._size_when_trimmed = now, total

    def close(self) -> None:
        if self._guard is not None:
            self._guard.close()

    def _total(self) -> int:
        return sum(output.size() for output in self._streams.values())
