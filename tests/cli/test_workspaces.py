"""[workspace] as its users meet it: each mistake with its key and a remedy, and what `plan` says of a repository."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import shell, write
from helpers.repositories import branches, commit, git, profile, repository

Seqsup = Callable[..., Result]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return repository(tmp_path / "shop")


@pytest.mark.parametrize(
    ("keys", "key", "why"),
    [
        ({"git": ""}, "workspace.git", "no repository"),
        ({"git": "nowhere"}, "workspace.git", "nowhere does not exist"),
        ({"git": ".."}, "workspace.git", "is in no git repository"),
        ({"git": "file:///nowhere"}, "workspace.git", "cannot be reached"),
        ({"git": "ext::sh -c true://"}, "workspace.git", "does not exist"),
        ({"ref": "mein"}, "workspace.ref", "no branch, tag or commit mein in"),
        ({"ref": "--force"}, "workspace.ref", "is no name of a branch"),
        ({"branch": "night"}, "workspace.branch", "contains no {run}"),
        ({"branch": "night/{run}"}, "workspace.branch", "contains no {agent}"),
        ({"branch": "{run}/{agent}", "per": "run"}, "workspace.branch", "all agents share the branch"),
        ({"branch": "{run}/{agnet}"}, "workspace.branch", "unknown placeholder {agnet}"),
        ({"push": True}, "workspace.push", "has no remote"),
        ({"keep": "sometimes"}, "workspace.keep", "expected one of on-failure, always, never"),
        ({"repo": "."}, "workspace.repo", "unknown key"),
    ],
)
def test_mistake_is_told_with_its_key_and_nothing_starts(
    seqsup: Seqsup, shop: Path, keys: dict[str, object], key: str, why: str
) -> None:
    nightly = profile(shop, shell("a", "touch ran"), workspace={"git": ".", **keys})
    for command in ("plan", "start"):
        told = seqsup(command, nightly)
        assert told.code == 2
        assert f"nightly.toml:{line_of(nightly, key)}" in told.stderr
        assert f" {key}: " in told.stderr
        assert why in told.stderr
    assert git(shop, "worktree", "list").count("\n") == 0
    assert not (shop / "ran").exists()


def line_of(path: Path, key: str) -> int:
    table, name = key.split(".")
    lines = path.read_text().splitlines()
    first = lines.index(f"[{table}]")
    return next(n for n, line in enumerate(lines[first:], first + 1) if line.startswith(f"{name} "))


def test_git_must_be_named(seqsup: Seqsup, shop: Path) -> None:
    nightly = shop / "nightly.toml"
    nightly.write_text('[workspace]\nref = "main"\n[[agents]]\nname = "a"\ncommand = ["true"]\n')
    told = seqsup("plan", nightly)
    assert (told.code, "workspace.git: missing: the repository" in told.stderr) == (2, True), told.stderr


def test_agents_in_one_tree_are_of_one_user_and_not_side_by_side(seqsup: Seqsup, shop: Path) -> None:
    beside = {"concurrency": 2, "allow_concurrency": True}
    told = seqsup("plan", profile(shop, shell("a", "true"), workspace={"per": "run"}, run=beside))
    assert "workspace.per: agents that run side by side would change the same files" in told.stderr
    told = seqsup("plan", profile(shop, shell("a", "true", user="nobody"), workspace={"per": "run"}))
    assert "user: all agents share a workspace" in told.stderr


def test_repository_without_commits_is_refused(seqsup: Seqsup, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    git(folder, "init", "--quiet")
    told = seqsup("plan", profile(folder, shell("a", "true")))
    assert told.code == 2
    assert f"{folder} has no commits" in told.stderr
    assert "commit once" in told.stderr


def test_folder_that_the_commit_does_not_have_is_refused(seqsup: Seqsup, shop: Path) -> None:
    (shop / "web").mkdir()
    told = seqsup("plan", profile(shop, shell("a", "true", cwd="web")))
    assert "agent a: cwd: main has no folder web, in which the agent would work" in told.stderr


def test_plan_says_what_a_user_may_not_expect(seqsup: Seqsup, tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop", **{".gitattributes": "*.bin filter=lfs\n", ".gitmodules": ""})
    git(shop, "checkout", "--quiet", "--detach")
    nightly = profile(shop, shell("a", "true"), shell("b", "true", needs=["a"]), shell("c", "true", cwd="/"))
    told = seqsup("plan", nightly)
    assert told.code == 0, told.stderr
    text = " ".join(told.stdout.split())
    commit = git(shop, "rev-parse", "HEAD")[:8]
    assert f"workspace one for each agent: branch seqsup/{{run}}/{{agent}} from HEAD ({commit})" in text
    assert f"1 file of {shop} is not committed: no agent sees that" in text
    assert "submodules are empty in a workspace" in text
    assert "files in LFS are pointers in a workspace" in text
    assert "b: sees no commits of the agents in needs" in text
    assert "c: no workspace, because cwd is not in the repository" in text
    made = json.loads(seqsup("plan", nightly, "--json").stdout)
    assert made["workspaces"]["home"] == str(shop)
    assert [step["in_workspace"] for step in made["steps"]] == [True, True, False]


def test_plan_shows_no_password(seqsup: Seqsup, shop: Path) -> None:
    told = seqsup("plan", profile(shop, shell("a", "true"), git="https://me:hunter2@127.0.0.1:1/x.git"))
    assert told.code == 2
    assert "https://127.0.0.1:1/x.git: cannot be reached" in told.stderr
    assert "hunter2" not in told.stderr


def test_job_works_in_the_repository_that_its_order_names(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", shop, "server.git")
    night = write(tmp_path, shell("a", commit()))
    assert seqsup("add", "--workspace", "shop", night).stdout == "#1\n"
    assert seqsup("add", "--workspace", f"file://{tmp_path}/server.git@main", "--", "sh", "-c", commit()).code == 0
    assert seqsup("add", "--workspace", "shop@nowhere", night).code == 2
    elsewhere = seqsup("add", "--queue", "postgresql://nowhere/x", "--workspace", ".", night)
    assert "the repository . is a folder of this machine" in elsewhere.stderr
    assert seqsup("work", "--until-empty").code == 0
    assert branches(shop) == {"seqsup/r1/a": 1}
    assert branches(tmp_path / "server.git") == {"seqsup/r2/sh": 1}
    queue = seqsup("queue").stdout
    assert "a: branch seqsup/r1/a, 1 commit; git merge seqsup/r1/a" in queue
    assert "sh: branch seqsup/r2/sh, 1 commit, pushed;" in queue
