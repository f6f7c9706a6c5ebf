"""Lines in the shape of Anthropic's messages, as claude and qwen write them."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from seqsup.dialects.facts import Answered, Denied, Fact, Line, Spent, Spoken, ToolEnded, ToolStarted
from seqsup.dialects.values import about, table, tables, text
from seqsup.model.conversation import Tokens


class Messages:
    """Reads `assistant` and `user` lines. A message may come in several lines, which have the same id."""

    def __init__(self) -> None:
        self._counted: deque[str] = deque(maxlen=64)  # messages of subagents may be interleaved

    def assistant(self, line: Line, tokens: Tokens) -> Iterator[Fact]:
        message = table(line, "message")
        id = text(message.get("id"))
        if tokens.total:  # none: the text of an error, or a part of a message whose last line has them
            if id not in self._counted:
                self._counted.append(id)
                yield Answered()
            yield Spent(id, tokens)
        parent = text(line.get("parent_tool_use_id"))
        by = parent and (text(line.get("task_description")) or parent)
        for block in tables(message.get("content")):
            match block.get("type"):
                case "text":
                    yield Spoken(text(block.get("text")), by=by)
                case "tool_use":
                    yield ToolStarted(text(block.get("id")), text(block.get("name")), about(block.get("input")))

    def user(self, line: Line) -> Iterator[Fact]:
        """Return the ends of tools. Other text of `user` is a prompt, such as a subagent's."""
        for block in tables(table(line, "message").get("content")):
            if block.get("type") == "tool_result":
                failed = block.get("is_error") is True
                yield ToolEnded(text(block.get("tool_use_id")), words(block.get("content")) if failed else "")


def denials(line: Line) -> Iterator[Denied]:
    for each in tables(line.get("permission_denials")):
        yield Denied(text(each.get("tool_use_id")), text(each.get("tool_name")))


def words(content: Any) -> str:
    """Return the text of a content: a text, or blocks of it."""
    return text(content) or "\n".join(filter(None, (text(block.get("text")) for block in tables(content))))
