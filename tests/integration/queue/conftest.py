"""The kinds of queue: each test of the contract runs against all of them."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.queues import Embedded, Store
from seqsup.queue.store import Queue


@pytest.fixture(params=["embedded"])
def store(test_id: str) -> Store:
    return Embedded(Path(os.environ["SEQSUP_STATE_DIR"]))


@pytest.fixture
def queue(store: Store) -> Iterator[Queue]:
    with closing(store.open()) as opened:
        yield opened
