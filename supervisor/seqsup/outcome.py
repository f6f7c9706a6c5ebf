"""How an attempt ended that we did not end, pure. (Our own kill record comes first: gemini exits 0 after TERM.)"""

import re
import signal
from pathlib import PurePath

from .model import Exit, Reason, Success

# Not at a line's start only: Node 24 may cut its last GC line short, without a newline, before FATAL.
_V8_OOM = re.compile(rb"FATAL ERROR: .*JavaScript heap out of memory")
_OUR_OPTIONS = re.compile(rb"is not allowed in NODE_OPTIONS|: bad option: |invalid value for NODE_OPTIONS")
_OUR_PRELOAD = re.compile(rb"^- internal/preload", re.MULTILINE)
_FATAL = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV}


def classify(*, ending: Exit, stderr: bytes, kernel_oom: str, success: Success, missing: str) -> tuple[Reason, str]:
    """Name the reason and say why, for an attempt that we did not end.

    `kernel_oom` is what shows that the kernel killed for want of memory; `missing` comes from found_nothing.
    """
    if ending.code is not None and ending.code in success.codes:
        return (Reason.NO_RESULT, missing) if missing else (Reason.COMPLETED, "")
    how = describe(ending)
    if match := _V8_OOM.search(stderr):
        return Reason.HEAP_OOM, f"V8 reached its heap limit ({how}): {match.group().decode(errors='replace')}"
    number = ending.signal if ending.signal is not None else _through_shell(ending)
    if number is not None:
        if number == signal.SIGKILL and kernel_oom:
            return Reason.KERNEL_OOM, f"the kernel killed it for want of memory ({kernel_oom})"
        return Reason.CRASHED, how
    if (ending.code == 9 and _OUR_OPTIONS.search(stderr)) or (ending.code == 1 and _OUR_PRELOAD.search(stderr)):
        return Reason.MISCONFIGURED, f"Node refused its options ({how})"
    return Reason.FAILED, how


def describe(ending: Exit) -> str:
    """Say how a process ended, as a person would."""
    if ending.signal is not None:
        return f"killed by {_name(ending.signal)}"
    if (number := _through_shell(ending)) is not None:
        return f"exit {ending.code}: {_name(number)}, told by a shell or launcher"
    return f"exit {ending.code}"


def found_nothing(success: Success, *, file_exists: bool, stdout: str) -> str:
    """Say which success check failed; empty when none did."""
    if success.file is not None and not file_exists:
        return f"it exited well but left no {PurePath(success.file)}"
    if success.output is not None and not re.search(success.output, stdout, re.MULTILINE):
        return f"it exited well but printed nothing like {success.output!r}"
    return ""


def _through_shell(ending: Exit) -> int | None:
    """A shell says 128 + n of what died of signal n; SIGTERM and the like may be a program's own exit code."""
    number = (ending.code or 0) - 128
    return number if number in _FATAL else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
