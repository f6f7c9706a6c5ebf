"""seqsup as on macOS: the simulation of tests/stubs/mac, and where mounts can be changed, no /proc and no cgroups."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from helpers.command_line import Result
from helpers.paths import ROOT, STUBS

# psutil on Linux needs a /proc, so that is mounted elsewhere; /dev/fd leads through the one at its own place
_HIDE = """
mount -t tmpfs none /sys/fs/cgroup
mount --rbind /proc "$MAC_PROC" && mount -t tmpfs none /proc && mkdir /proc/self || exit 99
ln -s "$MAC_PROC/self/fd" /proc/self/fd
exec "$@"
"""


@cache
def can_hide_proc() -> bool:
    """Say whether we may mount what only one process and its children see."""
    asked = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/proc"], capture_output=True)
    return asked.returncode == 0


def _words(folder: Path, args: tuple[object, ...]) -> tuple[list[str], dict[str, str]]:
    words = [sys.executable, "-m", "seqsup", *map(str, args)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (STUBS / "mac", ROOT / "supervisor")))}
    if not can_hide_proc():
        return words, env
    proc = folder / "real-proc"
    proc.mkdir(exist_ok=True)
    hidden = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HIDE, "sh"]
    return [*hidden, *words], {**env, "MAC_PROC": str(proc)}


def on_mac(folder: Path, *args: object) -> Result:
    """Run the command line in this folder."""
    words, env = _words(folder, args)
    ended = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, env=env, timeout=60)
    return Result(ended.returncode, ended.stdout, ended.stderr)


@contextmanager
def beginning_on_mac(folder: Path, *args: object) -> Iterator["subprocess.Popen[str]"]:
    """Run it in the background; it ends by itself."""
    words, env = _words(folder, args)
    with subprocess.Popen(
        words, cwd=folder, text=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        yield process
