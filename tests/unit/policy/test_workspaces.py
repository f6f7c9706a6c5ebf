"""Workspaces: which names git takes, what a retry finds, which folder is meant, and what the user can type next."""

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.enums import Keep, TreeOnRetry
from seqsup.model.reason import Reason
from seqsup.policy.workspaces import (
    branch,
    commands,
    folder,
    inside,
    is_ref,
    order,
    removes,
    renews,
    repository,
    without_password,
    work,
    wrong_branch,
)

NAMES = st.from_regex(re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII), fullmatch=True)
TEXTS = ["a", "a/b", "a..b", "a.", ".a", "a.lock", "a.lock/b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b",
         "a@{b", "@", "a//b", "/a", "a/", "a/.b", "", "a\x7f", "é", "a@b", "x-", "a/@"]  # fmt: skip


@given(NAMES)
def test_branch_of_any_agent_is_one_that_git_takes(agent: str) -> None:
    assert is_ref(branch("seqsup/{run}/{agent}", "r42", agent))
    assert is_ref(branch("{agent}-{run}", "r42", agent))


@pytest.mark.parametrize("name", TEXTS)
def test_git_agrees_on_names_of_branches(name: str) -> None:
    asked = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
    assert is_ref(name) == (asked.returncode == 0 and name != "@")


def test_name_of_an_agent_stays_where_git_takes_it() -> None:
    assert branch("seqsup/{run}/{agent}", "r42", "task.1") == "seqsup/r42/task.1"
    assert branch("seqsup/{run}/{agent}", "r42", "a..b.lock") == "seqsup/r42/a-b-lock"


@pytest.mark.parametrize(
    ("pattern", "shared", "why"),
    [
        ("seqsup/{run}/{agent}", False, ""),
        ("night-{run}", True, ""),
        ("night", True, "contains no {run}"),
        ("night/{run}", False, "contains no {agent}"),
        ("night/{run}/{agent}", True, "all agents share the branch"),
        ("night/{run}/{agent}/{item}", False, "unknown placeholder {item}"),
        ("night {run} {agent}", False, "git allows no branch"),
        ("-{run}-{agent}", False, "git allows no branch"),
    ],
)
def test_pattern_of_branches_is_checked(pattern: str, shared: bool, why: str) -> None:
    said = wrong_branch(pattern, shared=shared)
    assert why in said
    assert bool(why) == bool(said)


@given(NAMES, NAMES, st.integers(1, 99), st.integers(1, 99))
def test_no_two_workspaces_have_one_folder(one: str, other: str, first: int, second: int) -> None:
    assert (folder(f"r{first}", one) == folder(f"r{second}", other)) == ((first, one) == (second, other))
    assert folder(f"r{first}", "") != folder(f"r{second}", other)
    assert folder(f"r{first}", one, 2) != folder(f"r{second}", other)


@pytest.mark.parametrize(
    ("path", "base", "below", "there"),
    [
        ("/repo/ops", "/repo", "", "ops"),
        ("/repo/ops/../web", "/repo", "", "web"),
        ("/repo", "/repo", "", ""),
        ("/repo/..", "/repo", "", None),
        ("/repository", "/repo", "", None),
        ("/job/web", "/job", "services/shop", "services/shop/web"),
        ("/job", "/job", "services", "services"),
        ("/home/x", "/job", "", None),
    ],
)
def test_folder_of_an_agent_is_found_in_the_repository(path: str, base: str, below: str, there: str | None) -> None:
    assert inside(path, base, below) == there


@pytest.mark.parametrize(
    ("text", "split"),
    [
        (".", (".", None)),
        (".@main", (".", "main")),
        ("https://example.org/shop.git", ("https://example.org/shop.git", None)),
        ("https://example.org/shop.git@feature/x", ("https://example.org/shop.git", "feature/x")),
        ("https://me@example.org/shop.git", ("https://me@example.org/shop.git", None)),
        ("https://me@example.org/shop.git@v1", ("https://me@example.org/shop.git", "v1")),
        ("git@example.org:shop.git", ("git@example.org:shop.git", None)),
        ("git@example.org:shop.git@v1.2", ("git@example.org:shop.git", "v1.2")),
        ("../shop@", ("../shop@", None)),
    ],
)
def test_order_names_repository_and_ref(text: str, split: tuple[str, str | None]) -> None:
    assert order(text) == split


