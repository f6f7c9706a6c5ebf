"""Qwen Code: `qwen -o stream-json`, after version 0.24.4. Its lines have the shapes of claude's. It tells no cost."""

from collections.abc import Iterator

from seqsup.dialects.facts import Fact, Finished, Line, ModelKnown, SessionKnown, SessionSpent
from seqsup.dialects.messages import Messages, denials
from seqsup.dialects.values import table, text, tokens
from seqsup.model.conversation import ResultKind


class Qwen:
    prices = False

    def __init__(self) -> None:
        self._messages = Messages()

    def read(self, line: Line) -> Iterator[Fact]:
        match line.get("type"):
            case "system" if line.get("subtype") == "init":
                yield SessionKnown(text(line.get("session_id")))
                yield ModelKnown(text(line.get("model")))
            case "assistant":  # the last line of an answer has its usage, the others have zeros
                usage = table(line, "message", "usage")
                yield from self._messages.assistant(line, tokens(usage, "cache_read_input_tokens"))
            case "user":
                yield from self._messages.user(line)
            case "result":
                # of the whole session, also after a resume
                yield SessionSpent(tokens(table(line, "usage"), "cache_read_input_tokens"))
                yield from denials(line)
                failed = line.get("is_error") is True
                said = text(table(line, "error").get("message")) or text(line.get("result"))
                yield Finished(ResultKind.FAILED if failed else ResultKind.COMPLETED, said)
