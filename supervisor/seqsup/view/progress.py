"""A conversation so far, in a line: `turn 14 · Bash 3 min 12 s: npm test · 412k tokens · $1.83`."""

from seqsup.model.conversation import Conversation
from seqsup.units import format_count, format_duration, format_share, format_usd

_NEAR = 0.8  # of the provider's usage limit: from here on it is shown


def progress(conversation: Conversation, now: float) -> list[str]:
    """Return the parts of the line. `now` is in monotonic seconds."""
    tool, limit, tokens = conversation.tool, conversation.limit, conversation.tokens.total
    parts = [f"turn {conversation.turns}"] if conversation.turns else []
    if tool is not None:
        parts.append(
            f"{tool.name} {format_duration(max(0.0, now - tool.since))}" + (f": {tool.about}" if tool.about else "")
        )
    parts += [f"{format_count(tokens)} tokens"] if tokens else []
    parts += [format_usd(conversation.usd, partial=conversation.usd_is_partial)] if conversation.usd is not None else []
    if limit is not None and limit.used is not None and limit.used >= _NEAR:
        parts.append(f"usage limit {format_share(limit.used)}")
    return parts
