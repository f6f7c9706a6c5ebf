"""Gemini CLI: `gemini -o stream-json`, after version 0.61.0. It tells no cost."""

from collections.abc import Iterator

from seqsup.dialects.facts import (
    Answered,
    Fact,
    Finished,
    Line,
    ModelKnown,
    SessionKnown,
    Settled,
    Spoken,
    ToolEnded,
    ToolStarted,
)
from seqsup.dialects.values import about, table, text, tokens
from seqsup.model.conversation import ResultKind


class Gemini:
    prices = False

    def __init__(self) -> None:
        self._asked = True  # the model, and it has not answered
        self._said = False  # the last line was text of the model

    def read(self, line: Line) -> Iterator[Fact]:
        said, self._said = self._said, False
        match line.get("type"):
            case "init":
                yield SessionKnown(text(line.get("session_id")))
                yield ModelKnown(text(line.get("model")))
            case "message" if line.get("role") == "assistant":
                yield from self._answer()
                self._said = True
                yield Spoken(text(line.get("content")), more=said and line.get("delta") is True)
            case "tool_use":
                yield from self._answer()
                yield ToolStarted(text(line.get("tool_id")), text(line.get("tool_name")), about(line.get("parameters")))
            case "tool_result":
                self._asked = True
                failed = line.get("status") == "error"
                error = text(table(line, "error").get("message")) or text(line.get("output")) or "failed"
                yield ToolEnded(text(line.get("tool_id")), error if failed else "")
            case "result":
                yield Settled(tokens(table(line, "stats"), "cached"))
                failed = line.get("status") != "success"
                error = text(table(line, "error").get("message"))
                yield Finished(ResultKind.FAILED if failed else ResultKind.COMPLETED, error)

    def _answer(self) -> Iterator[Fact]:
        """Count a request: the first line since a tool gave its result to the model."""
        if self._asked:
            self._asked = False
            yield Answered()
