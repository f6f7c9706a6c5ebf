"""opencode: `opencode run --format json`, after version 1.18.33. It tells of a tool only when that has ended."""

from collections.abc import Iterator

from seqsup.dialects.facts import (
    Answered,
    Cost,
    Fact,
    Finished,
    Line,
    SessionKnown,
    Settled,
    Spoken,
    ToolEnded,
    ToolStarted,
)
from seqsup.dialects.values import about, count, number, table, text
from seqsup.model.conversation import ResultKind, Tokens


class OpenCode:
    prices = False  # only if it knows the model's price

    def read(self, line: Line) -> Iterator[Fact]:
        part = table(line, "part")
        if session := text(line.get("sessionID")):
            yield SessionKnown(session)
        match line.get("type"):
            case "text":
                yield Spoken(text(part.get("text")))
            case "tool_use":
                id, state = text(part.get("callID")), table(part, "state")
                yield ToolStarted(id, text(part.get("tool")), about(state.get("input")))
                yield ToolEnded(id, (text(state.get("error")) or "failed") if state.get("status") == "error" else "")
            case "step_finish":
                yield from _step(part)
            case "error":
                error = table(line, "error")
                message = text(table(error, "data").get("message"))
                yield Finished(ResultKind.FAILED, message or text(error.get("name")))


def _step(part: Line) -> Iterator[Fact]:
    usage = table(part, "tokens")
    yield Answered()
    yield Settled(
        Tokens(
            input=count(usage.get("input")),
            output=count(usage.get("output")) + count(usage.get("reasoning")),
            cache_read=count(table(usage, "cache").get("read")),
            cache_write=count(table(usage, "cache").get("write")),
        )
    )
    cost = number(part.get("cost"))
    if cost:
        yield Cost(cost)
    if part.get("reason") == "stop":
        yield Finished(ResultKind.COMPLETED)
