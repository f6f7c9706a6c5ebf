"""Secrets: values that a profile names with {secret:NAME} and does not hold. They are read where its agents run."""

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from seqsup.errors import SeqsupError
from seqsup.host.trust import user_name
from seqsup.model.plan import CompanionStart, Plan
from seqsup.profile import placeholders
from seqsup.state.run_folder import at_once, config_dir

_LARGEST = 1024 * 1024  # bytes


class Secrets(NamedTuple):
    values: dict[str, str]
    missing: dict[str, str]  # name -> why there is no value, and what to do


def look_up(names: Iterable[str], environ: Mapping[str, str]) -> Secrets:
    """Look each secret up in the environment, then in the user's file. An empty variable counts as none."""
    values = {name: value for name in dict.fromkeys(names) if (value := environ.get(name))}
    left = [name for name in dict.fromkeys(names) if name not in values]
    if not left:
        return Secrets(values, {})
    file = secrets_file()
    try:
        told = _read(file)
    except FileNotFoundError:
        told = {}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Secrets(values, dict.fromkeys(left, f"cannot be read from {file}: {why}"))
    values |= {name: value for name in left if (value := told.get(name))}
    remedy = f'export it, or write NAME = "…" into {file} and run `chmod 600 {file}`'
    return Secrets(values, {name: f"is not set\n{remedy.replace('NAME', name)}" for name in left if name not in values})


def secrets_file() -> Path:
    return config_dir() / "secrets.toml"


def secrets_of(plan: Plan) -> dict[str, str]:
    """Return the values of the plan's secrets. SeqsupError: one is missing."""
    environments = [each.env for each in plan.steps] + [each.env for each in plan.companions]
    named = placeholders.secrets(text for env in environments for text in env.values())
    found = look_up(named, os.environ)
    if found.missing:
        raise SeqsupError("\n".join(f"secret {name} {why}".replace("\n", ": ") for name, why in found.missing.items()))
    return found.values


def with_secrets(start: CompanionStart, values: Mapping[str, str]) -> dict[str, str]:
    """Return a companion's environment with the values of its secrets."""
    return {
        variable: placeholders.finish(text, lambda _, name: values[name or ""]) for variable, text in start.env.items()
    }


def _read(file: Path) -> dict[str, str]:
    """ValueError: the file is not to be used; no message contains a part of it."""
    with open(file, "rb", opener=at_once) as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            owner, own = user_name(status.st_uid), user_name(os.geteuid())
            raise ValueError(f"it belongs to {owner}\nchown {own} {file} && chmod 600 {file}")
        if status.st_mode & 0o077:
            raise ValueError(f"other users may open it (mode {status.st_mode & 0o777:04o})\nchmod 600 {file}")
        raw = opened.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1024**2} MiB")
    try:
        told = tomllib.loads(raw.decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line \d+", str(error))  # the rest of it may hold a part of a value
        place = line[0] if line is not None else "it"
        raise ValueError(f'{place} is not TOML\nwrite NAME = "value" in each line') from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8\nsave it as UTF-8") from None
    for name, value in told.items():
        if not isinstance(value, str):
            raise ValueError(f'{name} is no text\nwrite {name} = "value"')
        if "\0" in value:
            raise ValueError(f"{name} holds a NUL character, which no variable can carry")
    return told
