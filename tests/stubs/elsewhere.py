"""Leaves the groups that seqsup made for it, for those of its supervisor, in each hierarchy where it may; then becomes
COMMAND. As a user's scope does, or a container without root, that an agent starts."""

import os
import sys
from contextlib import suppress
from pathlib import Path

hierarchies: dict[str, Path] = {}
for line in Path("/proc/self/mountinfo").read_text().splitlines():
    fields, _, kind = line.partition(" - ")
    filesystem, _, options = kind.split(" ", 2)
    if filesystem in ("cgroup", "cgroup2"):
        names = options.split(",") if filesystem == "cgroup" else [""]
        hierarchies |= dict.fromkeys(names, Path(fields.split()[4]))
for line in Path("/proc/self/cgroup").read_text().splitlines():
    _, controllers, path = line.split(":", 2)
    own = Path(path.lstrip("/"))
    if own.parent.name.startswith("seqsup-") and (where := hierarchies.get(controllers.split(",")[0])):
        above = where / own.parent.parent
        for folder in (above / "supervisor", above):
            with suppress(OSError):
                (folder / "cgroup.procs").write_text("0")
                break
os.execvp(sys.argv[1], sys.argv[1:])
