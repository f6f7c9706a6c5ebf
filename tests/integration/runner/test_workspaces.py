"""Workspaces with real git: their branches, what is kept, what a retry finds, and what survives any crash."""

import json
import os
import shutil
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.crashes import killed
from helpers.profiles import agent, of, parsed, shell
from helpers.repositories import branches, commit, git, profile, repository, trees
from helpers.waiting import wait_for

Seqsup = Callable[..., Result]
long = partial(pytest.param, marks=pytest.mark.long)
Start = Callable[..., Started]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return repository(tmp_path / "shop", ops__web__f="f\n")


def workspaces() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"]) / "workspaces"


def left() -> list[str]:
    """Return the folders of workspaces that are still there."""
    return sorted(each.name for each in workspaces().iterdir()) if workspaces().exists() else []


def ended(seqsup: Seqsup) -> dict[str, dict[str, object]]:
    return {event["agent"]: event for event in of(parsed(seqsup("events").stdout), "workspace_ended")}


# -- what an agent finds, and what it leaves


def test_each_agent_has_a_branch_and_the_source_stays_as_it_is(seqsup: Seqsup, shop: Path) -> None:
    (shop / "a.txt").write_text("not committed\n")
    nightly = profile(
        shop, shell("front", f"cat a.txt; {commit()}"), shell("back", f"ls new.txt; {commit()}; {commit('x')}")
    )
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    assert branches(shop) == {"seqsup/r1/front": 1, "seqsup/r1/back": 2}
    assert "front: branch seqsup/r1/front, 1 commit; git merge seqsup/r1/front" in ran.stderr
    assert "back: branch seqsup/r1/back, 2 commits; git merge seqsup/r1/back" in ran.stderr
    assert f"2 files of {shop} are not committed: no agent sees that" in ran.stderr
    assert seqsup("logs", "front").stdout == "one\n"
    assert (trees(shop), left()) == ([], [])
    assert (shop / "a.txt").read_text() == "not committed\n"
    assert git(shop, "branch", "--show-current") == "main"


def test_folder_of_an_agent_is_the_same_place_in_the_workspace(seqsup: Seqsup, shop: Path) -> None:
    nightly = profile(
        shop / "ops",
        shell("here", "pwd; echo 1 > made", success={"file": "made"}),
        shell("web", "pwd", cwd="web"), shell("top", "pwd", cwd=".."), shell("away", "pwd", cwd="/"),
    )  # fmt: skip
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    tree = workspaces()
    assert seqsup("logs", "here").stdout == f"{tree}/r1-here/shop/ops\n"
    assert seqsup("logs", "web").stdout == f"{tree}/r1-web/shop/ops/web\n"
    assert seqsup("logs", "top").stdout == f"{tree}/r1-top/shop\n"
    assert seqsup("logs", "away").stdout == "/\n"
    assert "away: no workspace, because cwd is not in the repository" in seqsup("plan", nightly).stdout
    assert left() == ["r1-here"]  # its file is not committed


def test_agents_of_a_shared_workspace_build_on_each_other(seqsup: Seqsup, shop: Path) -> None:
    script = f"cat new.txt loose; {commit('more', 'more.txt')}; git add -A; git -c user.name=a -c user.email=a@a commit"
    second = shell("second", f"{script} -qm x")
    nightly = profile(
        shop, shell("first", f"{commit()}; echo loose > loose"), second, workspace={"per": "run"}
    )  # fmt: skip
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    assert branches(shop) == {"seqsup/r1/all": 3}
    assert "nightly: branch seqsup/r1/all, 3 commits; git merge seqsup/r1/all" in ran.stderr
    assert left() == []


def test_agents_beside_each_other_have_trees_of_their_own(seqsup: Seqsup, shop: Path) -> None:
    together = "touch {meet}/$SEQSUP_AGENT; while [ $(ls {meet} | wc -l) -lt 3 ]; do sleep 0.05; done"
    meet = shop.parent / "meet"
    meet.mkdir()
    nightly = profile(
        shop, shell("each", f"{together.replace('{meet}', str(meet))}; {commit()}; ls", for_each=["a", "b", "c"]),
        run={"concurrency": 3, "allow_concurrency": True}, memory={"hard": "100MiB", "host_floor": "none"},
    )  # fmt: skip
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    assert branches(shop) == {f"seqsup/r1/each.{n}": 1 for n in (1, 2, 3)}


