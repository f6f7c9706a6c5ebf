"""A plan carried out by a program of the user's own, without a terminal: readers and a stop request are its own."""

import json
import subprocess
import sys
from pathlib import Path

from helpers.profiles import shell, write

WORKER = """
import asyncio, json, sys
from seqsup.runner.readers import Readers
from seqsup.runner.run_plan import run_plan
from seqsup.runner.stop_request import StopRequest
from seqsup.host.wake import Wake
from seqsup.cli.load_plan import load
from seqsup.model.enums import Halt

class Mine(Readers):
    def begin(self, begun, emitter):
        super().begin(begun, emitter)
        emitter.add_reader(self.read)

    def read(self, recorded):
        name = type(recorded.body).__name__
        kinds.append(name)
        if name == "AttemptStarted" and "--stop" in sys.argv:
            stop.wish(Halt.AFTER_AGENT, 15, "the worker")

kinds, plan, stop = [], load(sys.argv[1]), StopRequest()
code = asyncio.run(run_plan(plan, stop, Mine(plan), Wake()))
print(json.dumps({"code": code, "kinds": kinds}))
"""


def worker(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WORKER, *map(str, args)], capture_output=True, text=True, check=True, timeout=60
    )


def test_library_call_runs_a_plan_and_says_nothing(tmp_path: Path) -> None:
    ended = worker(write(tmp_path, shell("a", "echo hello"), shell("b", "true")))
    said = json.loads(ended.stdout)
    assert said["code"] == 0
    assert [kind for kind in said["kinds"] if kind in ("RunStarted", "AgentEnded", "RunEnded")] == [
        "RunStarted", "AgentEnded", "AgentEnded", "RunEnded",
    ]  # fmt: skip
    assert ended.stderr == ""


def test_library_call_stops_when_the_caller_requests_it(tmp_path: Path) -> None:
    ended = worker(write(tmp_path, shell("a", "echo a >>ran"), shell("b", "echo b >>ran")), "--stop")
    assert json.loads(ended.stdout)["code"] == 128 + 15
    assert (tmp_path / "ran").read_text() == "a\n"


def test_two_library_calls_run_one_after_another_in_one_process(tmp_path: Path) -> None:
    first = "asyncio.run(run_plan(plan, StopRequest(), Readers(plan), Wake()))\n"
    twice = WORKER.replace("code = asyncio.run", f"{first}code = asyncio.run")
    path = write(tmp_path, shell("a", "echo a >>ran"))
    ended = subprocess.run([sys.executable, "-c", twice, path], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ended.stdout)["code"] == 0
    assert (tmp_path / "ran").read_text() == "a\na\n"


def test_the_runs_own_sweep_is_not_counted_as_a_wait_for_others(tmp_path: Path) -> None:
    slow = (
        "import seqsup.runner.run_plan as module\n"
        "async def sweeps(*_): await asyncio.sleep(1.5)\n"
        "module._put_in_order = sweeps\n"
        "code = asyncio.run"
    )
    waits = WORKER.replace("code = asyncio.run", slow).replace(
        "        kinds.append(name)\n",
        '        kinds.append(name if name != "RunStarted" else recorded.body.waited)\n',
    )
    path = write(tmp_path, shell("a", "true"))
    ended = subprocess.run([sys.executable, "-c", waits, path], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ended.stdout)["kinds"][0] < 1
