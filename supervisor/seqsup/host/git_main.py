"""Git for workspaces: makes, renews and ends a working tree, in a process of its own and as the user that owns it.

It is started by its path and imports nothing of seqsup. On stdin is one JSON object, whose `do` names a function below.
It prints one JSON object: the answer, or `error`, `remedy` and `key` if nothing was done.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Asked = dict[str, Any]

# Of an outer git, as in a hook, these would lead ours to another repository. Identity and transport are the user's own
_KEPT = re.compile(r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|PROXY_COMMAND|SSL_.*|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)"
                   r"|(AUTHOR|COMMITTER)_(NAME|EMAIL))")  # fmt: skip
_OPTIONS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false",
    "protocol.ext.allow=never", "submodule.recurse=false", "core.quotePath=false",
)  # fmt: skip
_UNDER_WAY = (
    "rebase-merge", "rebase-apply", "sequencer", "MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD",
    "REVERT_HEAD", "BISECT_LOG", "BISECT_START", "AUTO_MERGE",
)  # fmt: skip
_NAMED = 5  # branches that a message lists
_secret: list[tuple[str, str]] = []  # a text that no message may have, and what replaces it


class Failed(Exception):
    def __init__(self, error: str, remedy: str = "", key: str = "git") -> None:
        super().__init__(error)
        self.remedy, self.key = remedy, key


def main() -> None:
    asked = json.load(sys.stdin)
    if asked.get("shown"):
        _secret.append((asked["git"], asked["shown"]))
    if asked.get("home") and not os.path.isdir(asked["home"]):  # noqa: PTH112  (a worktree itself, which was removed)
        asked["home"] = asked["common"]
    try:
        answer = {"where": where, "look": look, "open": open_tree, "renew": renew, "end": end}[asked["do"]](asked)
    except Failed as failed:
        answer = {"error": _public(str(failed)), "remedy": failed.remedy, "key": failed.key}
    except OSError as error:
        answer = {"error": _public(f"{error.filename or 'git'}: {error.strerror}"), "remedy": "", "key": "git"}
    print(json.dumps(answer))  # noqa: T201


# -- before a run: what there is


def where(asked: Asked) -> Asked:
    """Say where a repository keeps its configuration. Nothing that it names is run."""
    path = asked["git"]
    if not os.path.isdir(path):  # noqa: PTH112
        raise Failed(f"folder {path} does not exist")
    common = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    return {"common": _git(*common, at=path, wrong=_no_repository(path))}


def look(asked: Asked) -> Asked:
    """Say what a profile's repository has: its commit, its folders, and what the user may not expect."""
    return _look_there(asked) if asked["remote"] else _look_here(asked)


def _look_here(asked: Asked) -> Asked:
    path, folder = asked["git"], asked["folder"]
    if not os.path.isdir(path):  # noqa: PTH112
        raise Failed(f"folder {path} does not exist")
    bare = _git("rev-parse", "--is-bare-repository", at=path, wrong=_no_repository(path)) == "true"
    common = _git("rev-parse", "--path-format=absolute", "--git-common-dir", at=path)
    top = "" if bare else _git("rev-parse", "--show-toplevel", at=path)
    if not os.access(common, os.W_OK):
        raise Failed(f"{common} cannot be written, and each workspace is noted there")
    ref = asked["ref"] or _try("symbolic-ref", "--quiet", "--short", "HEAD", at=path) or "HEAD"
    commit = _commit(ref, at=path)
    if commit is None:
        if not _try("rev-parse", "--quiet", "--verify", "HEAD", at=path):
            raise Failed(f"{top or common} has no commits", "commit once: a workspace begins with a commit")
        raise Failed(f"no branch, tag or commit {ref} in {top or common}", _branches(path), "ref")
    base, below = _place(folder, path, top)
    status = "" if bare else _git("status", "--porcelain", "-z", at=top, env={"GIT_OPTIONAL_LOCKS": "0"})
    return {
        "ref": ref, "commit": commit, "top": top, "common": common, "base": base, "below": below,
        "changed": _entries(status),
        "missing": [each for each in asked["folders"] if not _is_there(commit, each, base, below, path)],
        "submodules": bool(_try("cat-file", "-t", f"{commit}:.gitmodules", at=path)),
        "lfs": "filter=lfs" in _try("show", f"{commit}:.gitattributes", at=path)
        and not _try("config", "filter.lfs.smudge", at=path),
        "push_to": _push_to(path),
    }  # fmt: skip


