"""One process of this machine, as this machine can tell of it: Linux by /proc and pidfds, any other by psutil."""

from typing import TYPE_CHECKING

from seqsup.host.machine import PORTABLE

if TYPE_CHECKING or not PORTABLE:
    from seqsup.containment.process.linux import (
        ADOPTS,
        all_pids,
        children,
        environment,
        glance,
        kin,
        kinship,
        read_stat,
        unmoved,
    )
    from seqsup.containment.process.linux import (
        LinuxMember as Member,
    )
else:
    from seqsup.containment.process.portable import (
        ADOPTS,
        all_pids,
        children,
        environment,
        glance,
        kin,
        kinship,
        read_stat,
        unmoved,
    )
    from seqsup.containment.process.portable import (
        PortableMember as Member,
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
