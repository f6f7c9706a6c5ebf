"""A queue with a job in each state, and the changes that a crash may interrupt."""

import time
from collections.abc import Callable
from pathlib import Path

from helpers.queues import new
from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import JobResult, Taken
from seqsup.queue.store import Unfinished

DONE, FAILED = JobResult(exit_code=0, run="r1"), JobResult(exit_code=1, run="r1", why="exit 1")


class Scene:
    """A queue with a job in each state, and a worker that has `three`."""

    def __init__(self, state: Path) -> None:
        self.queue, self.file = EmbeddedQueue(state), QueueFile(state)
        self.desk = Desk(state, self.file, "w")
        jobs = [new("one"), new("two", after=(-1,)), new("three", priority=2), new("four", after=(-3,)), new("bad")]
        (self.one, _, _, _, self.bad) = self.queue.add(jobs)
        self.queue.first(self.bad)
        self.three = self.take()
        self.desk.begin(self.three, "r1", "/state")
        self.desk.finish(self.take(), FAILED)

    def take(self) -> Taken:
        taken = self.desk.take()
        assert taken is not None
        return taken

    def due(self) -> None:
        self.queue.add([new("due", priority=5, not_before=time.time() + 0.05)])
        time.sleep(0.1)

    def poison(self) -> None:
        for _ in range(2):
            self.desk.give_back(self.three, Unfinished("killed", lost=True))
            self.three = self.take()


def nothing(_: Scene) -> None: ...


# What has happened before, and what is interrupted
ACTIONS: dict[str, tuple[Callable[[Scene], object], Callable[[Scene], object]]] = {
    "add": (nothing, lambda s: s.queue.add([new("x"), new("y", after=(-1, s.one)), new("z", after=(-1, -2))])),
    "take": (nothing, lambda s: s.desk.take()),
    "take-due": (Scene.due, lambda s: s.desk.take()),
    "list-due": (Scene.due, lambda s: s.queue.jobs()),
    "begin": (nothing, lambda s: s.desk.begin(s.three, "r2", "/elsewhere")),
    "finish": (nothing, lambda s: s.desk.finish(s.three, DONE)),
    "fail": (nothing, lambda s: s.desk.finish(s.three, FAILED)),
    "give-back": (nothing, lambda s: s.desk.give_back(s.three, Unfinished("its worker stopped"))),
    "lose": (Scene.poison, lambda s: s.desk.give_back(s.three, Unfinished("killed", lost=True))),
    "settle": (nothing, lambda s: s.desk.settle(())),
    "settle-poison": (Scene.poison, lambda s: s.desk.settle(())),
    "retry": (nothing, lambda s: s.queue.retry(s.bad)),
    "drop": (nothing, lambda s: s.queue.drop(s.one)),
    "drop-running": (nothing, lambda s: s.queue.drop(s.three.number)),
    "first": (nothing, lambda s: s.queue.first(s.one)),
    "pause": (nothing, lambda s: s.queue.pause(True)),
}
