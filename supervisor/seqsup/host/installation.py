"""How seqsup was installed: which command adds a package to it, and where agents find it."""

import json
import os
import shlex
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from seqsup.host.trust import exposure

_COMMAND = Path(__file__).parent / "bin/seqsup"


def with_seqsup(path: str) -> str:
    """Return the search path, and at its end the folder of our own command, so that an installed one wins.

    The folder holds nothing else: the scripts next to an installed seqsup may include a pip and a python. If another
    user can write it, the search path stays as it is.
    """
    folder, parts = str(_COMMAND.parent), path.split(os.pathsep) if path else []
    return path if folder in parts or not _is_ours() else os.pathsep.join([*parts, folder])


def without_seqsup(path: str) -> str:
    """Return the search path without the folder of our own command, which works only inside a run."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if part != str(_COMMAND.parent))


@cache
def _is_ours() -> bool:
    return exposure(_COMMAND) is None


def command_to_add(package: str) -> str:
    """Return a shell command that installs a package next to seqsup, by the tool that installed seqsup.

    Environments of uv have no pip. Debian's own Python has one, which refuses to install (PEP 668).
    """
    import sysconfig

    prefix, python = Path(sys.prefix), shlex.quote(sys.executable)
    if (prefix / "uv-receipt.toml").exists():
        return f"uv tool install --with {package} {shlex.quote(_source())}"
    if (prefix / "pipx_metadata.json").exists():
        return f"pipx inject {shlex.quote(prefix.name)} {package}"
    if sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        return f"pipx install {shlex.quote(_source())} && pipx inject seqsup {package}"
    if find_spec("pip") is None:
        return f"uv pip install --python {python} {package}"
    return f"{python} -m pip install {package}"


def _source() -> str:
    """Return the requirement that seqsup was installed from: its name, or the file, folder or repository (PEP 610)."""
    from importlib import metadata  # it loads an e-mail parser

    try:
        text = metadata.distribution("seqsup").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = None
    if not text:
        return "seqsup"
    origin = json.loads(text)
    vcs = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
    return f"seqsup @ {vcs}{origin['url']}"