def _place(folder: str, path: str, top: str) -> tuple[str, str]:
    """Return the folder that a workspace replaces, and its place in the repository.

    A profile within the working tree names its own folders; else its folder means the one that `git` names.
    """
    within = top and _try("rev-parse", "--show-toplevel", at=folder) == top
    below = _try("rev-parse", "--show-prefix", at=folder if within else path).rstrip("/") if top else ""
    if within and f"{folder}/".endswith(f"/{below}/" if below else "/"):
        return folder[: len(folder) - len(below)].rstrip("/") or "/", ""
    return folder, below


def _no_repository(path: str) -> Failed:
    return Failed(f"{path} is in no git repository", "run `git init` and commit there, or name another folder")


def _branches(path: str) -> str:
    some = _git("for-each-ref", "--format=%(refname:short)", "--sort=-committerdate", "refs/heads", at=path).split()
    return f"there is {', '.join(some[:_NAMED])}" if some else ""


def _push_to(path: str) -> str:
    """Return the remote that a push goes to; empty if there is none."""
    remotes = _try("remote", at=path).split()
    wanted = _try("config", "remote.pushDefault", at=path) or "origin"
    return wanted if wanted in remotes else remotes[0] if len(remotes) == 1 else ""


def _is_there(commit: str, folder: str, base: str, below: str, at: str) -> bool:
    """Say whether the commit has a folder; one outside of the repository is not asked for."""
    place = os.path.normpath(os.path.join(below, os.path.relpath(folder, base)))  # noqa: PTH118
    if place == "." or place.startswith(".."):
        return True
    return _try("cat-file", "-t", f"{commit}:{place}", at=at) == "tree"


