"""Abilities of a terminal, according to its user's environment."""

import codecs
import os
import re
import sys
from io import IncrementalNewlineDecoder, TextIOWrapper
from pathlib import Path
from typing import TextIO

from seqsup.text import Width, mark, shown, unpainted, unstyled

_PLAIN = "seqsup_plain"


def colourful(stream: TextIO) -> bool:
    """Whether to colour what goes there. It says nothing about redrawing: FORCE_COLOR must not animate a CI log."""
    if os.environ.get("NO_COLOR"):
        return False
    return forced() or (stream.isatty() and os.environ.get("TERM") != "dumb")


def forced() -> bool:
    """Whether colour is wanted even where there is no terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("FORCE_COLOR", "0") not in ("", "0")


def redrawable() -> bool:
    """Whether there is a terminal with a person before it: not a pipe, not CI, not one that only prints."""
    return (
        sys.stdout.isatty()
        and sys.stderr.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
        and not os.environ.get("CI")
    )  # fmt: skip


def symbols(stream: TextIO) -> str:
    """The encoding whose symbols the terminal can show. Python speaks UTF-8 also where the locale is C."""
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    return "ascii" if locale in ("C", "POSIX") else stream.encoding


class Terminal(TextIOWrapper):
    """A standard stream to a terminal. Whatever text is written to it, none of it moves the cursor or hides, and its
    styles are left out where no colour is wanted."""

    def write(self, text: str) -> int:
        super().write(shown(text, styles=True) if colourful(self) else shown(unpainted(text)))
        return len(text)


class Shown:
    """Turns pieces of an agent's output into text for a terminal. A line that is written over becomes several."""

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = IncrementalNewlineDecoder(utf8, translate=True)

    def __call__(self, piece: bytes) -> bytes:
        return shown(unstyled(self._decoder.decode(piece))).encode()


def guarded(stream: TextIO) -> TextIO:
    """Return the stream, or if it is a terminal, one in its place that takes text only as it may be shown."""
    if not isinstance(stream, TextIOWrapper) or isinstance(stream, Terminal) or not stream.isatty():
        return stream
    encoding, errors = stream.encoding, stream.errors
    return Terminal(stream.detach(), encoding=encoding, errors=errors, line_buffering=True)


def speak_plainly(stream: TextIOWrapper) -> None:
    """Have symbols that a stream cannot show come out as their words; all other text as it is, or escaped."""
    codecs.register_error(_PLAIN, _instead)
    if symbols(stream) == "ascii":
        codecs.register(_find)  # by a name of its own: click takes a stream that says "ascii" for a mistake
        stream.reconfigure(encoding=_PLAIN, errors="backslashreplace")
    else:
        stream.reconfigure(errors=_PLAIN)


def _instead(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = _worded(error.object[error.start : error.end])
    return text.encode(error.encoding, "backslashreplace"), error.end


def _worded(text: str) -> str:
    from seqsup.text import ASCII  # most terminals show everything

    return "".join(ASCII.get(character, character) for character in text)


def _plainly(text: str, errors: str = "strict") -> tuple[bytes, int]:
    """UTF-8 for names and paths, ASCII for what is ours."""
    return _worded(text).encode("utf-8", errors), len(text)


class _Plain(codecs.IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:
        return _plainly(text, self.errors)[0]


def _find(name: str) -> codecs.CodecInfo | None:
    if name != _PLAIN:
        return None
    utf8 = codecs.lookup("utf-8")
    return codecs.CodecInfo(_plainly, utf8.decode, incrementalencoder=_Plain, name=_PLAIN)


def width(stream: TextIO | None = None) -> Width | None:
    """COLUMNS, or those of a terminal (stdout's); None where there is neither, and lines may be as long as they are."""
    stream = sys.stdout if stream is None else stream
    if re.fullmatch("[0-9]{1,9}", told := os.environ.get("COLUMNS", "")):
        found = int(told)
    else:
        found = os.get_terminal_size(stream.fileno()).columns if stream is not None and stream.isatty() else 0
    if not found:  # also of a terminal that never told its size
        return None
    columns = Width(found)
    columns.more = mark("…", symbols(stream))
    return columns


def here() -> str:
    """The folder we are in, or nothing when it was removed."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def discard(fd: int) -> None:
    """Let the interpreter's last flush of a broken stream go nowhere instead of complaining."""
    os.close(fd)
    os.open(os.devnull, os.O_WRONLY)  # gets this number, the lowest that is free: there may be no other
