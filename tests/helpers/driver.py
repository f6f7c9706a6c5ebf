"""One interpreter that runs many command lines: a process for each would take a minute."""

import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import IO

from helpers.paths import ROOT

_DRIVER = """
import json, os, sys
from seqsup.cli.app import main
answers = os.fdopen(int(sys.argv[1]), "w")
out = os.dup(1)
for line in sys.stdin:
    words = [word.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for word in json.loads(line)]
    print(main(words), file=answers, flush=True)
    os.dup2(out, 1)  # a full disk, say, has made it give up its output
"""


class _Interpreter:
    def __init__(self, folder: Path, stdout: int, stderr: int) -> None:
        answers, give = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(give)], stdin=subprocess.PIPE, stdout=stdout, stderr=stderr,
            text=True, cwd=folder, pass_fds=[give], env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
        )  # fmt: skip
        os.close(give)
        self._answers = os.fdopen(answers)

    def give(self, words: list[str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def code(self) -> int:
        return int(self._answers.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(40)
        self._answers.close()

    @property
    def answered(self) -> int:
        return self._answers.fileno()


class Driver(_Interpreter):
    """A command that drives seqsup: its stdout is dropped, its stderr is returned."""

    def __init__(self, folder: Path) -> None:
        self._errors: IO[str] = (folder / "stderr").open("w+")
        super().__init__(folder, subprocess.DEVNULL, self._errors.fileno())

    def run(self, words: list[str]) -> tuple[int, str]:
        self._errors.truncate(0)
        self._errors.seek(0)
        self.give(words)
        code = self.code()
        self._errors.seek(0)
        return code, self._errors.read()

    def close(self) -> None:
        super().close()
        self._errors.close()


class TerminalDriver(_Interpreter):
    """Its stdout and stderr are one pseudo-terminal, and what that was sent is returned."""

    def __init__(self, folder: Path, width: int = 80) -> None:
        self._seen, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        super().__init__(folder, terminal, terminal)
        os.close(terminal)

    def run(self, words: list[str]) -> tuple[int, str]:
        self.give(words)
        sent = b""
        while True:
            ready, _, _ = select.select([self._seen, self.answered], [], [], 60)
            assert ready, f"no answer to {words}"
            if self._seen not in ready:
                break
            sent += os.read(self._seen, 65536)
        return self.code(), sent.decode(errors="surrogateescape")

    def close(self) -> None:
        super().close()
        os.close(self._seen)
