"""Files that others read: the textfile of a node_exporter, the target file of a Prometheus."""

import json
import os
from pathlib import Path


def publish(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by all: a reader has the old one or the new one, whatever fails."""
    new = path.with_name(path.name + ".new")  # no *.prom, which a node_exporter would read
    try:
        with new.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask is: its readers are other users
            file.write(content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def targets(address: str, profile: str) -> bytes:
    """What file_sd_configs reads."""
    return json.dumps([{"targets": [address], "labels": {"seqsup_profile": profile}}]).encode() + b"\n"
