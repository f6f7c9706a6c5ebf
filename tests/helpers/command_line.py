"""The real command line: run to its end, or in the background."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.paths import ROOT
from helpers.waiting import DEADLINE

MARK = "SEQSUP_TEST"  # the environment variable by which a test's processes are known


class Result(NamedTuple):
    code: int
    stdout: str
    stderr: str


@dataclass
class Started:
    """A seqsup in the background. Its output goes to files, so no reader is needed."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def wait(self, deadline: float = DEADLINE) -> Result:
        """The end, which must come by itself."""
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {deadline} s\n{self.stdout}\n{self.stderr}")
        return Result(code, self.stdout, self.stderr)

    def end(self) -> None:
        """End it, politely first, so that it can take its agents with it."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), **extra}


@contextlib.contextmanager
def as_in_a_terminal() -> Iterator[None]:
    """Behind a script's `&`, or nohup, signals are ignored, and what we start would inherit that."""
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