def test_branch_of_another_run_is_never_used(seqsup: Seqsup, shop: Path) -> None:
    git(shop, "branch", "seqsup/r1/a")
    git(shop, "checkout", "--quiet", "seqsup/r1/a")
    git(shop, "commit", "--quiet", "--allow-empty", "--message", "mine")
    git(shop, "checkout", "--quiet", "main")
    git(shop, "branch", "night-r1/x")
    assert seqsup("start", profile(shop, shell("a", commit()))).code == 0
    assert branches(shop)["seqsup/r1/a-2"] == 1
    assert branches(shop)["seqsup/r1/a"] == 1


@pytest.mark.parametrize("script", ["git checkout -q -b feature", "git branch -m feature"])
def test_branch_that_the_agent_has_made_is_named(seqsup: Seqsup, shop: Path, script: str) -> None:
    ran = seqsup("start", profile(shop, shell("a", f"{script}; {commit()}")))
    assert "a: branch feature, 1 commit; git merge feature" in ran.stderr
    assert (branches(shop), left()) == ({"feature": 1}, [])


@pytest.mark.parametrize(
    ("keep", "code", "stays"),
    [("on-failure", 0, False), ("on-failure", 3, True), ("always", 0, True), ("never", 3, False)],
)
def test_keep_decides_what_stays_of_a_tree_without_work(
    seqsup: Seqsup, shop: Path, keep: str, code: int, stays: bool
) -> None:
    seqsup("start", profile(shop, shell("a", f"{commit()}; exit {code}"), workspace={"keep": keep}))
    assert left() == ["r1-a"] * stays
    assert len(trees(shop)) == stays
    assert branches(shop) == {"seqsup/r1/a": 1}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo x > untracked", "1 uncommitted file, kept in {tree}"),
        ("echo x >> a.txt", "1 uncommitted file, kept in {tree}"),
        (f"git checkout -q --detach; {commit()}", "no commits, kept in {tree}: it has commits on no branch"),
        (
            "mkdir -p $(git rev-parse --git-dir)/modules/sub",
            "kept in {tree}: it has submodules, which may hold commits",
        ),
    ],
)
def test_tree_with_work_is_never_removed(seqsup: Seqsup, shop: Path, script: str, why: str) -> None:
    ran = seqsup("start", profile(shop, shell("a", script), workspace={"keep": "never"}))
    assert ran.code == 0, ran.stderr
    tree = workspaces() / "r1-a/shop"
    assert why.format(tree=tree) in ran.stderr
    assert tree.is_dir()
    again = seqsup("start", profile(shop, shell("a", "true"), run={"keep": "0s"}))
    assert again.code == 0, again.stderr
    third = seqsup("start", profile(shop, shell("a", "true"), run={"keep": "0s"}))
    assert f"r1, an old run, cannot be removed: its workspace {tree} is kept: " in third.stderr
    cleaned = seqsup("artifacts", "clean", "--days", "0")
    assert f"r1 stays: its workspace {tree} is kept: " in cleaned.stderr
    assert tree.is_dir()
    assert seqsup("status", "r1").code == 0


def test_old_run_goes_with_a_tree_that_holds_no_work(seqsup: Seqsup, shop: Path) -> None:
    seqsup("start", profile(shop, shell("a", f"{commit()}; exit 1")))
    assert left() == ["r1-a"]
    dry = seqsup("artifacts", "clean", "--days", "0", "--dry-run")
    assert (dry.code, left()) == (0, ["r1-a"]), dry.stderr
    cleaned = seqsup("artifacts", "clean", "--days", "0")
    assert (cleaned.code, left(), trees(shop)) == (0, [], []), cleaned.stderr
    assert branches(shop) == {"seqsup/r1/a": 1}


# -- a retry


def once(folder: Path, script: str, then: str) -> str:
    """Return a script that does one thing in the first attempt, and another later."""
    return f"if [ ! -e {folder}/once ]; then touch {folder}/once; {script}; else {then}; fi"


