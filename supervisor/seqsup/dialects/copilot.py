"""GitHub Copilot CLI: `copilot --output-format json`, after version 1.0.102. It tells no tokens and no cost in USD."""

from collections.abc import Iterator

from seqsup.dialects.facts import (
    Answered,
    Denied,
    Fact,
    Finished,
    Line,
    ModelKnown,
    SessionKnown,
    Spoken,
    ToolEnded,
    ToolStarted,
)
from seqsup.dialects.values import about, table, text
from seqsup.model.conversation import ResultKind


class Copilot:
    prices = False

    def __init__(self) -> None:
        self._error = ""

    def read(self, line: Line) -> Iterator[Fact]:
        data = table(line, "data")
        match line.get("type"):
            case "session.tools_updated":
                yield ModelKnown(text(data.get("model")))
            case "model.call_finished" if data.get("outcome") == "success":
                yield Answered()
            case "assistant.message":  # after its deltas, which are not read
                if said := text(data.get("content")):
                    yield Spoken(said)
            case "tool.execution_start":
                name = text(data.get("toolName"))
                yield ToolStarted(text(data.get("toolCallId")), name, about(data.get("arguments")))
            case "tool.execution_complete":
                yield from _tool_ended(data)
            case "session.error":
                self._error = text(data.get("message"))
            case "result":  # its last line, the only one with the session
                yield SessionKnown(text(line.get("sessionId")))
                failed = line.get("exitCode") != 0
                yield Finished(ResultKind.FAILED if failed else ResultKind.COMPLETED, self._error if failed else "")


def _tool_ended(data: Line) -> Iterator[Fact]:
    id, error = text(data.get("toolCallId")), table(data, "error")
    failed = data.get("success") is False
    if error.get("code") == "denied":
        yield Denied(id)
    yield ToolEnded(id, (text(error.get("message")) or "failed") if failed else "")
