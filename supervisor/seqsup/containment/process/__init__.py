"""One process of this machine: on Linux by /proc and pidfds, elsewhere by psutil."""

import sys

if sys.platform == "linux":  # by this name mypy knows which of them it is
    from seqsup.containment.process.linux import LinuxMember as Member
    from seqsup.containment.process.linux import (
        all_pids,
        children,
        environment,
        glance,
        kin,
        kinship,
        read_stat,
        signal_unheld,
        zombie_since,
    )
else:
    from seqsup.containment.process.portable import PortableMember as Member
    from seqsup.containment.process.portable import (
        all_pids,
        children,
        environment,
        glance,
        kin,
        kinship,
        read_stat,
        signal_unheld,
        zombie_since,
    )

__all__ = [
    "Member",
    "all_pids",
    "children",
    "environment",
    "glance",
    "kin",
    "kinship",
    "read_stat",
    "signal_unheld",
    "zombie_since",
]
