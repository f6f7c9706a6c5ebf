"""What options take, read by their callbacks: a wrong value is told as one of a profile's would be."""

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import click

from seqsup.units import parse_size
from seqsup.view.messages import LEVELS

Read = Callable[[click.Context, click.Parameter, Any], Any]
T = TypeVar("T", str, tuple[str, ...])


def size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Bytes, from a size such as 6GiB."""
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def text(context: click.Context, parameter: click.Parameter, value: T) -> T:
    """What journal, JSON and a profile can carry: a text, or several."""
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        raise click.BadParameter("holds bytes that are not UTF-8", context, parameter) from None
    return value


def whole(least: int) -> Read:
    """Make a reader of whole numbers, also of several."""
    return _number(int, least, f"a whole number from {least}")


def a_number_of_days(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Days, and parts of them."""
    read: float | None = _number(float, 0, "a number of days")(context, parameter, value)
    return read


def _number(kind: type[int] | type[float], least: int, expected: str) -> Read:
    def one(context: click.Context, parameter: click.Parameter, value: str) -> int | float:
        try:
            number = kind(value)
        except ValueError:
            number = -1
        if not isfinite(number) or number < least:
            raise click.BadParameter(f"expected {expected}, not {value!r}", context, parameter)
        return number

    def read(context: click.Context, parameter: click.Parameter, value: str | tuple[str, ...] | None) -> Any:
        if isinstance(value, tuple):
            return tuple(one(context, parameter, each) for each in value)
        return None if value is None else one(context, parameter, value)

    return read


F = TypeVar("F", bound=Callable[..., Any])


def log_options(command: F) -> F:
    """Add --log-level and --log-format; the values are those of Manner."""
    level = click.option(
        "--log-level",
        type=click.Choice([level.lower() for level in LEVELS]),
        envvar="SEQSUP_LOG_LEVEL",
        help="The least that stderr shows; a run's own log file has all of it. Also SEQSUP_LOG_LEVEL.",
    )
    form = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        envvar="SEQSUP_LOG_FORMAT",
        help="json: each line of the log an object, on stderr and in the file. Also SEQSUP_LOG_FORMAT.",
    )
    return level(form(command))
