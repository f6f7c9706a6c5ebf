"""Programs that root may run: only files that no other user can change."""

import os
import re
from collections.abc import Iterator, Sequence

from seqsup.host.trust import exposure
from seqsup.model.plan import Account
from seqsup.node.detect import detect, find

_INTERPRETER = re.compile(r"(ba|da|k|z|a)?sh|python[0-9.]*|node(js)?|bun|deno|perl|ruby|php|lua")


def unsafe(command: Sequence[str], cwd: str, path: str) -> str:
    """Say why root does not run a command, or nothing: another user can change a file that it runs."""
    for file in _files(command, cwd, path):
        if (found := exposure(file)) is not None:
            return f"not run as root: {found}, or set hooks.user to a user that is not root"
    return ""


def checked(words: Sequence[str], cwd: str, account: Account | None) -> tuple[str, ...]:
    """Return the words to start. PermissionError if root would run a program that another user can change."""
    program, *rest = words
    if account is None and os.geteuid() == 0:
        path = os.environ.get("PATH", os.defpath)
        if why := unsafe(words, cwd, path):
            raise PermissionError(why)
        program = find(program, cwd, path) or program  # the one that was looked at
    return (program, *rest)


def _files(command: Sequence[str], cwd: str, path: str) -> Iterator[str]:
    """Find the files that a command runs, as far as it names them: its program, the interpreter, scripts."""
    program = find(command[0], cwd, path)
    yield from filter(None, (program, detect(command, cwd, path).executable))
    scripts = [file for word in command[1:] if os.path.isfile(file := os.path.join(cwd, word))]  # noqa: PTH113, PTH118
    if program is not None and not _INTERPRETER.fullmatch(os.path.basename(program)):  # noqa: PTH119
        scripts = [file for file in scripts if os.access(file, os.X_OK)]
    yield from scripts
