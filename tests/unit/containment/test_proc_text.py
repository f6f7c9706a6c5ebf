"""Files of /proc that hold names: the file system that a path lies on."""

import pytest

from seqsup.containment.proc_text import filesystem

MOUNTINFO = r"""21 1 8:32 / / rw,relatime - ext4 /dev/sdc rw
22 21 0:30 / /mnt/c rw,noatime - 9p C:\134 rw,aname=drvfs
23 22 0:31 / /mnt/c/work rw - tmpfs none rw
24 21 0:32 / /home/a\040b rw - nfs4 host:/home rw
25 21 0:33 / /over rw - tmpfs none rw
26 25 0:34 / /over rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/env", "ext4"),
        ("/mnt/c", "9p"),
        ("/mnt/c/Program Files/nodejs/npm", "9p"),
        ("/mnt/cc/npm", "ext4"),
        ("/mnt/c/work/run", "tmpfs"),
        ("/home/a b/state", "nfs4"),
        ("/over/x", "fuse.sshfs"),  # the last that was mounted there covers the others
    ],
)
def test_filesystem_of_path_is_that_of_its_nearest_mount(path: str, expected: str) -> None:
    assert filesystem(path, MOUNTINFO) == expected


def test_filesystem_is_empty_where_mounts_are_unknown() -> None:
    assert filesystem("/usr", "") == ""
