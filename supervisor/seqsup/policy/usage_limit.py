"""Usage limits of providers: found in what an agent printed, and when they reset. Pure; the caller brings the time."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from msgspec import Struct

_FLAGS = re.IGNORECASE | re.MULTILINE
_JUST_NOW = timedelta(minutes=10)  # a time of day so little past is meant, and not the next day's
_FARTHEST = 366 * 86400.0  # seconds: a later date is not credible, and may exceed the calendar
_LINE = 200  # characters
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|m|s)(?!s)", re.IGNORECASE)  # milliseconds are nothing to wait for
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = re.compile(
    r"(?:(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?,? (?:(?P<year>\d{4}),? )?(?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>[ap]m)?",
    re.IGNORECASE,
)


class Limit(Struct, frozen=True):
    """A usage limit that was met."""

    said: str  # the line that told
    resets_at: float | None  # epoch; None: it does not say, or nonsense


def first_line(patterns: Iterable[str], text: str) -> str:
    """The first line that one of the patterns finds, or nothing."""
    for pattern in patterns:
        if match := re.search(pattern, text, _FLAGS):
            return _line_of(match)
    return ""


def find(patterns: Iterable[str], text: str, now: datetime) -> Limit | None:
    """Return the last usage limit in the text, by the first pattern that finds one.

    A pattern may name the reset: `epoch` in seconds, `after` a span such as 3h20m, `at` a time of day with or without
    its date, and its `zone`; the default is the zone of `now`.
    """
    for pattern in patterns:
        matches = list(re.finditer(pattern, text, _FLAGS))
        if matches:
            resets_at = _resets_at(matches[-1].groupdict(), now)
            told = resets_at is not None and resets_at <= now.timestamp() + _FARTHEST
            return Limit(_line_of(matches[-1]), resets_at if told else None)
    return None


def _line_of(match: re.Match[str]) -> str:
    """Return the line of a match. If it is too long, as a result in JSON is, return the part around the end of the
    match.
    """
    start = match.string.rfind("\n", 0, match.start()) + 1
    line, at = match.string[start:].split("\n", 1)[0], match.end() - start
    if len(line) > _LINE and at > _LINE:
        begin = min(at - _LINE // 2, len(line) - _LINE + 1)
        line = f"…{line[begin:]}"
    return " ".join(line.split())[:_LINE]


def _resets_at(told: dict[str, str | None], now: datetime) -> float | None:
    if epoch := told.get("epoch"):
        return float(epoch)
    if after := told.get("after"):
        spans = [float(number) * _UNITS[unit.lower()] for number, unit in _SPAN.findall(after)]
        return now.timestamp() + sum(spans) if spans else None
    if at := told.get("at"):
        return _at(at, _zone(told.get("zone")), now)
    return None


def _zone(name: str | None) -> tzinfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (LookupError, ValueError, OSError):  # not a zone, or none that this machine knows
        return None


def _at(text: str, zone: tzinfo | None, now: datetime) -> float | None:
    match = _CLOCK.search(text)
    if match is None:
        return None
    now = now.astimezone(zone) if zone is not None else now
    try:
        at = now.replace(hour=_hour(match), minute=int(match["minute"] or 0), second=0, microsecond=0)
        if match["month"]:
            month = _MONTHS.index(match["month"].lower()) + 1
            at = at.replace(year=int(match["year"] or now.year), month=month, day=int(match["day"]))
            if not match["year"] and at < now - timedelta(days=7):
                at = at.replace(year=now.year + 1)
        elif at < now - _JUST_NOW:
            at += timedelta(days=1)
    except ValueError:
        return None
    return at.timestamp()


def _hour(match: re.Match[str]) -> int:
    hour = int(match["hour"])
    if match["half"] is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"{match[0]} is no time of day")
    return hour % 12 + (12 if match["half"].lower() == "pm" else 0)
