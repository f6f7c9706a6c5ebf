"""The repository of [workspace]: looked at for the plan, and what it means for agents."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from msgspec.structs import replace

from seqsup.errors import SeqsupError
from seqsup.host.git import PATIENCE, GitError, GitPlace, GitRepository, ask, request
from seqsup.host.trust import exposure
from seqsup.model.kinds import KeyPath
from seqsup.model.plan import Account, WorkspaceRules
from seqsup.model.profile import Profile, WorkspaceTable
from seqsup.plan.expand import ExpandedAgent
from seqsup.plan.select import Selection
from seqsup.policy.workspaces import inside, is_ref, order, repository, unseen, without_password
from seqsup.text import named, shown

_NAMED = 3  # agents of which the same is noted


def look(
    given: WorkspaceTable, folder: str, places: Sequence[tuple[int, str]], accounts: Sequence[Account | None],
    environ: Mapping[str, str], problems: dict[KeyPath, str],
) -> GitRepository | None:  # fmt: skip
    """Look at the repository as each user that owns workspaces. `places` are the folders of agents, with their number
    in the profile. None: it is no use, and `problems` says why.
    """
    git = given.git if given.remote else str(PurePosixPath(folder, given.git))
    asked = request(
        "look", git=git, shown=without_password(git), ref=given.ref, remote=given.remote, folder=folder,
        folders=sorted({cwd for _, cwd in places}),
    )  # fmt: skip
    found: GitRepository | None = None
    for account in accounts:
        try:
            if account is None and os.geteuid() == 0 and not given.remote:
                _believe(git, ask(GitPlace, request("where", git=git), environ, None, PATIENCE).common)
            found = found or ask(GitRepository, asked, environ, account, PATIENCE)
        except GitError as error:
            of = f"{without_password(git)}: " if given.remote else ""
            who = f" (as {account.name}; this user must be able to read seqsup, too)" if account is not None else ""
            problems["workspace", error.key] = f"{of}{error}{who}" + (f"\n{error.remedy}" if error.remedy else "")
            return None
    if found is None:
        return None
    for n, cwd in places:
        if cwd in found.missing:
            there = inside(cwd, found.base, found.below)
            problems["agents", n, "cwd"] = f"{found.ref} has no folder {there}, in which the agent would work"
    if given.push and not found.push_to:
        problems["workspace", "push"] = (
            f"{found.top or found.common} has no remote\nrun `git remote add origin URL` there"
        )
    return found


def _believe(git: str, common: str) -> None:
    """Raise GitError if root does not believe a repository: git runs programs that its configuration names."""
    exposed = exposure(git) or exposure(f"{common}/config") or exposure(f"{common}/info/attributes")
    if exposed is not None:
        raise GitError(f"refused as root, because another user can change this repository: {exposed}, or set run.user")


def hides(given: WorkspaceTable | None, found: GitRepository | None, folder: str, cwd: str) -> bool:
    """Say whether an agent's folder is one of the repository that cannot be looked at in its place on this machine."""
    if found is None:
        return given is not None and inside(cwd, folder, "") is not None
    elsewhere = not found.top or found.below != "" or found.base == folder != found.top
    return elsewhere and inside(cwd, found.base, found.below) is not None


def workspaces(
    given: WorkspaceTable | None, found: GitRepository | None, account: Account | None
) -> WorkspaceRules | None:
    """Return where agents work."""
    if given is None or found is None:
        return None
    git = given.git if given.remote else found.top or found.common
    return WorkspaceRules(
        git=git, shown=without_password(git), remote=given.remote, home=found.top or found.common, common=found.common,
        name=repository(git), ref=found.commit if found.ref == "HEAD" else found.ref, commit=found.commit,
        base=found.base, below=found.below,
        shared=given.per == "run", branch=given.pattern, push_to=found.push_to if given.push else "", keep=given.keep,
        account=account, changed=found.changed,
    )  # fmt: skip


def works_inside(found: GitRepository | None, agent: ExpandedAgent) -> bool:
    """Say whether an agent works in a workspace."""
    return found is not None and inside(agent.cwd, found.base, found.below) is not None


def notes(given: WorkspaceTable, found: GitRepository, selection: Selection) -> Iterator[str]:
    """Say what a user may not expect of workspaces."""
    if found.changed:
        yield unseen(found.top or found.common, found.changed)
    if found.submodules:
        yield "submodules are empty in a workspace: have the agent run `git submodule update --init`"
    if found.lfs:
        yield "files in LFS are pointers in a workspace: git lfs is not set up here (`git lfs install`)"
    outside = [agent.name for agent in selection.taken if not works_inside(found, agent)]
    if outside:
        yield f"{named(outside, _NAMED)}: no workspace, because cwd is not in the repository"
    if given.per == "agent" and (blind := list(_blind(selection.taken))):
        yield f'{named(blind, _NAMED)}: sees no commits of the agents in needs; per = "run" gives all one workspace'


def _blind(agents: Iterable[ExpandedAgent]) -> Iterator[str]:
    return (agent.name for agent in agents if agent.table.needs)


def with_order(profile: Profile, text: str | None) -> Profile:
    """Return the profile with the repository that an order names, GIT[@REF], in place of its own. SeqsupError: it names
    none. If only the order asks for a workspace, work is pushed to an address: no one looks for it on the worker.
    """
    if text is None:
        return profile
    git, ref = order(text)
    if not git.strip() or git.startswith("-") or (ref is not None and not is_ref(ref)):
        raise SeqsupError(f"--workspace {shown(text)}: expected GIT[@REF], such as https://example.org/shop.git@main")
    given = WorkspaceTable(git=git, ref=ref)
    if profile.workspace is not None:
        return replace(profile, workspace=replace(profile.workspace, git=git, ref=ref))
    return replace(profile, workspace=replace(given, push=given.remote))


def as_seen_from(folder: str, text: str) -> str:
    """Return GIT[@REF] with an absolute path, if it names a folder as it is typed in this one."""
    git, ref = order(text)
    if WorkspaceTable(git=git).remote or not git:
        return text
    return str(PurePosixPath(folder, git)) + (f"@{ref}" if ref is not None else "")


def must_be_everywhere(profile: Profile) -> None:
    """SeqsupError: another machine does not have the repository that a job names."""
    given = profile.workspace
    if given is not None and not given.remote and not given.git.startswith("/"):
        raise SeqsupError(
            f"the repository {given.git} is a folder of this machine, and another may carry the job out: name an"
            " address in workspace.git or --workspace, such as https://example.org/shop.git"
        )
