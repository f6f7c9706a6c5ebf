"""Claude Code: `claude -p --output-format stream-json --verbose`, after version 2.1.332."""

from collections.abc import Iterator
from typing import Any

from seqsup.dialects.facts import (
    Cost,
    Denied,
    Fact,
    Finished,
    LimitSeen,
    Line,
    ModelKnown,
    SessionCost,
    SessionKnown,
    Settled,
)
from seqsup.dialects.messages import Messages, denials, words
from seqsup.dialects.values import count, number, over, table, tables, text, tokens
from seqsup.model.conversation import ProviderLimit, ResultKind, Tokens

_KINDS = {"max_turns": ResultKind.BUDGET, "budget_exhausted": ResultKind.BUDGET}


class Claude:
    prices = True

    def __init__(self) -> None:
        self._messages = Messages()
        self._error = ""  # of the API, in the last message
        self._reported, self._usd = Tokens(), 0.0  # by the last result

    def read(self, line: Line) -> Iterator[Fact]:
        match line.get("type"):
            case "system":
                yield from _system(line)
            case "assistant":
                self._error = text(line.get("error"))
                if not self._error:  # its text comes again with the result
                    # each line of a message repeats its usage, in which only the input is right
                    usage = table(line, "message", "usage")
                    spent = tokens(usage, "cache_read_input_tokens", "cache_creation_input_tokens", apart=True)
                    yield from self._messages.assistant(line, spent)
            case "user":
                yield from self._messages.user(line)
            case "rate_limit_event":
                yield LimitSeen(_limit(table(line, "rate_limit_info")))
            case "result":
                yield from self._spent(line)
                yield from denials(line)
                kind = self._kind(line)
                yield Finished(kind, "" if kind is ResultKind.INTERRUPTED else _text(line))  # it has a diagnostic only

    def _kind(self, line: Line) -> ResultKind:
        """Judge by is_error and terminal_reason: `subtype` is "success" at a usage limit, too."""
        reason = text(line.get("terminal_reason"))
        if line.get("is_error") is not True:
            return ResultKind.COMPLETED
        if line.get("api_error") == "usage_limit_reached":
            return ResultKind.USAGE_LIMIT
        if self._error == "billing_error":
            return ResultKind.NO_CREDIT
        return ResultKind.INTERRUPTED if reason.startswith("aborted") else _KINDS.get(reason, ResultKind.FAILED)

    def _spent(self, line: Line) -> Iterator[Fact]:
        """`usage` lacks subagents. `modelUsage` and `total_cost_usd` include the session's earlier processes."""
        usd = number(line.get("total_cost_usd"))
        latest = line.get("model_usage_since_last_result")
        if isinstance(latest, dict):
            models = _models(latest)
            yield Settled(_sum(models))
            yield Cost(sum(number(model.get("costUSD")) or 0.0 for model in models))
            if usd is not None:
                yield SessionCost(usd)
        else:  # an older version (2.1.197), whose sums are of this process
            total = _sum(_models(line.get("modelUsage")))
            yield Settled(over(total, self._reported))
            if usd is not None:
                yield Cost(max(0.0, usd - self._usd))
                self._usd = usd
            self._reported = total


def _system(line: Line) -> Iterator[Fact]:
    match line.get("subtype"):
        case "init":
            yield SessionKnown(text(line.get("session_id")))
            yield ModelKnown(text(line.get("model")))
        case "permission_denied":
            yield Denied(text(line.get("tool_use_id")), text(line.get("tool_name")))


def _text(line: Line) -> str:
    errors = line.get("errors")
    listed = "\n".join(each for each in errors if isinstance(each, str)) if isinstance(errors, list) else ""
    return words(line.get("result")) or listed


def _models(usage: Any) -> list[Line]:
    return tables(list(table(usage).values()))


def _sum(models: list[Line]) -> Tokens:
    return sum(map(_of_model, models), Tokens())


def _of_model(model: Line) -> Tokens:
    return Tokens(
        input=count(model.get("inputTokens")), output=count(model.get("outputTokens")),
        cache_read=count(model.get("cacheReadInputTokens")), cache_write=count(model.get("cacheCreationInputTokens")),
    )  # fmt: skip


def _limit(info: Line) -> ProviderLimit:
    """Return the fullest window, or the one that is rejected."""
    rejected = info.get("status") == "rejected"
    own = text(info.get("rateLimitType"))
    windows = {own: info} | {name: table(each) for name, each in table(info, "unifiedWindows").items()}
    shares = {name: number(each.get("utilization")) for name, each in windows.items()}
    known = {name: share for name, share in shares.items() if share is not None}
    fullest = max(known, key=known.__getitem__, default=own)
    name = own if rejected else fullest
    resets_at = number(windows[name].get("resetsAt")) or number(info.get("resetsAt"))
    return ProviderLimit(rejected=rejected, used=known.get(fullest), resets_at=resets_at, window=name)
