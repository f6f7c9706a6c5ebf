"""One process of this machine, as this machine can tell of it: Linux by /proc and pidfds, any other by psutil."""

from typing import TYPE_CHECKING

from seqsup.host.machine import PORTABLE

if TYPE_CHECKING or not PORTABLE:
    from seqsup.containment.process.linux import (
        ADOPTS,
        Member,
        all_pids,
        children,
        environment,
        glance,
        kin,
        kinship,
        read_stat,
        unmoved,
    )
else:
    from seqsup.containment.process.portable import (
        ADOPTS,
        Member,
        all_pids,
        children,
        environment,
        glance,
        kin,
        kinship,
        read_stat,
        unmoved,
    )

__all__ = [
    "ADOPTS",
    "Member",
    "all_pids",
    "children",
    "environment",
    "glance",
    "kin",
    "kinship",
    "read_stat",
    "unmoved",
]
