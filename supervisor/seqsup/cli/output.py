"""What commands put out."""

import os
import sys
from pathlib import Path
from typing import TextIO

import click
import msgspec

from seqsup.errors import SeqsupError


def width(stream: TextIO | None = None) -> int | None:
    """COLUMNS, or those of a terminal (stdout's); None where there is neither, and lines may be as long as they are."""
    if (told := os.environ.get("COLUMNS", "")).isdecimal() and int(told) > 0:
        return int(told)
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


def put_file(path: Path, content: bytes) -> None:
    """Write a file that the user named."""
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        if path.parent.is_dir():  # one that takes no files, as /proc
            raise SeqsupError(f"{path}: no file can be made in {path.parent}: name another") from None
        raise SeqsupError(f"{path}: there is no folder {path.parent}: make it, or name another") from None
    except OSError as error:
        error.filename = str(path)  # a disk that is full does not say whose
        raise


def put_object(schema: str, fields: dict[str, object]) -> None:
    """One object on one line, for programs."""
    told = {"schema": schema, **fields}
    try:
        click.echo(msgspec.json.encode(told))
    except UnicodeEncodeError:  # a path of the machine's that is not UTF-8: its odd bytes are escaped
        import json

        click.echo(json.dumps(msgspec.to_builtins(told)))
