"""Small disks of their own, to be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A small disk of its own; only root may have one."""
    with _mounted(folder, "-t", "tmpfs", "-o", f"mode=755,{options}", "none"):
        yield folder


@contextmanager
def _mounted(folder: Path, *what: str) -> Iterator[None]:
    if os.geteuid():
        pytest.skip("only root may mount")
    folder.mkdir()
    mounted = subprocess.run(["mount", *what, str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Take every byte that the disk still has."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError:
                continue
        with suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)