def _look_there(asked: Asked) -> Asked:
    wanted = asked["ref"]
    wrong = Failed("cannot be reached", "try `git ls-remote` with it; a password cannot be asked for here")
    said = _git("ls-remote", "--symref", "--", asked["git"], "HEAD", *([wanted] if wanted else ()), at="/", wrong=wrong)
    pairs = [(name, oid) for oid, _, name in (line.partition("\t") for line in said.splitlines())]
    head = next((oid.removeprefix("ref: refs/heads/") for _, oid in pairs if oid.startswith("ref: ")), "")
    found, ref = {name: oid for name, oid in pairs if not oid.startswith("ref: ")}, wanted or head
    places = ["HEAD"] if not wanted else [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    commit = next((found[place] for place in places if place in found), "")
    if not commit and not re.fullmatch("[0-9a-f]{7,64}", ref):
        raise Failed(f"it has no branch or tag {ref}" if ref else "it has no commits", "", "ref")
    return {
        "ref": ref, "commit": commit, "top": "", "common": "", "base": asked["folder"], "below": "", "changed": 0,
        "missing": [], "submodules": False, "lfs": False, "push_to": "origin",
    }  # fmt: skip


# -- before an attempt


def open_tree(asked: Asked) -> Asked:
    """Make a workspace, or find it again. `untouched`: no agent was in it yet, so what a crash left is made again."""
    folder = Path(asked["folder"])
    keep = _mirror(asked) if asked["remote"] else asked["home"]
    with _locked(keep):
        if asked["untouched"]:
            _clear(asked, folder)
        elif _usable(asked, folder):
            return _as_it_is(asked, folder, asked["base"])
        elif folder.exists() and any(folder.iterdir()):
            _try("worktree", "repair", str(folder), at=keep)
            if not _usable(asked, folder):
                raise Failed(f"{folder} is no longer a working tree", f"move it away: mv {folder} {folder}.old")
            return _as_it_is(asked, folder, asked["base"])
        base = asked["base"] or _commit(asked["ref"], at=keep)
        if base is None:
            raise Failed(f"no branch, tag or commit {asked['ref']}", "", "ref")
        if asked["remote"]:
            _make_clone(asked, keep, folder, base)
        else:
            _make_worktree(asked, keep, folder, base)
    return _as_it_is(asked, folder, base)


def _clear(asked: Asked, folder: Path) -> None:
    """Remove what is left of a tree that was being made when its supervisor died."""
    if not asked["remote"]:
        _try("worktree", "remove", "--force", "--force", str(folder), at=asked["home"])
    if folder.exists():
        shutil.rmtree(folder)


def _usable(asked: Asked, folder: Path) -> bool:
    """Return whether the folder is a tree of that repository, and not a folder within another one."""
    if not (folder / ".git").exists() or _try("rev-parse", "--show-toplevel", at=folder) != os.path.realpath(folder):
        return False
    common = _try("rev-parse", "--path-format=absolute", "--git-common-dir", at=folder)
    return bool(asked["remote"]) or os.path.realpath(common) == os.path.realpath(asked["common"])


def _as_it_is(asked: Asked, folder: Path, base: str) -> Asked:
    _unlock(folder, asked)
    branch = _try("symbolic-ref", "--quiet", "--short", "HEAD", at=folder)
    known = asked.get("known")
    return {
        "branch": known or branch, "base": base, "head": _git("rev-parse", "HEAD", at=folder),
        "snapshot": _snapshot(folder, "seqsup: the state at an agent's start") if _status(folder) else "",
    }  # fmt: skip


def _make_worktree(asked: Asked, home: str, folder: Path, base: str) -> None:
    _try("worktree", "remove", "--force", "--force", str(folder), at=home)  # its folder is gone, its entry may not be
    if (known := asked.get("known")) and _tip(known, home):
        _git("worktree", "add", "--quiet", str(folder), known, at=home)
        return
    listed = _git("worktree", "list", "--porcelain", at=home).splitlines()
    for branch in _numbered(asked["branch"]):
        tip = _tip(branch, home)
        if tip is None and _git("for-each-ref", f"refs/heads/{branch}/", at=home):
            continue  # git keeps branches as files: where shop/a is, there can be no shop
        if tip is None:
            _git("worktree", "add", "--quiet", "--no-track", "-b", branch, str(folder), base, at=home)
            return
        if tip == base and f"branch refs/heads/{branch}" not in listed:  # a crash left it: it has no commit of its own
            _git("worktree", "add", "--quiet", str(folder), branch, at=home)
            return


def _make_clone(asked: Asked, mirror: str, folder: Path, base: str) -> None:
    _git("clone", "--quiet", "--no-checkout", "--origin", "origin", mirror, str(folder), at="/")
    _git("remote", "set-url", "origin", asked["git"], at=folder)
    known = asked.get("known")
    if known and (pushed := _try("rev-parse", "--quiet", "--verify", f"refs/remotes/origin/{known}", at=folder)):
        _git("checkout", "--quiet", "--no-track", "-B", known, pushed, at=folder)
        return
    taken = set(_git("for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin", at=folder).split())
    branch = next(each for each in _numbered(known or asked["branch"]) if each not in taken)
    _git("checkout", "--quiet", "--no-track", "-B", branch, base, at=folder)


def _numbered(branch: str) -> Iterator[str]:
    yield branch
    yield from (f"{branch}-{number}" for number in range(2, 10_000))


def _mirror(asked: Asked) -> str:
    """Return a bare copy of the repository at this address, as it is now."""
    mirror = Path(asked["mirror"])
    mirror.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(mirror.parent):
        for torn in mirror.parent.glob(f"{mirror.name}.new-*"):  # a clone that was killed
            shutil.rmtree(torn)
        if _try("rev-parse", "--is-bare-repository", at=mirror) == "true":
            for lock in mirror.rglob("*.lock"):  # only we write here, one at a time
                lock.unlink(missing_ok=True)
            _git("fetch", "--quiet", "--prune", "--force", "origin", at=mirror)
            return str(mirror)
        if mirror.exists():
            shutil.rmtree(mirror)
        new = mirror.with_name(f"{mirror.name}.new-{os.getpid()}")
        _git("clone", "--quiet", "--mirror", "--", asked["git"], str(new), at="/")
        new.rename(mirror)
    return str(mirror)


# -- before a retry


def renew(asked: Asked) -> Asked:
    """Save what the last attempt left on a branch of its own, and put the tree back to where the agent began."""
    folder, branch, head = Path(asked["folder"]), asked["branch"], asked["head"]
    _unlock(folder, asked)
    at, files = _git("rev-parse", "HEAD", at=folder), _entries(_status(folder))
    last = _snapshot(folder, asked["message"]) if files else at
    saved: list[Asked] = []
    for oid in dict.fromkeys((last, _tip(branch, folder) or last)):
        # the snapshot of an earlier agent's work, with which this one began, is no work of its own
        if oid == head or (asked["snapshot"] and _same_tree(oid, asked["snapshot"], folder) and at == head):
            continue
        if any(_is_within(oid, each["commit"], folder) for each in saved):
            continue
        to = next(each for each in _numbered(asked["save"]) if _tip(each, folder) is None)
        _git("update-ref", f"refs/heads/{to}", oid, "", at=folder)
        commits = int(_git("rev-list", "--count", f"{head}..{oid}", at=folder)) - (oid == last != at)
        saved.append({"branch": to, "commit": oid, "commits": commits, "files": files if oid == last else 0})
    _reset(folder, branch, head, asked["snapshot"])
    return {"saved": [{key: each[key] for key in ("branch", "commits", "files")} for each in saved]}


def _reset(folder: Path, branch: str, head: str, snapshot: str) -> None:
    own = Path(_git("rev-parse", "--absolute-git-dir", at=folder))
    for name in _UNDER_WAY:
        if (own / name).is_dir():
            shutil.rmtree(own / name)
        else:
            (own / name).unlink(missing_ok=True)
    _git("symbolic-ref", "HEAD", f"refs/heads/{branch}", at=folder)
    _git("update-ref", f"refs/heads/{branch}", head, at=folder)
    _git("reset", "--quiet", "--hard", at=folder)
    _git("clean", "--quiet", "-d", "--force", at=folder)
    if snapshot:
        _git("read-tree", "-u", "--reset", snapshot, at=folder)
        _git("read-tree", head, at=folder)


def _same_tree(one: str, other: str, at: Path) -> bool:
    return _git("rev-parse", f"{one}^{{tree}}", at=at) == _git("rev-parse", f"{other}^{{tree}}", at=at)


def _is_within(one: str, other: str, at: Path) -> bool:
    return _run(["merge-base", "--is-ancestor", one, other], at=at).returncode == 0


def _snapshot(folder: Path, message: str) -> str:
    """Commit all files that git does not ignore, on no branch. Index, branch and files stay as they are."""
    own = _git("rev-parse", "--absolute-git-dir", at=folder)
    index = {"GIT_INDEX_FILE": f"{own}/seqsup-index"}
    try:
        _git("read-tree", "HEAD", at=folder, env=index)
        _git("-c", "advice.addEmbeddedRepo=false", "add", "--all", at=folder, env=index)
        tree = _git("write-tree", at=folder, env=index)
    finally:
        for left in ("", ".lock"):
            Path(f"{own}/seqsup-index{left}").unlink(missing_ok=True)
    return _git("commit-tree", tree, "-p", "HEAD", "-m", message, at=folder, env=_identity(folder))


def _identity(folder: Path) -> dict[str, str]:
    if _try("var", "GIT_COMMITTER_IDENT", at=folder) and _try("config", "user.email", at=folder):
        return {}
    named = {f"GIT_{who}_NAME": "seqsup" for who in ("AUTHOR", "COMMITTER")}
    return named | {f"GIT_{who}_EMAIL": "seqsup@localhost" for who in ("AUTHOR", "COMMITTER")}


# -- after an agent


def end(asked: Asked) -> Asked:
    """Count the commits, push them if asked, and remove the tree if that loses nothing."""
    folder, branch, base = Path(asked["folder"]), asked["branch"], asked["base"]
    there = _usable(asked, folder)
    home = folder if asked["remote"] else asked["home"]
    if there:
        _unlock(folder, asked)
    tip = _tip(branch, home) if there or not asked["remote"] else None
    own = _try("symbolic-ref", "--quiet", "--short", "HEAD", at=folder) if there else ""
    if own not in ("", branch) and tip in (None, base):  # the agent works on a branch of its own
        branch, tip = own, _tip(own, home)
    commits = int(_git("rev-list", "--count", f"{base}..{tip}", at=home)) if tip and base else 0
    pushed, problem = False, ""
    if asked["push_to"] and commits:
        ended = _run(["push", "--quiet", asked["push_to"], f"refs/heads/{branch}:refs/heads/{branch}"], at=home)
        pushed, problem = ended.returncode == 0, "" if ended.returncode == 0 else _told(ended.stderr)
    changed = _entries(_status(folder)) if there else 0
    holds = _holds(asked, folder, changed) if there else "it cannot be read as a working tree"
    removed = not os.path.lexists(folder)
    if asked["remove"] and not removed and not holds:
        removed = _remove(asked, folder)
    if removed and not asked["remote"] and not pushed:
        _forget(asked["branch"], base, home)
    return {
        "branch": branch, "commits": commits, "changed": changed, "pushed": pushed, "problem": problem,
        "removed": removed, "holds": "" if removed else holds,
    }  # fmt: skip


def _forget(branch: str, base: str, home: str | Path) -> None:
    """Delete a branch without a commit of its own, unless a tree is on it. git compares the commit once more."""
    if f"branch refs/heads/{branch}" not in _git("worktree", "list", "--porcelain", at=home).splitlines():
        _try("update-ref", "-d", f"refs/heads/{branch}", base, at=home)


def _holds(asked: Asked, folder: Path, changed: int) -> str:
    """Say which work would be lost with the tree; empty if none would."""
    own = Path(_git("rev-parse", "--absolute-git-dir", at=folder))
    if changed:
        return "it has uncommitted changes"
    if (own / "modules").is_dir():
        return "it has submodules, which may hold commits"
    if asked["remote"]:
        refs, why = ["HEAD", "--branches", "--not", "--remotes"], "it has commits that are not pushed"
        if _try("rev-parse", "--quiet", "--verify", "refs/stash", at=folder):
            return "it has stashed changes"
    else:
        refs, why = ["HEAD", "--not", "--branches", "--remotes", "--tags"], "it has commits on no branch"
    return why if int(_git("rev-list", "--count", *refs, at=folder)) else ""


def _remove(asked: Asked, folder: Path) -> bool:
    if asked["remote"]:
        shutil.rmtree(folder)
    else:
        _run(["worktree", "remove", str(folder)], at=asked["home"])  # git itself refuses if it holds changes
    return not folder.exists()


# -- git


def _unlock(folder: Path, asked: Asked) -> None:
    """Remove the locks of a git that was killed in this tree: no process of its agent is left."""
    own = Path(_git("rev-parse", "--absolute-git-dir", at=folder))
    for lock in own.glob("*.lock"):
        lock.unlink(missing_ok=True)
    if asked.get("known") or asked.get("branch"):
        common = Path(_git("rev-parse", "--path-format=absolute", "--git-common-dir", at=folder))
        (common / f"refs/heads/{asked.get('known') or asked['branch']}.lock").unlink(missing_ok=True)


def _tip(branch: str, at: str | Path) -> str | None:
    return _try("rev-parse", "--quiet", "--verify", f"refs/heads/{branch}", at=at) or None


def _commit(ref: str, at: str | Path) -> str | None:
    for each in (ref, f"refs/remotes/origin/{ref}"):
        if found := _try("rev-parse", "--quiet", "--verify", "--end-of-options", f"{each}^{{commit}}", at=at):
            return found.splitlines()[-1]
    return None


def _status(folder: Path) -> str:
    try:
        return _git("status", "--porcelain", "-z", at=folder)
    except Failed:  # an index that was cut off: the files are what counts
        own = Path(_git("rev-parse", "--absolute-git-dir", at=folder))
        (own / "index").unlink(missing_ok=True)
        _git("read-tree", "HEAD", at=folder)
        return _git("status", "--porcelain", "-z", at=folder)


def _entries(status: str) -> int:
    """Count the files of `git status -z`; after a renamed one comes its old name."""
    return sum(1 for each in status.split("\0") if re.match(r"[ MADRCUT?!]{2} ", each))


@contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """Hold a folder: of the workspaces of one repository one is made at a time."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a filesystem without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _git(*words: str, at: str | Path, env: Mapping[str, str] | None = None, wrong: Failed | None = None) -> str:
    """Return what git prints. Failed says what it complains of; `wrong` says it better, unless there is more to say."""
    ended = _run([*words], at=at, env=env)
    if ended.returncode:
        told = _told(ended.stderr)
        if wrong is None:
            raise Failed(told)
        if "dubious ownership" in ended.stderr:
            raise Failed(f"{at} belongs to another user", "set run.user to its owner")
        raise Failed(str(wrong) if "not a git repository" in told else f"{wrong}: {told}", wrong.remedy, wrong.key)
    return ended.stdout.rstrip("\n")


def _try(*words: str, at: str | Path) -> str:
    """Return what git prints; nothing if it fails."""
    ended = _run([*words], at=at)
    return ended.stdout.rstrip("\n") if ended.returncode == 0 else ""


def _run(
    words: list[str], *, at: str | Path, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _KEPT.fullmatch(name)}
    told = {"LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", **(env or {})}
    options = [word for option in _OPTIONS for word in ("-c", option)]
    try:
        return subprocess.run(
            ["git", *options, *words], cwd=at, env=own | told, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="surrogateescape", check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        if error.filename != "git":  # the folder
            return subprocess.CompletedProcess(words, 128, "", f"{at} does not exist")
        raise Failed("git is not installed", "install it") from None


def _told(said: str) -> str:
    """Return what git complains of, in a line."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
    first = next((line for line in lines if re.match("(fatal|error|! |remote: error)", line)), (lines or ["?"])[-1])
    return " ".join(re.sub("^(fatal|error): ", "", first).split())


def _public(text: str) -> str:
    for secret, shown in _secret:
        text = text.replace(secret, shown)
    text = re.sub(r"(?<=://)[^/@\s]+@", "", text)
    return text.encode(errors="replace").decode()


if __name__ == "__main__":
    main()
