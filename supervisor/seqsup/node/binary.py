"""Node: asks a binary once what it takes, and writes NODE_OPTIONS."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from seqsup.errors import SeqsupError
from seqsup.host.files import replace
from seqsup.model.plan import NodeBinary, NodeStart
from seqsup.node import flags
from seqsup.state.run_folder import at_home, state_dir
from seqsup.units import MIB

# Its own word for what it takes: right in 330 of 330 comparisons, 66 flags on five versions.
_QUESTION = "JSON.stringify([process.version,process.execPath,[...process.allowedNodeEnvironmentFlags]])"
_PRELOAD = Path(__file__).with_name("preload.cjs")
_DEADLINE = 20  # seconds; it takes 0.1
# Of 400 MB of dropped external strings glibc's moving threshold kept up to 400; with a fixed one 40 to 49 MB stay.
_TRIM = {"MALLOC_TRIM_THRESHOLD_": "131072"}


class NoAnswer(SeqsupError):
    """The binary does not answer as Node does."""


def probe(node: str, becoming: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> NodeBinary:
    """Version, path and allowed flags of a Node; asked once for each binary, then read from the user's cache.

    `becoming` are words before the command: it may be a program that root should not run.
    """
    real = os.path.realpath(node)
    cached = _cache_file(real)
    try:
        return msgspec.json.decode(cached.read_bytes(), type=NodeBinary)
    except (OSError, msgspec.DecodeError, UnicodeError):
        pass  # never asked, or a torn file
    found = _ask(node, becoming, environ)
    # What a version manager's shim starts depends on folder and time, not on the shim's own file.
    if os.path.realpath(found.executable) == real:
        _keep(cached, msgspec.json.encode(found))
    return found


def preload(copied_to: Path | None = None) -> Path:
    """The file that a Node process reads first."""
    return _PRELOAD if copied_to is None else copied_to / _PRELOAD.name


def copy_preload(to: Path) -> None:
    """Copy the preload for a user who may not enter the folder of seqsup."""
    for file in (_PRELOAD, _PRELOAD.with_name("watch.cjs")):
        shutil.copyfile(file, to / file.name)
        (to / file.name).chmod(0o644)


def own_options(start: NodeStart, heap: int | None, user: str, first: Path | None = None) -> tuple[str, ...]:
    """Return our part of NODE_OPTIONS for one attempt; `user` is the value that is set already."""
    options = ("--require", str(first), *start.options) if first is not None else start.options
    if heap is None or (flags.sets_heap(flags.split(user)) and not start.heap_set):
        return options
    return (*options, f"{flags.HEAP}={max(heap // MIB, 1)}")


def node_options(ours: Iterable[str], user: str) -> str:
    """NODE_OPTIONS for one attempt: ours first, since the last one wins and that is the user's; but one heap limit."""
    words, ours = flags.split(user), tuple(ours)
    if flags.sets_heap(ours) and flags.sets_heap(words):
        user = flags.join(word for word in words if flags.name(word) != flags.HEAP)
    return " ".join(part for part in (flags.join(ours), user.strip()) if part)


def environment(ours: Iterable[str], env: Mapping[str, str], *, offer_gc: bool) -> dict[str, str]:
    """Return Node's variables: its options, a malloc that frees memory, and whether the preload defines gc()."""
    options = {"NODE_OPTIONS": node_options(ours, env.get("NODE_OPTIONS", ""))}
    tuned = "GLIBC_TUNABLES" in env or any(name.startswith("MALLOC_") for name in env)
    return options | ({} if tuned else _TRIM) | ({"SEQSUP_EXPOSE_GC": "1"} if offer_gc else {})


def _ask(node: str, becoming: Sequence[str], environ: Mapping[str, str]) -> NodeBinary:
    import subprocess  # dear to import, and the answer is nearly always in the cache

    env = {name: value for name, value in environ.items() if name != "NODE_OPTIONS"}
    try:
        answer = subprocess.run(
            [*becoming, node, "-p", _QUESTION],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE,
            check=True,
        )
        version, executable, allowed = msgspec.json.decode(answer.stdout, type=tuple[str, str, tuple[str, ...]])
    except subprocess.CalledProcessError as error:
        raise NoAnswer(f"{node} does not answer as Node: {_first_line(error.stderr)}") from None
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        raise NoAnswer(f"{node} does not answer as Node: {error}") from None
    return NodeBinary(executable=executable, version=version, allowed=allowed)


def _first_line(output: bytes) -> str:
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip() for line in lines if line.strip()), "it prints nothing")


def _cache_file(real: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(home) if Path(home).is_absolute() else at_home("~/.cache")
    except SeqsupError:
        folder = state_dir()
    identity = real
    with suppress(OSError):
        status = Path(real).stat()
        identity = f"{real}\0{status.st_mtime_ns}\0{status.st_size}"
    key = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:24]
    return folder / "seqsup" / f"node-{key}.json"


def _keep(file: Path, content: bytes) -> None:
    """Whole or not at all; a cache that cannot be written costs only time."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace(file, content, mode=0o600)