def test_retry_starts_clean_and_loses_nothing(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    fails = f"{commit('bad')}; echo loose > loose; echo y >> a.txt; touch $(git rev-parse --git-dir)/index.lock; exit 1"
    nightly = profile(
        shop, shell("a", once(tmp_path, fails, f"git status --porcelain; git log --format=%s; {commit('good')}")),
        retry={"attempts": 2},
    )  # fmt: skip
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    assert seqsup("logs", "a").stdout == "first\n"
    assert git(shop, "show", "seqsup/r1/a-attempt-1:loose") == "loose"
    assert git(shop, "show", "seqsup/r1/a-attempt-1:a.txt") == "one\ny"
    assert git(shop, "log", "--format=%s", "main..seqsup/r1/a-attempt-1").splitlines()[1:] == ["bad"]
    assert git(shop, "log", "--format=%s", "main..seqsup/r1/a") == "good"
    assert "work of attempt 1 (1 commit and 2 uncommitted files) is on branch seqsup/r1/a-attempt-1" in ran.stderr
    assert "work of failed attempts: seqsup/r1/a-attempt-1" in ran.stderr


def test_retry_can_keep_the_work(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    script = once(tmp_path, "echo loose > loose; exit 1", "cat loose")
    assert seqsup("start", profile(shop, shell("a", script), retry={"attempts": 2, "workspace": "keep"})).code == 0
    assert seqsup("logs", "a").stdout == "loose\n"
    assert branches(shop) == {"seqsup/r1/a": 0}


def test_round_keeps_the_work_of_the_one_before(seqsup: Seqsup, shop: Path) -> None:
    repeat = {"until": ["sh", "-c", "[ $(wc -l < rounds) = 3 ]"], "max": 5}
    assert seqsup("start", profile(shop, shell("a", "echo x >> rounds", repeat=repeat))).code == 0
    assert (workspaces() / "r1-a/shop/rounds").read_text() == "x\n" * 3


def test_retry_in_a_shared_workspace_keeps_the_work_of_earlier_agents(
    seqsup: Seqsup, shop: Path, tmp_path: Path
) -> None:
    script = once(tmp_path, "rm loose; echo bad > bad; exit 1", "cat loose; ls bad")
    nightly = profile(
        shop, shell("first", "echo loose > loose"), shell("second", script, success={"codes": [2]}),
        retry={"attempts": 2}, workspace={"per": "run"},
    )  # fmt: skip
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    assert seqsup("logs", "second").stdout == "loose\n"
    assert git(shop, "show", "seqsup/r1/all-second-attempt-1:bad") == "bad"


def test_rebase_that_a_kill_cut_short_is_over_in_the_retry(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    conflict = (
        f"{commit('mine', 'a.txt')}; git checkout -q -b other main; {commit('theirs', 'a.txt')};"
        " git checkout -q seqsup/r1/a; git rebase other; exit 1"
    )
    script = once(tmp_path, conflict, f"git status; {commit('good')}")
    ran = seqsup("start", profile(shop, shell("a", script), retry={"attempts": 2}))
    assert ran.code == 0, ran.stderr
    assert "rebas" not in seqsup("logs", "a").stdout
    saved = [name for name in branches(shop) if name.startswith("seqsup/r1/a-attempt-1")]
    subjects = {git(shop, "log", "-1", "--format=%s", name) for name in saved}
    assert "mine" in subjects


def test_agent_that_has_completed_and_runs_again_has_another_branch(seqsup: Seqsup, shop: Path) -> None:
    last = shell("last", "[ -e ../../../mended ] || exit 1")
    seqsup("start", profile(shop, shell("a", commit("one")), last))
    resumed = seqsup("start", profile(shop, shell("a", f"ls new.txt; {commit('two')}"), last), "--resume")
    assert "a: branch seqsup/r1/a-2, 1 commit; git merge seqsup/r1/a-2" in resumed.stderr
    assert git(shop, "log", "-1", "--format=%s", "seqsup/r1/a") == "one"
    assert git(shop, "log", "-1", "--format=%s", "seqsup/r1/a-2") == "two"


# -- crashes


@pytest.mark.long
def test_killed_supervisor_forgets_no_workspace_at_any_write(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    nightly = profile(shop, shell("a", once(tmp_path, "echo loose > loose; exit 1", commit())), retry={"attempts": 2})
    whole = seqsup("start", nightly)
    assert whole.code == 0, whole.stderr
    writes = len(parsed(seqsup("events").stdout))
    assert writes > 10
    for at in range(1, writes):
        state = tmp_path / f"state-{at}"
        state.mkdir(mode=0o700)
        os.environ["SEQSUP_STATE_DIR"] = str(state)
        (tmp_path / "once").unlink()
        for name in branches(shop):
            git(shop, "branch", "--quiet", "-D", name)
        assert killed("before" if at % 2 else "after", at, "start", nightly) == -signal.SIGKILL
        resumed = seqsup("start", nightly, "--resume")
        assert resumed.code == 0, (at, resumed.stderr)
        assert (trees(shop), left()) == ([], []), at
        found = branches(shop)
        assert found.pop("seqsup/r1/a") == 1, (at, found)
        files = [git(shop, "ls-tree", "--name-only", name).split() for name in found]
        assert sum("loose" in each for each in files) == 1, (at, found)


@pytest.fixture
def cut_git(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """Return an environment whose git kills the program that called it, after its Nth call."""
    real = shutil.which("git")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "git"
    script.write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/calls\n{real} "$@"; code=$?\n'
        f'[ "$(wc -l < {tmp_path}/calls)" -lt "$CUT_AT" ] || kill -9 $PPID\nexit $code\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def environment(at: int) -> dict[str, str]:
        (tmp_path / "calls").unlink(missing_ok=True)
        return {"PATH": f"{folder}:{os.environ['PATH']}", "CUT_AT": str(at)}

    return environment


# After git's calls of the plan: a branch and an entry of the tree are made, the tree is looked at, the run ends
QUICK_CUTS = (15, 20, 24)


@pytest.mark.parametrize("at", [each if each in QUICK_CUTS else long(each) for each in range(13, 28)])
def test_git_that_was_killed_blocks_nothing(
    seqsup: Seqsup, shop: Path, cut_git: Callable[[int], dict[str, str]], at: int
) -> None:
    nightly = profile(shop, agent("a", ["true"]), workspace={"keep": "always"})
    cut = seqsup("start", nightly, env=cut_git(at))
    ran = seqsup("start", nightly, "--resume") if cut.code else seqsup("start", nightly)
    assert ran.code == 0, (cut.stderr, ran.stderr)
    run = "r1" if cut.code else "r2"
    tree = workspaces() / f"{run}-a/shop"
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "branch", "--show-current") == f"seqsup/{run}/a"


def test_tree_that_was_half_made_is_made_again(
    seqsup: Seqsup, seqsup_started: Start, shop: Path, tmp_path: Path
) -> None:
    (shop / ".gitattributes").write_text("f filter=slow\n")
    git(shop, "add", "--all")
    git(shop, "commit", "--quiet", "--message", "slow")
    git(shop, "config", "filter.slow.smudge", f"touch {tmp_path}/half; sleep 300; cat")
    nightly = profile(shop, shell("a", commit()))
    started = seqsup_started("start", nightly)
    wait_for((tmp_path / "half").exists)
    started.send(signal.SIGKILL)
    started.wait()
    git(shop, "config", "filter.slow.smudge", "cat")
    assert trees(shop) != []
    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert (trees(shop), left(), branches(shop)) == ([], [], {"seqsup/r1/a": 1})


def test_killed_run_finds_its_workspace_again(
    seqsup: Seqsup, seqsup_started: Start, shop: Path, tmp_path: Path
) -> None:
    work = f"{commit()}; echo loose > loose; touch {tmp_path}/there; sleep 300"
    nightly = profile(
        shop, shell("a", once(tmp_path, work, "cat loose; git log --format=%s")), retry={"workspace": "keep"}
    )
    started = seqsup_started("start", nightly)
    wait_for((tmp_path / "there").exists)
    started.send(signal.SIGKILL)
    started.wait()
    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert seqsup("logs", "a").stdout == "loose\nwork\nfirst\n"


def test_removed_tree_is_made_again_on_resume(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    nightly = profile(
        shop,
        shell("a", once(tmp_path, f"{commit()}; exit 1", "ls new.txt")),
        retry={"workspace": "keep", "attempts": 1},
    )
    assert seqsup("start", nightly).code == 1
    shutil.rmtree(workspaces() / "r1-a")
    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert seqsup("logs", "a").stdout == "new.txt\n"
    assert branches(shop) == {"seqsup/r1/a": 1}


# -- a repository with an address


@pytest.fixture
def server(shop: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "--quiet", "--bare", shop, "server.git")
    return tmp_path / "server.git"


def test_clone_is_pushed_and_goes(seqsup: Seqsup, server: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    nightly = profile(
        job, shell("a", f"pwd; git remote get-url origin; {commit()}"), shell("web", "cat f", cwd="ops/web"),
        git=f"file://{server}", workspace={"push": True},
    )  # fmt: skip
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    assert seqsup("logs", "a").stdout == f"{workspaces()}/r1-a/server\nfile://{server}\n"
    assert branches(server) == {"seqsup/r1/a": 1}
    assert "a: branch seqsup/r1/a, 1 commit, pushed; git fetch origin && git merge origin/seqsup/r1/a" in ran.stderr
    assert left() == []
    git(server, "update-ref", "refs/heads/main", git(server, "rev-parse", "seqsup/r1/a"))
    second = seqsup("start", profile(job, shell("b", "ls new.txt"), git=f"file://{server}"))
    assert second.code == 0, second.stderr  # what was pushed meanwhile was fetched


def test_clone_with_commits_that_are_not_pushed_stays(seqsup: Seqsup, server: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    hook = server / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho no entry >&2\nexit 1\n")
    hook.chmod(0o755)
    keep = {"keep": "never"}
    ran = seqsup("start", profile(job, shell("a", commit()), git=f"file://{server}", workspace={"push": True, **keep}))
    tree = workspaces() / "r1-a/server"
    assert "not pushed:" in ran.stderr
    assert f"kept in {tree}: it has commits that are not pushed; git -C {tree} push origin seqsup/r1/a" in ran.stderr
    hook.unlink()
    git(tree, "push", "--quiet", "origin", "seqsup/r1/a")
    assert branches(server) == {"seqsup/r1/a": 1}
    assert seqsup("artifacts", "clean", "--days", "0").code == 0
    assert left() == []


# -- what leads elsewhere


def test_outer_git_and_hooks_of_the_repository_mislead_nothing(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    hook = shop / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    outer = {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere", "GIT_INDEX_FILE": f"{tmp_path}/index"}
    ran = seqsup("start", profile(shop, shell("a", f"env | grep ^GIT_[DWI]; {commit()}")), env=outer)
    assert ran.code == 0, ran.stderr
    assert seqsup("logs", "a").stdout == ""
    assert branches(shop) == {"seqsup/r1/a": 1}
    assert not (tmp_path / "hooked").exists()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can change the user")
def test_root_lets_the_user_of_the_agent_own_its_workspace(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    for each in (shop, *shop.parents):
        if not each.stat().st_mode & stat.S_IXOTH:
            each.chmod(each.stat().st_mode | stat.S_IXOTH)
    run = {"user": "nobody", "state_dir": str(tmp_path / "state")}
    refused = seqsup("start", profile(shop, shell("a", "true"), run=run))
    assert refused.code == 2
    assert "workspace.git: " in refused.stderr
    for each in (shop, *shop.rglob("*")):
        shutil.chown(each, "nobody")
    nightly = profile(shop, shell("a", f"id -un; {commit()}; echo loose > loose"), run=run)
    ran = seqsup("start", nightly)
    assert ran.code == 0, ran.stderr
    tree = tmp_path / "state/workspaces/r1-a/shop"
    assert (tree / "loose").owner() == tree.owner() == "nobody"
    assert "seqsup/r1/a, 1 commit, 1 uncommitted file" in ran.stderr
    unsafe = seqsup("start", profile(tmp_path, shell("a", "true"), git=str(shop)))
    assert unsafe.code == 2
    assert "belongs to" in unsafe.stderr
    for each in (shop, *shop.rglob("*")):
        shutil.chown(each, "root")
    (shop / ".git/config").chmod(0o666)
    unsafe = seqsup("start", profile(tmp_path, shell("a", "true"), git=str(shop)))
    assert "refused as root, because another user can change this repository" in " ".join(unsafe.stderr.split())


def test_status_and_report_tell_the_same(seqsup: Seqsup, shop: Path, tmp_path: Path) -> None:
    assert seqsup("start", profile(shop, shell("a", commit()))).code == 0
    line = "a: branch seqsup/r1/a, 1 commit; git merge seqsup/r1/a"
    assert line in seqsup("status").stdout
    assert seqsup("report", "-o", tmp_path / "r.html").code == 0
    assert line in (tmp_path / "r.html").read_text()
    (told,) = json.loads(seqsup("status", "--json").stdout)["workspaces"]
    assert (told["branch"], told["commits"], told["removed"]) == ("seqsup/r1/a", 1, True)
