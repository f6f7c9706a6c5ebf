"""Change a queue, and be killed before the n-th statement, for every n, each time in a folder of its own: ACTION FOLDER

`before` and `after` are the folders of a queue that was not changed, and of one that was changed without a kill.
"""

import itertools
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.queue_scenes import ACTIONS, Scene
from seqsup.queue.embedded import EmbeddedQueue

_dies_at = -1  # how many statements are left


class Dying(sqlite3.Connection):
    def execute(self, *args: Any) -> sqlite3.Cursor:
        _count()
        return super().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        _count()
        return super().executemany(*args)


def _count() -> None:
    global _dies_at
    _dies_at -= 1
    if _dies_at == 0:
        os.kill(os.getpid(), signal.SIGKILL)


connect = sqlite3.connect
sqlite3.connect = lambda *args, **how: connect(*args, **how, factory=Dying)  # type: ignore[assignment]


def attempt(action: str, state: Path, at: int) -> None:
    """Change a queue, and be killed at a statement; 0: at none."""
    global _dies_at
    _dies_at = at
    if action != "create":
        _dies_at = -1
        prepare, change = ACTIONS[action]
        scene = Scene(state)
        prepare(scene)
        if at >= 0:
            _dies_at = at
            change(scene)
    elif at >= 0:
        EmbeddedQueue(state)
    os._exit(0)


def attempts() -> Iterator[tuple[str, int]]:
    yield from (("before", -1), ("after", 0))
    yield from ((str(n), n) for n in itertools.count(1))


if __name__ == "__main__":
    for name, at in attempts():
        folder = Path(sys.argv[2]) / name
        if (pid := os.fork()) == 0:
            attempt(sys.argv[1], folder, at)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code not in (0, -signal.SIGKILL):
            sys.exit(code)
        if at > 0 and code == 0:
            break
