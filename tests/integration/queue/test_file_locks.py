"""The locks of SQLite hold, however often a process opens the same file."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from helpers.queues import new
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import JobState
from seqsup.state.journal import Journal

QUEUE = ("queue.db", EmbeddedQueue, "from seqsup.queue.embedded import EmbeddedQueue; EmbeddedQueue(folder).close()")
JOURNAL = (
    "journal.db", lambda folder: Journal.open(folder, write=True),
    "from seqsup.state.journal import Journal; Journal.open(folder, write=True).close()",
)  # fmt: skip


def close_elsewhere(folder: Path, script: str) -> None:
    """Open and close the file in another process."""
    begin = "import sys; from pathlib import Path; folder = Path(sys.argv[1])"
    subprocess.run([sys.executable, "-c", f"{begin}; {script}", folder], check=True)


@pytest.mark.parametrize(("name", "opened", "elsewhere"), [QUEUE, JOURNAL])
def test_a_second_connection_leaves_the_locks_of_the_first(
    tmp_path: Path, name: str, opened: Callable[[Path], Any], elsewhere: str
) -> None:
    """Without them another process that closes the file takes itself for the last one, and removes the WAL."""
    with ExitStack() as open_ones:
        first = open_ones.enter_context(closing(opened(tmp_path)))
        if isinstance(first, Journal):
            first.begin("nightly", None, "cookie")
            first.flush()
        else:
            first.add([new()])
        open_ones.enter_context(closing(opened(tmp_path)))
        close_elsewhere(tmp_path, elsewhere)
        assert (tmp_path / f"{name}-wal").exists()


def test_jobs_of_two_connections_and_another_process_are_all_there(tmp_path: Path) -> None:
    with closing(EmbeddedQueue(tmp_path)) as one:
        for _ in range(3):
            one.add([new()])
            with closing(EmbeddedQueue(tmp_path)) as two:
                two.add([new()])
            close_elsewhere(tmp_path, QUEUE[2])
            one.add([new()])
        assert one.counts()[JobState.READY] == 9
