"""Git for workspaces: the requests to `git_main`, which does it in a process of its own, and its answers."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from seqsup.host import users
from seqsup.model.plan import Account
from seqsup.text import printable

COMMAND = (sys.executable, "-P", "-X", "utf8", str(Path(__file__).with_name("git_main.py")))
PATIENCE = 60.0  # seconds for a look: a server may be slow

T = TypeVar("T")


class GitError(Exception):
    """Git, or the repository, does not allow it. Nothing was done."""

    def __init__(self, why: str, remedy: str = "", key: str = "git") -> None:
        super().__init__(printable(why))
        self.remedy, self.key = printable(remedy), key


class GitPlace(Struct, frozen=True, kw_only=True):
    common: str  # the repository's own folder


class GitRepository(Struct, frozen=True, kw_only=True):
    """What a repository has."""

    ref: str
    commit: str  # empty: not known before it is fetched
    top: str  # of its working tree; empty: it has none here
    common: str  # its own folder, which all its working trees share
    base: str  # the folder in place of which a workspace stands
    below: str  # its place in the repository; empty: its top
    changed: int  # files that are not committed
    missing: tuple[str, ...]  # folders of agents that the commit does not have
    submodules: bool
    lfs: bool  # it keeps files in LFS, and git lfs is not set up
    push_to: str  # the remote; empty: there is none


class GitOpened(Struct, frozen=True, kw_only=True):
    """A workspace that is ready for an agent."""

    branch: str
    base: str  # the commit that the branch began with
    head: str
    snapshot: str  # a commit of all files, if some are not committed


class GitSaved(Struct, frozen=True, kw_only=True):
    """Work of an attempt, on a branch of its own."""

    branch: str
    commits: int
    files: int  # that were not committed


class GitRenewed(Struct, frozen=True, kw_only=True):
    saved: tuple[GitSaved, ...]


class GitEnded(Struct, frozen=True, kw_only=True):
    """A workspace after its agent."""

    branch: str  # that of the workspace, or one that the agent has made
    commits: int
    changed: int  # files that are not committed
    pushed: bool
    problem: str  # why a push failed
    removed: bool  # the tree is gone
    holds: str  # which work would be lost with it


def request(do: str, **more: Any) -> bytes:
    return json.dumps({"do": do, **more}).encode()


def read(kind: type[T], said: bytes, why: str = "") -> T:
    """Return the answer. GitError: there is none, for the reason that git or `why` gives."""
    try:
        fields = msgspec.json.decode(said, type=dict[str, Any])
        if "error" in fields:
            raise GitError(str(fields["error"]), str(fields.get("remedy", "")), str(fields.get("key", "git")))
        return msgspec.convert(fields, kind)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise GitError(why or "git gave no answer") from None


def ask(kind: type[T], given: bytes, environ: Mapping[str, str], account: Account | None, seconds: float) -> T:
    """Ask as that user, outside of a run, and wait for the answer."""
    become = users.becoming(account) if account is not None else []
    try:
        ended = subprocess.run(
            [*become, *COMMAND], input=given, env=users.environment(account, environ), cwd="/", capture_output=True,
            timeout=seconds, check=False, start_new_session=True,  # no password is asked for on the terminal
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise GitError(f"git does not answer within {seconds:g} s") from None
    except OSError as error:
        raise GitError(f"{COMMAND[0]} cannot be started: {error.strerror}") from None
    return read(kind, ended.stdout, ended.stderr.decode(errors="replace").strip().rpartition("\n")[2])
