"""A ~ in a profile's paths is the home of the user whose process uses the path."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import agent, shell, write

Cli = Callable[..., Result]


def test_cwd_and_files_are_found_below_home(seqsup: Cli, tmp_path: Path) -> None:
    home = tmp_path / "ho{me"  # no placeholder begins there
    (home / "work").mkdir(parents=True)
    (home / "work" / "b").mkdir()
    (home / "prompt.txt").write_text("hello")
    (home / "items.txt").write_text("work\nwork/b\n")
    agents = [
        shell("a", "cat > got", cwd="~/work", stdin_file="~/prompt.txt", success={"file": "~/work/got"}),
        shell("each", "touch here", cwd="~/{item}", for_each={"lines": "~/items.txt"}),
        agent("home", ["touch", "{item}.there"], cwd="~", for_each={"glob": "~/work/*"}),
    ]
    ended = seqsup("start", write(tmp_path, *agents), env={"HOME": str(home)})
    assert ended.code == 0, ended.stderr
    assert (home / "work" / "got").read_text() == "hello"
    assert (home / "work" / "b" / "here").exists()
    assert (home / "work" / "b.there").exists()


def test_folder_that_home_does_not_have_is_named_whole(seqsup: Cli, tmp_path: Path) -> None:
    wrong = shell("b", "true", nonsense=1)  # of a profile with mistakes what can be read is looked at too
    profile = write(tmp_path, shell("a", "true", cwd="~/gone"), wrong)
    ended = seqsup("start", profile, env={"HOME": str(tmp_path)})
    assert (ended.code, f"folder {tmp_path}/gone does not exist" in ended.stderr) == (2, True), ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start agents as another user")
def test_home_is_that_of_the_agents_user(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true", cwd="~/no-such-folder", user="nobody"))
    theirs = pwd.getpwnam("nobody").pw_dir
    assert f"folder {theirs}/no-such-folder does not exist" in seqsup("plan", profile).stderr
    unknown = write(tmp_path, shell("a", "true", cwd="~/x", user="no-such-user"))
    assert "there is no user no-such-user" in seqsup("plan", unknown).stderr


def test_companion_starts_below_home(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    beside = [{"name": "s", "command": ["sh", "-c", "touch up; exec sleep 60"], "cwd": "~/service",
               "ready": {"delay": "300ms"}}]  # fmt: skip
    profile = write(tmp_path, shell("a", "test -e service/up"), companions=beside)
    assert seqsup("start", profile, env={"HOME": str(tmp_path)}).code == 0
