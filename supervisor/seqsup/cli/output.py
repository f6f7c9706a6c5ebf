"""What commands put out."""

from pathlib import Path

import click
import msgspec

from seqsup.errors import SeqsupError
from seqsup.host.files import replace


def put_file(path: Path, content: bytes) -> None:
    """Write a file that the user named. A device or a pipe is written to, all else is replaced."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            replace(path, content)
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
