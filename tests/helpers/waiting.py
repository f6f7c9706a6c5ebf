"""Waiting for facts with a deadline, and skipping where something is missing."""

import inspect
import os
import stat
import time
from collections.abc import Callable
from typing import Literal, NoReturn, TypeVar

import psutil
import pytest

from helpers.paths import ROOT

T = TypeVar("T")


DEADLINE = 40  # seconds, for what comes at once where the machine is not busy; stubs live for 60


def wait_for(fact: Callable[[], T | Literal[False] | None], deadline: float = DEADLINE) -> T:
    """Ask again and again until `fact()` is truthy, and return it; fail after `deadline` seconds. A file that is not
    there yet makes a fact that is not true yet.
    """
    ends = time.monotonic() + deadline
    while not (answer := _asked(fact)):
        if time.monotonic() > ends:
            pytest.fail(f"not within {deadline} s (last answer {answer!r}): {_spelled(fact)}")
        time.sleep(0.005)
    return answer


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not, unless it is one by its first thread only: an init may take seconds
    to reap what it adopted."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


def without(message: str, excuse: str) -> NoReturn:
    """Skip because a program that CI installs is missing. In CI fail instead, unless .ci/run found that this system
    does not have it.
    """
    if os.environ.get("CI") and excuse not in os.environ:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def must_be_open_to_others() -> None:
    """Skip where another user cannot run this seqsup: it may lie below root's home, which is closed to him."""
    for folder in (ROOT, *ROOT.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"nobody else can enter {folder}")


def _asked(fact: Callable[[], T]) -> T | None:
    try:
        return fact()
    except FileNotFoundError:
        return None


def _spelled(fact: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(fact).split())
    except (OSError, TypeError):
        return repr(fact)
