"""Arguments of the Python API that cannot be right: each error names the argument and what to give."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import seqsup as api
from helpers.command_line import Result
from helpers.profiles import shell, write
from seqsup import artifacts, memory
from seqsup.errors import NoSuchRun

Seqsup = Callable[..., Result]
Call = Callable[[Any], object]

READERS: dict[str, Call] = {
    "memory_usage": memory.memory_usage,
    "force_gc": memory.force_gc,
    "is_memory_high": lambda run: memory.is_memory_high(run=run),
    "wait_for_memory_cleanup": lambda run: memory.wait_for_memory_cleanup(run=run),
    "cleanup_between_agents": lambda run: memory.cleanup_between_agents(run=run),
    "log_memory_usage": lambda run: memory.log_memory_usage("x", run=run),
    "summary": lambda run: artifacts.summary("a", run=run),
    "read": lambda run: artifacts.read("a", run=run),
}


@pytest.mark.parametrize("ask", READERS.values(), ids=READERS)
def test_run_that_does_not_exist_is_an_error(ask: Call, tmp_path: Path) -> None:
    for run in ("r999", "999", "runs/r999", tmp_path / "runs/r999"):
        with pytest.raises(NoSuchRun, match=r'no run "\S*999" in /\S+; `seqsup runs` lists all runs'):
            ask(run)
    for run in ("nightly", tmp_path, ""):
        with pytest.raises(NoSuchRun, match=r'no run ".*": give a label such as "r42"; `seqsup runs`'):
            ask(run)
    for number in (42, True, b"r42", [1]):
        with pytest.raises(TypeError, match='run is a label such as "r42", or the folder of a run, not '):
            ask(number)


def test_run_is_named_by_label_or_folder(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "echo done"))).code == 0
    for run in ("r1", "1", Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1")):
        assert memory.memory_usage(run).why == "no run is running"
        assert artifacts.summary("a", run=run) == "done"


AMOUNT = "is a number or text with a unit, not "
ONLY = r'only is a list of names, such as \["review"\], not '
NO_TEXT = (None, 3, True, [1], b"x")
NO_NUMBER = (None, True, [1], b"x")
CALLS: dict[str, tuple[Call, str, tuple[object, ...]]] = {
    "threshold": (memory.is_memory_high, "threshold " + AMOUNT, NO_NUMBER),
    "timeout": (lambda value: memory.wait_for_memory_cleanup(timeout=value), "timeout " + AMOUNT, NO_NUMBER),
    "interval": (lambda value: memory.cleanup_between_agents(interval=value), "interval " + AMOUNT, NO_NUMBER),
    "label": (memory.log_memory_usage, "label is text, not ", NO_TEXT),
    "pids": (memory.memory_of, "pids is a list of whole numbers, not ", (None, 3, True)),
    "a pid": (lambda value: memory.memory_of([value]), "a pid is a whole number, not ", (None, "7", True, 1.5)),
    "agent": (artifacts.summary, "agent is text, not ", NO_TEXT),
    "profile": (api.run, "profile is a path, the tables as a dict, or a plan, not ", NO_TEXT),
    "task": (lambda value: api.run({}, task=value), "task is text, not ", NO_TEXT),
    "only": (lambda value: api.run({}, only=value), ONLY, (*NO_TEXT, "review")),
    "resume": (lambda value: api.run("x", resume=value), "resume is True or False, not ", (None, 1, "r1")),
    "wait": (lambda value: api.run({}, wait=value), "wait is True or False, not ", (None, 1, "no")),
}


@pytest.mark.parametrize(("call", "why", "values"), CALLS.values(), ids=CALLS)
def test_argument_of_another_type_is_an_error(call: Call, why: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(TypeError, match=why):
            call(value)


def test_name_of_a_file_of_another_type_is_an_error(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "echo done"))).code == 0
    for name in NO_TEXT:
        with pytest.raises(TypeError, match="name is text, not "):
            artifacts.read("a", name)  # type: ignore[arg-type]


def test_no_processes_use_no_memory() -> None:
    usage = memory.memory_of([])
    assert (usage.used, usage.processes, usage.nodes, usage.why) == (0, (), (), "")
