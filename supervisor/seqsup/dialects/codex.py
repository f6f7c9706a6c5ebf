"""Codex CLI: `codex exec --json`, after version 0.171.0. It tells no model and no cost."""

from collections.abc import Iterator

from seqsup.dialects.facts import (
    Answered,
    Denied,
    Fact,
    Finished,
    Line,
    SessionKnown,
    SessionSpent,
    Spoken,
    ToolEnded,
    ToolStarted,
)
from seqsup.dialects.values import about, number, table, tables, text, tokens
from seqsup.model.conversation import ResultKind

_TOOLS = {
    "command_execution": "shell",
    "mcp_tool_call": "",
    "file_change": "",
    "web_search": "",
    "collab_tool_call": "",
}


class Codex:
    prices = False

    def __init__(self) -> None:
        self._asked = True  # the model, and it has not answered
        self._items = set[str]()  # tools that were started

    def read(self, line: Line) -> Iterator[Fact]:
        match line.get("type"):
            case "thread.started":
                yield SessionKnown(text(line.get("thread_id")))
            case "item.started" | "item.completed" as event:
                yield from self._item(table(line, "item"), event == "item.completed")
            case "turn.completed":
                # of the whole thread, also after a resume
                usage = table(line, "usage")
                yield SessionSpent(tokens(usage, "cached_input_tokens", "cache_write_input_tokens"))
                yield Finished(ResultKind.COMPLETED)
            case "turn.failed":  # a line `error` is no failure: a retry follows
                yield Finished(ResultKind.FAILED, text(table(line, "error").get("message")))

    def _item(self, item: Line, ended: bool) -> Iterator[Fact]:
        kind, id = text(item.get("type")), text(item.get("id"))
        if kind == "agent_message" and ended:
            yield from self._answer()
            yield Spoken(text(item.get("text")))
        elif kind in _TOOLS:
            if id not in self._items:
                yield from self._answer()
                self._items.add(id)
                yield ToolStarted(id, text(item.get("tool")) or _TOOLS[kind] or kind, _about(item))
            if ended:
                self._items.discard(id)
                self._asked = True
                if item.get("status") == "declined":
                    yield Denied(id)
                yield ToolEnded(id, _error(item))

    def _answer(self) -> Iterator[Fact]:
        """Count a request: the first item since a tool gave its result to the model."""
        if self._asked:
            self._asked = False
            yield Answered()


def _about(item: Line) -> str:
    paths = " ".join(text(change.get("path")) for change in tables(item.get("changes")))
    named = {"command": item.get("command"), "query": item.get("query"), "prompt": item.get("prompt"), "path": paths}
    return about(item.get("arguments")) or about(named)


def _error(item: Line) -> str:
    status = item.get("status")
    if status not in ("failed", "declined"):
        return ""
    code = number(item.get("exit_code"))
    output = text(item.get("aggregated_output")) or text(table(item, "error").get("message"))
    return f"exit code {code:.0f}\n{output}" if code else output or str(status)
