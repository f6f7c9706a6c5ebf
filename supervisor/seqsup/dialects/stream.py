"""Follow the JSON stream of an agent CLI: bytes in, its conversation so far out. Pure; the caller brings the time."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from seqsup.dialects.claude import Claude
from seqsup.dialects.codex import Codex
from seqsup.dialects.copilot import Copilot
from seqsup.dialects.facts import Reader
from seqsup.dialects.fold import NO_TOKENS, Fold
from seqsup.dialects.gemini import Gemini
from seqsup.dialects.opencode import OpenCode
from seqsup.dialects.qwen import Qwen
from seqsup.model.conversation import Conversation, Tokens

LONGEST = 8 * 1024 * 1024  # bytes of a line that is read
_READERS: dict[str, type[Reader]] = {
    "claude": Claude, "codex": Codex, "gemini": Gemini, "qwen": Qwen, "opencode": OpenCode, "copilot": Copilot,
}  # fmt: skip


def reader(dialect: str) -> Reader:
    """Return a new reader of one of `model.preset.DIALECTS`."""
    return _READERS[dialect]()


def decoded(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line, or None if it is none."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        value = _repaired(line)
    return value if isinstance(value, dict) else None


def _repaired(line: bytes) -> Any:
    """Decode a line with half of a character, which Node writes where it cut a text: "\\ud83d"."""
    try:
        value = json.loads(line.decode(errors="replace"))
        return msgspec.json.decode(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


class LineSplitter:
    """Assembles lines from pieces. A line of more than LONGEST bytes is skipped to its end without keeping it."""

    def __init__(self) -> None:
        self.skipped = 0  # lines
        self._begun = bytearray()
        self._skips = False

    def lines(self, piece: bytes) -> Iterator[bytes | None]:
        """Yield the lines that this piece completes, without their newline; None for one that was skipped."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._keep(piece, start, end)
            yield None if self._skips else bytes(self._begun)
            self._begun, self._skips = bytearray(), False
            start = end + 1
        self._keep(piece, start, len(piece))

    def rest(self) -> bytes:
        """Return the last line, which has no end so far; nothing if it is skipped."""
        return bytes(self._begun)

    def _keep(self, piece: bytes, start: int, end: int) -> None:
        if not self._skips and len(self._begun) + end - start > LONGEST:
            self._begun, self._skips = bytearray(), True
            self.skipped += 1
        if not self._skips:
            self._begun += memoryview(piece)[start:end]


class EventStream:
    """The stream of one attempt.

    `usd_before` and `tokens_before` are the session's costs (`Conversation.usd_of_session` of its last attempt) and
    tokens (the sum over its attempts) before this attempt. A first attempt has none.
    """

    def __init__(self, dialect: str, *, usd_before: float = 0.0, tokens_before: Tokens = NO_TOKENS) -> None:
        self.lines = 0  # complete lines: signs of life
        self._reader = reader(dialect)
        self._fold = Fold(prices=self._reader.prices, usd_before=usd_before, tokens_before=tokens_before)
        self._splitter = LineSplitter()
        self._malformed = 0
        self._ended = False
        self._conversation: Conversation | None = None  # until the next line

    def feed(self, piece: bytes, now: float) -> None:
        """Take the next bytes; `now` is in monotonic seconds. Nothing in them raises.

        The caller bounds the work by the size of the piece: 64 KiB take 1 ms, or 40 ms if its lines are empty. A piece
        that completes a line of LONGEST bytes takes some 15 ms more.
        """
        for line in self._splitter.lines(piece):
            self.lines += 1
            self._conversation = None
            if line is not None and line.strip():
                self._take(line, now)

    def end(self) -> Conversation:
        """Say that the process has ended. A line without an end is dropped and counted as malformed."""
        if not self._ended:
            self._malformed += bool(self._splitter.rest())
            self._ended, self._conversation = True, None
        return self.conversation

    @property
    def conversation(self) -> Conversation:
        """Return all that was reported so far."""
        if self._conversation is None:
            self._conversation = self._fold.conversation(
                ended=self._ended, malformed=self._malformed, skipped=self._splitter.skipped
            )
        return self._conversation

    @property
    def text(self) -> str:
        """Return the text of the last result, or else the last text of the model: at most fold.TEXT characters."""
        return self._fold.text

    def _take(self, line: bytes, now: float) -> None:
        fields = decoded(line)
        if fields is None:
            self._malformed += 1
            return
        for fact in self._reader.read(fields):
            self._fold.add(fact, now)
