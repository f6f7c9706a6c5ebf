"""The bell of a terminal, at the end of a long run."""

import contextlib
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

from helpers.command_line import environment
from helpers.profiles import shell, write
from helpers.waiting import DEADLINE

RING = """
import sys
from seqsup.cli.app import main
from seqsup.runner import readers
readers._RINGS = float(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


def printed(*words: object) -> bytes:
    """Return what a command prints on a terminal of its own."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    env = {**environment({}), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    env.pop("CI", None)
    command = [sys.executable, "-c", RING, *map(str, words)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(ours, 65536):
            told += piece
    os.close(ours)
    assert process.wait(DEADLINE) == 0
    return told


def test_long_run_rings_the_bell_of_a_terminal(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"))
    assert printed(0, "start", profile).count(b"\a") == 1
    assert b"\a" not in printed(0, "start", profile, "--progress=plain")
    assert b"\a" not in printed(3600, "start", profile)
