"""Reports of an attempt's Node processes, and requests to them: a collection, a heap snapshot."""

from typing import TYPE_CHECKING

from seqsup.containment.tree import Tree
from seqsup.host.machine import room
from seqsup.model.events import GcDone, GcRequested, Owner, Warned
from seqsup.model.plan import Step
from seqsup.model.process import Collection, Heap, Sample
from seqsup.node.forensics import Known, above, no_room
from seqsup.runner.context import RunContext
from seqsup.runner.place import AttemptPlace

if TYPE_CHECKING:  # a run on a machine without Node has no use for it
    from seqsup.node.telemetry import Telemetry


class NodeWatch:
    def __init__(self, step: Step, number: int, heap: int | None, place: AttemptPlace, context: RunContext) -> None:
        """`heap` is the limit in bytes that V8 was given. Without telemetry all answers are empty."""
        self._step, self._heap, self._context = step, heap, context
        self._folder = place.paths.folder
        self._owner = Owner(name=step.name, number=number)
        self.collection: Collection | None = None  # the last that was reported
        self.telemetry: Telemetry | None = None
        try:
            self.telemetry = place.telemetry()
        except OSError as error:
            context.emit(
                Warned(message=f"{step.name} runs without telemetry: its socket could not be created ({error})")
            )

    def hear(self, tree: Tree, now: float, used: int) -> bool:
        """Let telemetry have its look, and report collections that are over. Return whether a Node process answers.

        `used` is the tree's memory in bytes.
        """
        telemetry = self.telemetry
        if telemetry is None:
            return False
        telemetry.look(now, used, tree.__contains__, tree.describe)
        for told in telemetry.heap_limits.newly_overridden(self._heap):
            self._context.emit(Warned(message=f"{self._step.name}: {told}"))
        for done in telemetry.gc.new():
            self.collection = done
            self._context.emit(GcDone(owner=self._owner, used=used, collection=above(done, self._step.limits.soft)))
        return bool(telemetry.processes.answering())

    def heap(self) -> Heap | None:
        return self.telemetry.processes.heap() if self.telemetry is not None else None

    def snapping(self) -> bool:
        """Return whether a heap snapshot is being written."""
        return self.telemetry is not None and self.telemetry.snapshot.writing

    def known(self) -> Known:
        return self.telemetry.known() if self.telemetry is not None else Known()

    def collect(self, used: int) -> None:
        """Request a collection of a tree that uses so many bytes, which is above memory.soft or memory.warn."""
        limits = self._step.limits
        assert self.telemetry is not None
        key, limit = ("soft", limits.soft) if limits.soft is not None and used >= limits.soft else ("warn", limits.warn)
        processes = len(self.telemetry.processes.answering())
        self._context.emit(GcRequested(owner=self._owner, used=used, limit=limit, processes=processes, key=key))
        self.telemetry.gc.collect()

    def snapshot(self, sample: Sample) -> None:
        """Request a heap snapshot, where memory and disk have room for it."""
        assert self.telemetry is not None

        def why_not(heap: Heap) -> str:
            try:
                free, _ = room(self._folder)
            except OSError as error:  # the agent may have removed it
                return f"{self._folder}: {error.strerror}"
            return no_room(heap, self._step.limits, sample.used, sample.host_available, free)

        self.telemetry.snapshot.request(why_not)
