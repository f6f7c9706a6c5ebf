"""Folders that an agent filled: whatever lies in them, they are measured, listed and removed."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqsup.host.folders import entries, remove, size

DEEP = 3000  # levels: beyond Python's recursion, and 6,000 letters, beyond the kernel's paths


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Path]:
    (top := tmp_path / "filled").mkdir()
    (top / "file").write_bytes(b"x" * 100_000)
    (top / "link").symlink_to(tmp_path)
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(top / "socket"))
    (top / ("n" * 255)).write_text("")
    (top / os.fsdecode(b"\xff\n")).mkdir()
    (tmp_path / "kept").write_text("")
    home = Path.cwd()
    os.chdir(top)
    try:
        for _ in range(DEEP):
            Path("d").mkdir()
            os.chdir("d")
        Path("bottom").write_text("")
    finally:
        os.chdir(home)
    yield top
    remove(top)  # pytest's own way has no room for it


def test_each_folder_comes_after_what_is_in_it(filled: Path) -> None:
    paths = [entry.path for entry in entries(filled)]
    deep = [path for path in paths if path.startswith("d") and path != "dangling"]
    assert deep[:3] == ["d/" * DEEP + "bottom", "d/" * (DEEP - 1) + "d", "d/" * (DEEP - 2) + "d"]
    assert len(paths) == len(deep) + 7


def test_a_deep_folder_is_measured_and_removed_without_following_links(filled: Path) -> None:
    assert size(filled) >= 100_000
    assert remove(filled) == []
    assert not filled.exists()
    assert (filled.parent / "kept").exists()


def test_folders_that_their_owner_closed_are_removed(tmp_path: Path) -> None:
    (inner := tmp_path / "top" / "closed" / "inner").mkdir(parents=True)
    (inner / "file").write_text("")
    for folder, mode in ((inner, 0o500), (inner.parent, 0)):
        folder.chmod(mode)
    assert remove(tmp_path / "top") == []
    assert not (tmp_path / "top").exists()


def test_file_that_cannot_be_removed_is_named_and_the_rest_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "file").write_text("")
    unlink = os.unlink

    def refuses(name: str, *, dir_fd: int) -> None:
        if "/b" in str(Path(f"/proc/self/fd/{dir_fd}").readlink()):
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuses)
    assert remove(tmp_path / "top") == ["b/file: Operation not permitted", "b: Directory not empty"]
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "top").iterdir()] == ["b"]


def test_a_folder_that_is_missing_counts_as_removed(tmp_path: Path) -> None:
    assert (size(tmp_path / "none"), remove(tmp_path / "none")) == (0, [])
