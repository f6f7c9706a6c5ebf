"""Git repositories for tests, and what is in them."""

import os
import subprocess
from pathlib import Path

from helpers.profiles import write

_WHO = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(at: Path, *words: object) -> str:
    """Run git there, without a user's configuration, and return what it prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {**_WHO, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    ended = subprocess.run(["git", *map(str, words)], cwd=at, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rstrip("\n")


def repository(folder: Path, **files: str) -> Path:
    """Make a repository with one commit on main. `__` in a name of a file is a slash."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for name, text in {"a.txt": "one\n", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def branches(at: Path) -> dict[str, int]:
    """Return each branch except main, and the number of its commits beyond main."""
    names = git(at, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    return {name: int(git(at, "rev-list", "--count", f"main..{name}")) for name in names if name != "main"}


def trees(at: Path) -> list[str]:
    """Return the folders of all further working trees that the repository knows."""
    lines = git(at, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")][1:]


def commit(text: str = "work", file: str = "new.txt") -> str:
    """Return a shell script that commits a file as an agent does."""
    return f"echo {text} > {file}; git add {file}; git -c user.name=a -c user.email=a@a commit -qm {text}"


def profile(
    folder: Path, *agents: dict[str, object], git: str = ".", workspace: object = None, **tables: object
) -> Path:
    own = {"git": git, **(workspace if isinstance(workspace, dict) else {})}
    return write(folder, *agents, workspace=own, **tables)  # type: ignore[arg-type]
