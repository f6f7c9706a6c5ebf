"""The options of the log, for `start` and `run`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from seqsup.view.messages import LEVELS

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
