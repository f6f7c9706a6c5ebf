"""The text of a file that a person wrote: a profile or a preset."""

import stat
from collections.abc import Callable
from pathlib import Path

from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.units import MIB


def read_text(
    file: str, largest: int, hint: Callable[[Exception], str] = lambda _: "", *, may_be_pipe: bool = False
) -> str:  # fmt: skip
    """Return the text of a file of at most `largest` bytes. Raise ProfileError if it cannot be read.

    `hint` returns what to do about the error. Without `may_be_pipe` nothing is waited for.
    """
    try:
        if not may_be_pipe and not stat.S_ISREG(Path(file).stat().st_mode):
            raise ValueError("not a regular file")
        with Path(file).open("rb") as opened:
            raw = opened.read(largest + 1)
        if len(raw) > largest:
            raise ValueError(f"larger than {largest // MIB} MiB")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ProfileError([Complaint(file=file, line=line, message="not UTF-8: save it as UTF-8")]) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ProfileError([Complaint(file=file, message=f"cannot be read: {why}", hint=hint(error))]) from None
