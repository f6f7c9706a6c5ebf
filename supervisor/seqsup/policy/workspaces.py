"""Workspaces of agents: names of branches and folders, what a retry finds, and what the user can do after it. Pure."""

import re
import shlex
from pathlib import PurePosixPath

from seqsup.model.enums import Keep, TreeOnRetry
from seqsup.model.reason import Reason
from seqsup.text import counted

RUN, AGENT = "{run}", "{agent}"
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
# What git-check-ref-format(1) forbids in any place of a name
_FORBIDDEN = re.compile(r"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_PART = re.compile(r"\.|-|.*(\.lock|\.)$")  # and of one of its parts: how it must not begin or end


def wrong_branch(pattern: str, *, shared: bool) -> str:
    """Say what is wrong with a pattern of branches, with a remedy behind a line break; empty: nothing."""
    unknown = [each for each in _PLACEHOLDER.findall(pattern) if each not in (RUN, AGENT)]
    if unknown:
        return f"unknown placeholder {unknown[0]}\nwrite {RUN} or {AGENT}"
    if RUN not in pattern:
        return f"contains no {RUN}, so a second run would find the branch of the first\nwrite {pattern}-{RUN}"
    if shared and AGENT in pattern:
        return f'contains {AGENT}, but all agents share the branch\nremove it, or set per = "agent"'
    if not shared and AGENT not in pattern:
        return f'contains no {AGENT}, but each agent has a branch\nwrite {pattern}/{AGENT}, or set per = "run"'
    filled = pattern.replace(RUN, "r1").replace(AGENT, "a")
    if not is_ref(filled):
        return "git allows no branch of this name\nuse letters, digits, / and -"
    return ""


def is_ref(name: str) -> bool:
    """Say whether git takes a name for a branch."""
    parts = name.split("/")
    return bool(name) and name != "@" and not _FORBIDDEN.search(name) and not any(
        not part or _PART.match(part) for part in parts
    )  # fmt: skip


def branch(pattern: str, run: str, agent: str) -> str:
    """Return the branch of an agent. What git does not take in a name becomes a hyphen."""
    safe = re.sub(r"\.\.+", "-", agent)
    safe = re.sub(r"(\.lock|\.)$", lambda match: "-" + match[0][1:], safe)
    return pattern.replace(RUN, run).replace(AGENT, safe)


def folder(run: str, agent: str, number: int = 1) -> str:
    """Return the name of the folder of a workspace. `agent` is empty if it is the whole run's."""
    name = f"{run}-{agent}" if agent else run
    return name if number == 1 else f"{name}+{number}"


def repository(git: str) -> str:
    """Return the name of a repository, as its folder or address ends: `shop` for https://example.org/shop.git."""
    name = re.sub(r"(/\.git|\.git)?/*$", "", git.rstrip("/")).replace(":", "/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "repository"


def inside(path: str, base: str, below: str) -> str | None:
    """Return a path within the repository that is meant by one on this machine; None if that leads out of `base`.

    `below` is the place of `base` in the repository. The top is the empty text.
    """
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part != "..":
            parts.append(part)
        elif len(parts) > 1:
            parts.pop()
    straight = PurePosixPath(*parts)
    if not straight.is_relative_to(base):
        return None
    found = str(PurePosixPath(below or ".", straight.relative_to(base)))
    return "" if found == "." else found


def unseen(where: str, changed: int) -> str:
    """Say that agents do not see what is not committed."""
    return f"{counted(changed, 'file')} of {where} {'is' if changed == 1 else 'are'} not committed: no agent sees that"


def without_password(address: str) -> str:
    """Return an address of a repository as it may be shown."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", address)


def renews(how: TreeOnRetry, last: Reason | None, *, resumed: bool) -> bool:
    """Say whether an attempt starts from what its agent found at first. `last` is how its last attempt ended; None: it
    has not started yet. A resumed conversation relies on the files that it has written, and a round on those before.
    """
    return how is TreeOnRetry.CLEAN and last not in (None, Reason.UNFINISHED) and not resumed


def removes(keep: Keep, *, ok: bool) -> bool:
    """Say whether a tree may go after its agent, if it holds no work."""
    return keep is Keep.NEVER or (keep is Keep.ON_FAILURE and ok)


def commands(
    *, branch: str, home: str, folder: str, commits: int, changed: int, push_to: str, pushed: bool, removed: bool
) -> tuple[str, ...]:
    """Return what the user can type next. `push_to` is the remote if a push is due; `home` is empty for an address."""
    tree, found = shlex.quote(folder), []
    if changed and not removed:
        found.append(f"cd {tree} && git add --all && git commit")
    if push_to and not pushed and commits:
        found.append(f"git -C {shlex.quote(home or folder)} push {push_to} {branch}")
    elif commits and home:
        found.append(f"git merge {branch}")
    elif commits and pushed:
        found.append(f"git fetch {push_to} && git merge {push_to}/{branch}")
    elif commits:
        found.append(f"git -C {tree} push origin {branch}")
    return tuple(found)


def work(
    branch: str, *, commits: int, changed: int, pushed: bool, removed: bool, folder: str, holds: str, why: str
) -> str:
    """Say in a line what a workspace holds."""
    there = commits or not removed  # a branch without a commit of its own goes with its folder
    parts = [f"branch {branch}"] * bool(there) + [counted(commits, "commit") if commits else "no commits"]
    if pushed:
        parts.append("pushed")
    if changed:
        parts.append(counted(changed, "uncommitted file"))
    if why:
        parts.append(why)
    if not removed:
        parts.append(f"kept in {folder}" + (f": {holds}" if holds and not changed else ""))
    return ", ".join(parts)


def order(text: str) -> tuple[str, str | None]:
    """Split GIT[@REF]. An @ before the path of an address belongs to a user: git@example.org:shop.git."""
    git, at, ref = text.rpartition("@")
    there = git.partition("://")[2] if "://" in git else git
    if not at or not git or not ref or ":" in ref or ("://" in git and "/" not in there):
        return text, None
    return git, ref
