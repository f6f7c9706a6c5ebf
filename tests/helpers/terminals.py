"""Real terminals, made by tmux."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from helpers.paths import ROOT
from helpers.waiting import wait_for

in_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux to make terminals with")


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, folder: Path, width: int, height: int, env: Mapping[str, str]) -> None:
        self._tmux = ["tmux", "-S", f"{os.environ['XDG_RUNTIME_DIR']}/tmux", "-f", "/dev/null"]
        self._env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "LC_ALL": "C.UTF-8", **env}
        for name in ("TMUX", "CI", "NO_COLOR", "FORCE_COLOR"):
            if name not in env:
                self._env.pop(name, None)
        command = "exec sh -i"
        self._call("new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(folder), command)

    def _call(self, *words: str) -> str:
        ended = subprocess.run(
            [*self._tmux, *words], env=self._env, capture_output=True, text=True, check=False, timeout=40
        )
        return ended.stdout

    def type(self, *words: object) -> None:
        line = shlex.join([sys.executable, "-m", "seqsup", *map(str, words)])
        self.say(f"clear; {line}; echo exit=$?")

    def say(self, line: str) -> None:
        self._call("send-keys", "-l", line)
        self.press("Enter")

    def press(self, key: str) -> None:
        self._call("send-keys", key)

    def resize(self, width: int, height: int) -> None:
        self._call("resize-window", "-x", str(width), "-y", str(height))

    def shown(self, *, styled: bool = False) -> str:
        return self._call("capture-pane", "-p", *(["-e"] if styled else []))

    def shows(self, *words: str, styled: bool = False) -> str:
        """Wait until all of them stand there at once, and give what does."""
        return wait_for(lambda: all(word in (seen := self.shown(styled=styled)) for word in words) and seen)

    def all(self) -> str:
        """With what has scrolled away."""
        return self._call("capture-pane", "-p", "-J", "-S", "-")

    def code(self, deadline: float = 40) -> int:
        ended = wait_for(lambda: re.search(r"exit=(\d+)", self.all()), deadline)
        return int(ended[1])

    def close(self) -> None:
        self._call("kill-server")


class Open(Protocol):
    def __call__(self, width: int = 80, height: int = 24, **env: str) -> Terminal: ...


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    opened: list[Terminal] = []

    def start(width: int = 80, height: int = 24, **env: str) -> Terminal:
        opened.append(Terminal(tmp_path, width, height, env))
        wait_for(lambda: opened[-1].shown().strip())  # a prompt
        return opened[-1]

    yield start
    for each in opened:
        each.close()
