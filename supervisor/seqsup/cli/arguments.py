"""Types of options, which click calls. A wrong value is reported as a profile's would be."""

import datetime as dt
import time
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

import click

from seqsup.units import parse_duration, parse_size, show
from seqsup.view.messages import LEVELS

F = TypeVar("F", bound=Callable[..., Any])


def size(value: str) -> int:
    """Bytes, from a size such as 6GiB."""
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error).replace("\n", ": ")) from None


def text(value: str) -> str:
    """What journal, JSON and a profile can carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("contains bytes that are not UTF-8") from None
    return value


def file(value: str) -> str:
    """Path of a file that is written."""
    if not value:
        raise click.BadParameter("expected the path of a file, not ''")
    return value


def whole(least: int) -> Callable[[str], Any]:
    return _number(int, least, f"a whole number from {least}")


def _number(kind: type[int] | type[float], least: int, expected: str) -> Callable[[str], Any]:
    def read(value: str) -> int | float:
        try:
            number = kind(value)
        except ValueError:
            number = -1
        if not least <= number < inf:
            raise click.BadParameter(f"expected {expected}, not {show(value)}")
        return number

    return read


def moment(value: str) -> float:
    """Seconds of the epoch, from a duration that ends now, a time of day, or a date with or without a time."""
    try:
        return time.time() - parse_duration(value)
    except ValueError:
        pass
    try:
        if ":" in value and "-" not in value:  # the last time that it was so late
            clock = dt.time.fromisoformat(value.zfill(5) if value.count(":") == 1 else value.zfill(8))
            at = dt.datetime.combine(dt.date.today(), clock).timestamp()
            return at if at <= time.time() else at - 24 * 3600
        return dt.datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(f'expected 10m, 02:30 or "2026-12-02 02:30", not {show(value)}') from None


days = _number(float, 0, "a number of days")


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Make one decorator of several options, in the order of the help."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


log_options = together(
    click.option(
        "--log-level",
        type=click.Choice([level.lower() for level in LEVELS]),
        envvar="SEQSUP_LOG_LEVEL",
        help="Least severe level on stderr. The run's log file has all levels. Also SEQSUP_LOG_LEVEL.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        envvar="SEQSUP_LOG_FORMAT",
        help="json: one JSON object per log line, on stderr and in the file. Also SEQSUP_LOG_FORMAT.",
    ),
)
