"""An agent's output as a person reads it, from the file that keeps the JSON stream of its CLI."""

from collections import deque
from pathlib import Path

from seqsup.dialects.transcript import Transcript
from seqsup.state.output import OutputReader

_PIECE = 64 * 1024


class ReadableOutput:
    """Reads on in the stream of a CLI, as OutputReader does in any output, and returns text."""

    def __init__(self, path: Path, dialect: str, at: int = 0, last: int | None = None) -> None:
        """`at` is the byte to begin at. With `last`, only so many lines of the text that is there now are kept."""
        self.moved = True  # it is not known to be at the end
        self._file, self._transcript = OutputReader(path, at), Transcript(dialect)
        self._first = self._end(last) if last is not None else b""

    def read(self, most: int) -> bytes:
        """Read a piece of at most so many bytes, and return the text of the lines that it completes: there may be none.

        `moved` says whether there was a piece.
        """
        if text := self._first:
            self._first = b""
            return text
        piece = self._file.read(most)
        self.moved = len(piece) > 0
        return self._transcript.feed(piece)

    def rest(self) -> bytes:
        """Return what is left once no more can be written."""
        return self._transcript.end()

    def close(self) -> None:
        self._file.close()

    def _end(self, lines: int) -> bytes:
        kept = deque[bytes](maxlen=lines + 1)  # the last one may have no newline yet
        begun = b""
        while piece := self._file.read(_PIECE):
            *whole, begun = (begun + self._transcript.feed(piece)).splitlines(keepends=True) or [b""]
            if begun.endswith(b"\n"):
                whole, begun = [*whole, begun], b""
            kept.extend(whole)
        told = [*kept, begun] if begun else list(kept)
        return b"".join(told[-lines:] if lines else [])


def moved(source: OutputReader | ReadableOutput, text: bytes) -> bool:
    """Return whether a read that gave this text was not at the end."""
    return source.moved if isinstance(source, ReadableOutput) else len(text) > 0
