"""Files that others read: the textfile of a node_exporter, the target file of a Prometheus."""

import json
import os
from pathlib import Path

from seqsup.host.files import replace


def irreplaceable(path: Path) -> str:
    """Why something that is there must not be replaced by a file, as /dev/null must not; nothing where it may be."""
    if os.path.isdir(path):  # noqa: PTH112 (Path's says no, or raises)
        return "a folder; choose a file in it"
    there = os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113
    return "not a regular file, and would be replaced by one; choose another" if there else ""


def publish(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by all: a reader has the old one or the new one, whatever fails."""
    if why := irreplaceable(path):
        raise OSError(f"it is {why}")
    replace(path, content, mode=0o644)


def targets(address: str, profile: str) -> bytes:
    """Return the content of a target file for file_sd_configs."""
    return json.dumps([{"targets": [address], "labels": {"seqsup_profile": profile}}]).encode() + b"\n"
