"""Members of a tree that its cgroup does not weigh."""

import time

from seqsup.containment.cgroup.group import Cgroup
from seqsup.containment.members import Members
from seqsup.containment.owner import TreeOwner
from seqsup.containment.search import WALK_EVERY, WALK_SHARE


class Elsewhere:
    """Members that entered another cgroup: a scope of their own, a container without root."""

    def __init__(self, owner: TreeOwner, members: Members) -> None:
        self._owner, self._members = owner, members
        self._pids: set[int] = set()
        self._listed, self._list_cost = 0.0, 0.0
        # Of the last listing: number of tasks, last pid, number of known members
        self._listing: tuple[int | None, int, int] = None, -1, 0

    def used(self, group: Cgroup) -> int:
        """Return their memory in bytes.

        Their memory at the moment they left stays charged to `group`, and counts twice until they free it or exec.
        """
        now, listing = time.monotonic(), (group.tasks(), self._owner.last_pid(), len(self._members))
        same = listing == self._listing and listing[0] is not None
        if now - self._listed >= (WALK_EVERY[0] if same else WALK_SHARE * self._list_cost):
            self._pids, self._listing = set(self._members.pids()).difference(group.weighed()), listing
            self._listed = time.monotonic()
            self._list_cost = self._listed - now
        return self._members.sum_of(self._pids) + self._members.shared_by(self._pids)
