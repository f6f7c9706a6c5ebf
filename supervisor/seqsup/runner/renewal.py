"""A supervisor that has grown takes its own place anew: the same process, the same run, the same locks, a fresh image.

It happens between chains only, when no agent lives and the companions are ended: little has to be carried over.
"""

import os
import resource
import signal
import sys
from typing import NoReturn

from msgspec import Struct

from seqsup.errors import SeqsupError
from seqsup.state.output import unnamed

VARIABLE = "SEQSUP_RENEWED"  # the descriptor of that file
_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)


class GoingOn(Struct, frozen=True, kw_only=True):
    """What a run knows beyond its journal."""

    lock: int  # descriptor of the run's
    began: float  # monotonic
    waited: float
    chain: int
    baseline: int  # bytes available before its first agent
    was: int  # bytes that the old image held
    let_go: tuple[int, ...]  # pids of what an earlier part of the run let go
    foreign: dict[int, int]  # pid -> start, of what this part did
    abandoned: dict[int, int]  # of what survived SIGKILL


def hold_signals() -> None:
    """From here on they wait, also over the exec, which would leave them to their defaults."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def lacking() -> str | None:
    """The file, if one is, that is gone since this image began: seqsup may have been removed, or its Python."""
    needed = [sys.executable, *(word for word in sys.orig_argv[1:2] if not word.startswith("-"))]
    return next((each for each in needed if not os.path.exists(each)), None)  # noqa: PTH110 (Path's may raise)


def renew(packet: bytes, keep: tuple[int, ...], soft_nofile: int) -> NoReturn:
    """Begin anew with the same command line, these descriptors and this packet."""
    file = unnamed()
    file.write(packet)
    file.flush()
    for fd in (file.fileno(), *keep):
        os.set_inheritable(fd, True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft_nofile, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[VARIABLE] = str(file.fileno())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def renewed() -> bytes | None:
    """The packet, if this is such a beginning."""
    if (told := os.environ.pop(VARIABLE, None)) is None:
        return None
    try:
        with os.fdopen(int(told), "rb") as file:
            file.seek(0)
            return file.read()
    except (OSError, ValueError) as error:
        raise SeqsupError(f"{VARIABLE}={told} is in the environment, and leads to nothing: {error}; unset it") from None
