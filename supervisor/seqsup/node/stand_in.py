"""A stand-in for `node`, first on PATH: it restores variables that a child's environment has lost.

The official MCP client passes six variables to its servers, PATH among them. So a script in a folder of the attempt
sets our marks and options again, and becomes the node that PATH would have given. Measured: 2 to 3 ms, of the 30 in
which an empty Node script runs.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote

from seqsup.node import flags

# Every stand-in passes over every folder of this name: of two that are both on PATH, neither finds the other.
FOLDER = ".seqsup-node"
_NAME = "node"
_CARRIED = ("SEQSUP_", "MALLOC_")
_HEAD = """\
#!/bin/sh
# Made by seqsup for one attempt: sets what MCP clients drop from the environment, then is the next node on PATH.
"""
_REST = """\
_seqsup_node={node}
IFS=: && set -f
for _seqsup_folder in ${{PATH-}}; do
  case $_seqsup_folder in */{folder}) continue ;; esac
  if [ -f "${{_seqsup_folder:-.}}/node" ] && [ -x "${{_seqsup_folder:-.}}/node" ]; then
    _seqsup_node=${{_seqsup_folder:-.}}/node
    break
  fi
done
# Another Node may refuse what the one that was asked takes: it gets what all of them take.
_seqsup_full={full} _seqsup_safe={safe} _seqsup_ours=$_seqsup_full
[ "$_seqsup_node" -ef {node} ] || _seqsup_ours=$_seqsup_safe
_seqsup_theirs=${{NODE_OPTIONS-}}
_seqsup_theirs=${{_seqsup_theirs#"$_seqsup_full"}}
_seqsup_theirs=${{_seqsup_theirs#"$_seqsup_safe"}}
export NODE_OPTIONS="$_seqsup_ours${{_seqsup_theirs:+ ${{_seqsup_theirs# }}}}"
exec "$_seqsup_node" "$@"
"""


def write(
    place: Path, node: str, ours: tuple[str, ...], env: Mapping[str, str], owner: tuple[int, int] | None,
    left_in: Path | None = None,
) -> None:  # fmt: skip
    """Write the stand-in to `place`, from the folder that an earlier attempt left in `left_in`, if there is one.

    `node` is the binary that was probed for its options, `owner` the user that the agent becomes.
    """
    folder = f"{place}/{FOLDER}"
    try:
        os.rename(f"{left_in}/{FOLDER}", folder)  # noqa: PTH104
    except OSError:
        Path(folder).mkdir(mode=0o700, exist_ok=True)
    script = f"{folder}/{_NAME}"
    left = text = _script(node, ours, env).encode(errors="surrogateescape")
    fd = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o700)
    try:
        while left:  # a disk that fills up writes a part first, and then reports the error
            left = left[os.write(fd, left) :]
        os.ftruncate(fd, len(text))
    finally:
        os.close(fd)
    if owner is not None:
        for path in (script, folder):
            os.chown(path, *owner)


def path_behind(place: Path, env: Mapping[str, str]) -> str:
    """The PATH that begins with the stand-in of `place`."""
    return f"{place}/{FOLDER}{os.pathsep}{env.get('PATH', os.defpath)}"


def remove(place: Path, leave_in: Path | None = None) -> None:
    """Remove the stand-in. A process that still runs finds the real node behind it on PATH.

    It can be left in another folder for the next attempt, unless the agent changed it. To make and to remove one takes
    0.5 to 1.3 ms on ext4 without a journal, a fifth of a job.
    """
    folder = f"{place}/{FOLDER}"
    with suppress(OSError):
        if leave_in is not None and _untouched(folder):
            with suppress(OSError):  # another lane has left its own
                os.rename(folder, f"{leave_in}/{FOLDER}")  # noqa: PTH104
                return
        Path(folder, _NAME).unlink(missing_ok=True)
        Path(folder).rmdir()


def _untouched(folder: str) -> bool:
    script = os.lstat(f"{folder}/{_NAME}")
    own = script.st_mode == stat.S_IFREG | 0o700 and script.st_nlink == 1
    return own and os.listdir(folder) == [_NAME]  # noqa: PTH208


def _script(node: str, ours: tuple[str, ...], env: Mapping[str, str]) -> str:
    exports = (f"export {name}={quote(value)}\n" for name, value in env.items() if name.startswith(_CARRIED))
    full, safe = flags.join(ours), flags.join(flags.everywhere(ours))
    rest = _REST.format(node=quote(node), folder=FOLDER, full=quote(full), safe=quote(safe))
    return _HEAD + "".join(exports) + rest
