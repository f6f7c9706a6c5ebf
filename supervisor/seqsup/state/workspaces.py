"""Folders of workspaces below a state folder, and those of runs that are to be removed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from seqsup.errors import SeqsupError
from seqsup.host import users
from seqsup.host.git import GitEnded, GitError, ask, request
from seqsup.model.history import fold
from seqsup.model.plan import Account
from seqsup.model.run_view import WorkspaceView
from seqsup.state.journal import JournalReader
from seqsup.state.run_folder import label, private

WORKSPACES, MIRRORS = "workspaces", "mirrors"
_PATIENCE = 600.0  # seconds to remove a tree


class Release(Struct, frozen=True):
    """A workspace whose folder is there, and what git is asked to remove it."""

    folder: Path
    request: bytes
    account: Account | None

    def stays(self, ended: GitEnded | None, why: str = "") -> str:
        """Say why it stays; empty: it is gone. `why` is what git complains of."""
        if ended is None or not ended.removed:
            return f"its workspace {self.folder} is kept: {why or (ended and ended.holds) or 'it cannot be removed'}"
        with suppress(OSError):
            self.folder.parent.rmdir()
        return ""


def make_parent(state_dir: Path, name: str, account: Account | None) -> Path:
    """Make the folder that a workspace lies in, which its user owns."""
    top = private(state_dir / WORKSPACES)
    return _own(top / name, account, state_dir)


def mirrors(state_dir: Path, account: Account | None) -> Path:
    """Make the folder for copies of repositories of that user."""
    return _own(private(state_dir / MIRRORS) / (account.name if account else "own"), account, state_dir)


def _own(folder: Path, account: Account | None, state_dir: Path) -> Path:
    private(folder)
    if account is not None:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
        users.open_way(folder.parent, state_dir)
    return folder


def standing(state_dir: Path, run: int) -> list[Path]:
    """List the folders of a run's workspaces. Empty ones are removed on the way."""
    name, found = label(run), []
    with suppress(FileNotFoundError):
        for entry in sorted((state_dir / WORKSPACES).iterdir()):
            if entry.name == name or entry.name.startswith((f"{name}-", f"{name}+")):
                try:
                    entry.rmdir()
                except OSError:
                    found.append(entry)
    return found


def releases(journal: JournalReader, state_dir: Path, run: int, *, dry: bool = False) -> Iterator[Release]:
    """Yield the workspaces of a run that have a folder. OSError: the user of one is gone."""
    if not standing(state_dir, run):
        return
    for each in fold(journal.events(run)).workspaces.values():
        if os.path.lexists(each.folder):
            try:
                account = users.look_up(each.user) if each.user else None
            except SeqsupError as error:
                raise OSError(f"its workspace {each.folder} is kept: {error}") from error
            yield Release(Path(each.folder), end_request(each, "", remove=not dry), account)


def end_request(each: WorkspaceView, push_to: str, *, remove: bool) -> bytes:
    return request(
        "end", folder=each.folder, branch=each.branch, base=each.base, remote=each.remote, home=each.home,
        common=each.common, push_to=push_to, remove=remove,
    )  # fmt: skip


def release(
    journal: JournalReader, state_dir: Path, run: int, environ: Mapping[str, str], *, dry: bool = False
) -> None:
    """Remove the workspaces of a run that hold no work. OSError names one that stays."""
    for each in releases(journal, state_dir, run, dry=dry):
        ended, why = None, ""
        try:
            ended = ask(GitEnded, each.request, environ, each.account, _PATIENCE)
        except GitError as error:
            why = str(error)
        stays = each.stays(ended, why) if not dry else (why or (ended.holds if ended is not None else ""))
        if stays:
            raise OSError(stays if not dry else f"its workspace {each.folder} is kept: {stays}")
