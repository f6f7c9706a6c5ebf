"""The members file of a run."""

import os
from pathlib import Path

from seqsup.containment.members_file import append, entries


def test_torn_lines_of_a_members_file_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "members"
    file.write_bytes(b"\xff\0 1\nabc def\n-1 5\n\xc2\xb2 3\n\n7 8 9\n")
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    append(descriptor, 12, 345)
    os.write(descriptor, b"123 ")
    os.close(descriptor)
    assert list(entries(file)) == [(12, 345)]
