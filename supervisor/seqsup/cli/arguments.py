"""Types of options, which click calls. A wrong value is reported as a profile's would be."""

import datetime as dt
import re
import time
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

import click

from seqsup.cli import complete
from seqsup.model.enums import LEVELS
from seqsup.units import parse_duration, parse_size, show

F = TypeVar("F", bound=Callable[..., Any])


def size(value: str) -> int:
    """Bytes, from a size such as 6GiB."""
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error).replace("\n", ": ")) from None


def duration(value: str) -> float:
    """Seconds above zero, from a duration such as 2m."""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error).replace("\n", ": ")) from None
    if not seconds:
        raise click.BadParameter("must be above 0")
    return seconds


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


def whole(least: int, most: int | None = None) -> Callable[[str], Any]:
    if most is not None:
        return _number(int, least, f"a whole number from {least} to {most}", most)
    return _number(int, least, f"a whole number from {least}")


def _number(kind: type[int] | type[float], least: int, expected: str, most: float = inf) -> Callable[[str], Any]:
    def read(value: str) -> int | float:
        try:
            number = kind(value)
        except ValueError:
            number = least - 1
        if not least <= number <= most or number == inf:
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
        if (clock := _clock(value)) is not None:  # the last time that it was so late
            at = dt.datetime.combine(dt.date.today(), clock).timestamp()
            return at if at <= time.time() else at - 24 * 3600
        return dt.datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(f'expected 10m, 02:30 or "2026-12-02 02:30", not {show(value)}') from None


def to_come(value: str) -> float:
    """Seconds of the epoch, from a time of day, which means the next one, or a date with or without a time."""
    try:
        if (clock := _clock(value)) is not None:
            day = dt.date.today()
            days = (dt.datetime.combine(day + dt.timedelta(days=n), clock).timestamp() for n in (0, 1))
            return next(at for at in days if at > time.time())
        at = dt.datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, StopIteration):
        raise click.BadParameter(f"expected 02:00 or 2026-12-24T02:00, not {show(value)}") from None
    if at <= time.time():
        raise click.BadParameter(f"{show(value)} is in the past")
    return at


def _clock(value: str) -> dt.time | None:
    """Return a time of day; None: it has a date, or no colon."""
    if ":" not in value or "-" in value:
        return None
    return dt.time.fromisoformat(value.zfill(5) if value.count(":") == 1 else value.zfill(8))


def job(value: str) -> int:
    """Number of a job of the queue."""
    found = re.fullmatch(r"[#j]?([0-9]{1,15})", value)
    if found is None or not int(found[1]):
        raise click.BadParameter(f"expected the number of a job, such as 3, not {show(value)}")
    return int(found[1])


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

queue_option = click.option(
    "--queue",
    "url",
    metavar="URL",
    help="The queue. Also SEQSUP_QUEUE, or queue in ~/.config/seqsup/config.toml. Default: that of this machine.",
)


command_options = together(
    click.option(
        "--preset",
        metavar="CLI",
        help="Start this CLI, and give it the words as its prompt.",
        shell_complete=complete.preset,
    ),
    click.option("--model", metavar="NAME", help="With --preset: the CLI's model. Default: the CLI's own."),
    click.option(
        "--soft", metavar="SIZE", help="Above it for 2 s: stopped with a grace period. Default: 75 % of --hard."
    ),
    click.option("--hard", metavar="SIZE", help="Above it: killed at once. Default: 8GiB, less on a small machine."),
    click.option(
        "--retries",
        metavar="N",
        type=whole(0),
        default="0",
        help="Retries after a failure. Default: none.",
    ),
    click.option("--timeout", metavar="DURATION", help='Longest time. Default: "1h".'),
    click.option("--name", metavar="NAME", help="Name in status and logs. Default: the program's."),
)
