"""Processes of an agent's tools, which end so that the agent is spared."""

from seqsup.containment.launcher import FIRST_VICTIM
from seqsup.containment.members import Members
from seqsup.model.process import TreeProcess
from seqsup.policy import spare

_MANY = 500  # processes, whose parents and command lines take 30 ms


class Tools:
    def __init__(self, members: Members, leader: int) -> None:
        """`leader` is a pid."""
        self._members, self._leader = members, leader
        self._offered: frozenset[int] = frozenset()  # pids in the tree when tools were offered to the kernel
        self._leaving: set[int] = set()  # pids that kill() killed

    def placed(self) -> tuple[TreeProcess, ...]:
        """Give each process of the tree with its parent; none if there are so many that this would take long."""
        many = len(self._members) + len(self._members.unheld) > _MANY
        return () if many else self._members.placed(self._leader, self._leaving)

    def offer(self) -> None:
        """Let the kernel take processes of tools first when memory is short. Done if other processes are in the tree
        than before.
        """
        if (pids := frozenset(self._members.pids())) == self._offered:
            return
        self._offered = pids
        for pid in spare.of_tools(self.placed(), self._leader):
            if (member := self._members.get(pid)) is not None:
                member.offer(FIRST_VICTIM)

    def kill(self, pid: int) -> bool:
        """Kill one process, and return whether it was ours to kill. Its memory is `leaving` until it is gone."""
        if killed := self._members.kill(pid):
            self._leaving.add(pid)
        return killed

    def leaving(self) -> int:
        """Return the bytes of processes that kill() killed and that are not gone."""
        there = [member for pid in self._leaving if (member := self._members.get(pid)) and not member.gone()]
        self._leaving = {member.pid for member in there}
        return sum(member.bytes for member in there)
