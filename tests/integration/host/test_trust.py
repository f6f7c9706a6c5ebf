"""Which paths another user can change. Files are real, so modes are tried by any user and owners by root."""

import os
import shutil
from pathlib import Path

import pytest

from seqsup.host.trust import exposure


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (folder := tmp_path / "folder").mkdir(mode=0o755)
    (file := folder / "file").touch(mode=0o644)
    return file


def why(path: Path) -> str:
    found = exposure(path)
    return found.why if found is not None else ""


def test_path_that_only_root_and_we_can_write_is_not_exposed(file: Path) -> None:
    assert why(file) == why(Path("/")) == why(Path("/bin/sh")) == ""


@pytest.mark.parametrize("part", ["file", "folder"])
def test_modes_count_of_every_part(file: Path, part: str) -> None:
    (changed := file if part == "file" else file.parent).chmod(0o757)
    assert exposure(file) == (f"every user can write {changed}", f"chmod go-w {changed}")


def test_a_sticky_folder_exposes_only_what_is_not_there_yet(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert why(file) == why(file.parent / "missing" / "file") == ""
    assert why(file.parent) == f"every user can write {file.parent}"


def test_links_are_followed_to_what_they_name(file: Path, tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to("folder/../folder")
    (tmp_path / "circle").symlink_to("circle")
    assert why(link / "file") == why(tmp_path / "circle" / "x") == ""
    file.chmod(0o666)
    assert why(link / "file") == f"every user can write {file}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_count_of_every_part_and_of_links(file: Path, tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to(file)
    os.chown(link, 65534, -1, follow_symlinks=False)
    assert why(link) == f"{link} belongs to nobody"
    shutil.chown(file.parent, "nobody")
    assert why(file) == f"{file.parent} belongs to nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="as root a group has members elsewhere")
def test_a_group_that_can_write_is_named(file: Path) -> None:
    file.chmod(0o664)
    assert why(file) == "group root can write " + str(file)
