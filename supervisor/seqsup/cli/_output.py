"""What commands put out."""

import os
import sys
from pathlib import Path
from typing import TextIO

import click
import msgspec


def width(stream: TextIO | None = None) -> int | None:
    """The columns of a terminal (stdout's); None where there is none, and lines may be as long as they are."""
    stream = sys.stdout if stream is None else stream
    if stream is None or not stream.isatty():
        return None
    return os.get_terminal_size(stream.fileno()).columns or None  # 0: a terminal that never told its size


def here() -> str:
    """The folder we are in, or nothing when it was removed."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def put_object(schema: str, fields: dict[str, object]) -> None:
    """One object on one line, for programs."""
    click.echo(msgspec.json.encode({"schema": schema, **fields}).decode())
