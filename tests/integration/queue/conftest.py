"""The kinds of queue: each test of the contract runs against all of them."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.fleet import Workers
from helpers.postgres import fleet, postgres, with_queue
from helpers.queues import Embedded, Fleet, Store
from seqsup.queue.store import Queue

__all__ = ["fleet", "postgres", "with_queue"]


@pytest.fixture(params=["embedded", "fleet"])
def store(test_id: str, request: pytest.FixtureRequest) -> Store:
    if request.param == "fleet":
        return Fleet(request.getfixturevalue("fleet"))
    return Embedded(Path(os.environ["SEQSUP_STATE_DIR"]))


@pytest.fixture
def queue(store: Store) -> Iterator[Queue]:
    with closing(store.open()) as opened:
        yield opened


@pytest.fixture
def workers(fleet: str, tmp_path: Path) -> Iterator[Workers]:
    with closing(Workers(fleet, tmp_path)) as workers:
        yield workers
