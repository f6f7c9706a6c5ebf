"""A CLI's JSON stream as a person reads it: answers, tools with the first line of their input, and errors."""

from collections.abc import Iterable

from seqsup.dialects.facts import Fact, Finished, Spoken, ToolEnded, ToolStarted
from seqsup.dialects.stream import LONGEST, LineSplitter, decoded, reader
from seqsup.model.conversation import ResultKind

_ERROR = 5  # lines of a tool's error
_LEFT_OUT = f"… a line of more than {LONGEST >> 20} MiB is left out\n".encode()


class Transcript:
    """Turns the bytes of a stream into text, piece by piece. A line that is not a JSON object stays as it is."""

    def __init__(self, dialect: str) -> None:
        self._reader = reader(dialect)
        self._splitter = LineSplitter()
        self._open = False  # the last text has no newline so far, since more of it may follow
        self._spoken = ""  # the last text

    def feed(self, piece: bytes) -> bytes:
        """Return the text of the lines that this piece completes."""
        return b"".join(_LEFT_OUT if line is None else self._line(line) for line in self._splitter.lines(piece))

    def end(self) -> bytes:
        """Return what is left when no more bytes follow. A JSON object without its end is left out."""
        rest = self._splitter.rest()
        return self._closed() + (b"" if rest.lstrip().startswith(b"{") else rest)

    def _line(self, line: bytes) -> bytes:
        fields = decoded(line)
        if fields is None:
            return self._closed() + line + b"\n"
        return "".join(self._texts(self._reader.read(fields))).encode(errors="replace")

    def _texts(self, facts: Iterable[Fact]) -> Iterable[str]:
        for fact in facts:
            text = self._text(fact)
            if text:
                continues = isinstance(fact, Spoken) and fact.more
                yield text if continues else f"{self._closed().decode()}{text}"
                self._open = not text.endswith("\n")

    def _text(self, fact: Fact) -> str:
        match fact:
            case Spoken(text, _, by):
                self._spoken = text
                return f"[{by}] {text}" if by and text else text
            case ToolStarted(_, name, about):
                return f"▶ {name}: {about}\n" if about else f"▶ {name}\n"
            case ToolEnded(_, error) if error:
                return "  ✖ " + "\n    ".join(error.strip().splitlines()[:_ERROR]) + "\n"
            case Finished(kind, text) if kind is not ResultKind.COMPLETED and (not text or text != self._spoken):
                return f"✖ {text or kind}\n"
        return ""

    def _closed(self) -> bytes:
        closed, self._open = b"\n" if self._open else b"", False
        return closed