@pytest.mark.parametrize(
    ("git", "name"),
    [
        ("https://example.org/a/shop.git", "shop"),
        ("git@example.org:shop.git", "shop"),
        ("/home/me/shop/.git", "shop"),
        ("/home/me/shop/", "shop"),
        ("/srv/shop.git/", "shop"),
        ("/", "repository"),
        ("/home/me/my shop", "my-shop"),
    ],
)
def test_folder_of_a_workspace_is_named_after_the_repository(git: str, name: str) -> None:
    assert repository(git) == name


def test_password_of_an_address_is_not_shown() -> None:
    assert without_password("https://me:secret@example.org/x.git") == "https://example.org/x.git"
    assert without_password("git@example.org:x.git") == "git@example.org:x.git"


def test_only_an_attempt_after_another_starts_from_the_beginning() -> None:
    assert renews(TreeOnRetry.CLEAN, Reason.FAILED, resumed=False)
    assert renews(TreeOnRetry.CLEAN, Reason.LOST, resumed=False)
    assert not renews(TreeOnRetry.CLEAN, None, resumed=False)
    assert not renews(TreeOnRetry.CLEAN, Reason.HARD, resumed=True)
    assert not renews(TreeOnRetry.CLEAN, Reason.UNFINISHED, resumed=False)
    assert not renews(TreeOnRetry.KEEP, Reason.FAILED, resumed=False)


def test_keep_decides_when_a_folder_may_go() -> None:
    may_go = {(keep, ok) for keep in Keep for ok in (True, False) if removes(keep, ok=ok)}
    assert may_go == {(Keep.ON_FAILURE, True), (Keep.NEVER, True), (Keep.NEVER, False)}


BRANCH = "seqsup/r42/a"


def next_commands(**facts: object) -> tuple[str, ...]:
    known: dict[str, object] = {
        "branch": BRANCH, "home": "/repo", "folder": "/state/my tree", "commits": 0, "changed": 0, "push_to": "",
        "pushed": False, "removed": True,
    }  # fmt: skip
    return commands(**(known | facts))  # type: ignore[arg-type]


def test_commits_are_merged_and_changes_are_committed_first() -> None:
    assert next_commands() == ()
    assert next_commands(commits=3) == (f"git merge {BRANCH}",)
    assert next_commands(commits=1, changed=2, removed=False) == (
        "cd '/state/my tree' && git add --all && git commit",
        f"git merge {BRANCH}",
    )


def test_failed_push_is_repeated_and_a_clone_is_pushed_before_anything_else() -> None:
    assert next_commands(commits=1, push_to="origin") == (f"git -C /repo push origin {BRANCH}",)
    assert next_commands(commits=1, push_to="origin", home="") == (f"git -C '/state/my tree' push origin {BRANCH}",)
    assert next_commands(commits=1, home="", removed=False) == (f"git -C '/state/my tree' push origin {BRANCH}",)
    assert next_commands(commits=1, push_to="origin", home="", pushed=True) == (
        f"git fetch origin && git merge origin/{BRANCH}",
    )


def test_line_of_a_workspace_names_what_it_holds() -> None:
    def line(**facts: object) -> str:
        known: dict[str, object] = {
            "commits": 0, "changed": 0, "pushed": False, "removed": True, "folder": "/t", "holds": "", "why": "",
        }  # fmt: skip
        return work(BRANCH, **(known | facts))  # type: ignore[arg-type]

    assert line() == "no commits"
    assert line(commits=3) == f"branch {BRANCH}, 3 commits"
    assert line(commits=1, pushed=True) == f"branch {BRANCH}, 1 commit, pushed"
    kept = line(changed=2, removed=False, holds="it has uncommitted changes")
    assert kept == f"branch {BRANCH}, no commits, 2 uncommitted files, kept in /t"
    unpushed = line(commits=1, removed=False, holds="it has commits that are not pushed", why="not pushed: denied")
    assert unpushed == (
        f"branch {BRANCH}, 1 commit, not pushed: denied, kept in /t: it has commits that are not pushed"
    )
