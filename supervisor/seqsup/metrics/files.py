"""Files that others read: the textfile of a node_exporter, the target file of a Prometheus."""

import json
import os
from pathlib import Path


def publish(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by all: a reader has the old one or the new one."""
    new = path.with_name(path.name + ".new")  # no *.prom, which a node_exporter would read
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask is: its readers are other users
        os.write(fd, content)
    finally:
        os.close(fd)
    new.replace(path)


def targets(address: str, profile: str) -> bytes:
    """What file_sd_configs reads."""
    return json.dumps([{"targets": [address], "labels": {"seqsup_profile": profile}}]).encode() + b"\n"
