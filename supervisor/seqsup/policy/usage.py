"""When an agent may start, as far as its provider's usage limit and the profile's time of day allow. Pure."""

import time

from seqsup.model.conversation import ProviderLimit
from seqsup.model.enums import OnUsageLimit
from seqsup.model.outcome import Outcome
from seqsup.model.profile import UsageRule
from seqsup.model.reason import Reason
from seqsup.units import parse_window

UNKNOWN_RESET = 900.0  # seconds until a retry after a usage limit without a reset time


def until(outcome: Outcome, now: float) -> float:
    """Return when the usage limit of an attempt that ended now is over, or may be. Times are of the epoch."""
    return now + UNKNOWN_RESET if outcome.resets_at is None else outcome.resets_at


def awaited(usage: UsageRule, outcome: Outcome, since: float, now: float) -> bool:
    """Say whether the attempt met a usage limit that the profile waits for.

    `since` is when the first attempt met it, of those in a row that did. Times are of the epoch.
    """
    return outcome.reason is Reason.USAGE_LIMIT and may_wait(usage, until(outcome, now) - since)


def may_wait(usage: UsageRule, seconds: float) -> bool:
    """Say whether the profile waits so long for a usage limit to reset."""
    return usage.on_limit is OnUsageLimit.WAIT and (usage.wait_at_most is None or seconds <= usage.wait_at_most)


def held_back(usage: UsageRule, limit: ProviderLimit, seen: float, now: float) -> float | None:
    """Return until when no further agent starts, because usage.stop_at is reached; None if one may start now.

    `seen` is when the CLI reported the limit. Times are of the epoch.
    """
    if usage.stop_at is None or limit.used is None or limit.used < usage.stop_at:
        return None
    resets_at = seen + UNKNOWN_RESET if limit.resets_at is None else limit.resets_at
    return resets_at if resets_at > now else None


def opening(window: str, now: float) -> float:
    """Return the first time from now on that is in the window, of the epoch.

    It looks at each minute, since a change to or from summer time may skip or repeat the one at which it opens.
    """
    if not window:
        return now
    minutes = (now, *(float(60 * (now // 60 + n)) for n in range(1, 3 * 24 * 60)))
    return next((at for at in minutes if is_open(window, at)), now)


def is_open(window: str, at: float) -> bool:
    """Say whether a moment of the epoch is in the window."""
    opens, closes = parse_window(window)
    local = time.localtime(at)
    minute = 60 * local.tm_hour + local.tm_min
    return opens <= minute < closes if opens < closes else minute >= opens or minute < closes
