"""Trees beside the running agent's, each below a keeper, so that descent alone tells the tree of an orphan.

A keeper does for one tree what the reaper does for the agent's, and has the same interface. It is a process of its own
(`keeper_main`); this module is our end of it.
"""

import asyncio
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress

from seqsup.containment import keeper_main
from seqsup.containment.mark import tree_of
from seqsup.containment.members import own_children
from seqsup.containment.owner import Leader, Streams
from seqsup.containment.process import all_pids, children
from seqsup.containment.reaper import Reaper, born, with_descent
from seqsup.model.outcome import Exit

_PATIENCE = 10.0  # seconds until a keeper has reported its leader's pid; it takes 20 ms
_SEEN = 1000  # processes; above that the dead ones are forgotten


class Keeper:
    """One keeper, from `begin` until its tree is gone."""

    def __init__(self, reaper: Reaper, label: str) -> None:
        """`label` is the value of TREE in the tree's processes: if the keeper is killed, it identifies its orphans."""
        self._reaper, self._label = reaper, label
        self.soft_nofile = reaper.soft_nofile
        self.leader: int | None = None  # its pid, once the keeper has reported it
        self.foreign: dict[int, int] = {}  # pid -> start, of processes that may outlive their agent
        self.abandoned = reaper.abandoned
        self._ending: Exit | None = None
        self._heard = b""
        self._seen: dict[int, int] = {}  # pid -> start, of members that live, and of some that did
        self._too_many = _SEEN
        self._orphans: dict[int, int] | None = None  # of a keeper that was killed

    def another(self) -> "Keeper":
        """Give one for a further tree that bears the same mark."""
        return Keeper(self._reaper, self._label)

    def begin(self, command: Sequence[str], *, cwd: str | int, env: Mapping[str, str], streams: Streams) -> None:
        """Start the keeper, which starts the command. OSError says why it could not be."""
        self._line, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        try:
            self.process = self._reaper.spawn(
                [sys.executable, "-ISE", keeper_main.__file__, str(theirs.fileno()), *command],
                cwd=cwd, env=env, streams=streams,
            )  # fmt: skip
        except OSError:
            self._line.close()
            raise
        finally:
            theirs.close()
        self._line.setblocking(False)
        self._reaper.keepers.append(self)
        asyncio.get_running_loop().add_reader(self._line, self._on_word)

    def spawn(self, command: Sequence[str], *, cwd: str | int, env: Mapping[str, str], streams: Streams) -> Leader:
        """Start the command, and wait until its leader is known."""
        self.begin(command, cwd=cwd, env=env, streams=streams)
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        while self.leader is None and not self.over and poll.poll(_PATIENCE * 1000):
            self._listen()
        return self.known_leader

    @property
    def parent_pid(self) -> None:
        return None

    def kills_leader(self, *, grouped: bool, becomes: bool) -> bool:
        """The leader requested PDEATHSIG before it became the command, and a change of user clears that."""
        return not becomes

    @property
    def known_leader(self) -> Leader:
        """Return the leader by its pid, or by the keeper's own before it is known.

        The pid may have been reused by the time it is looked at, so it is never signalled.
        """
        return Leader(self.leader or self.process.pid)

    @property
    def over(self) -> bool:
        """Whether the keeper has exited. Unless it was killed, it exits only once its tree is empty."""
        return self._reaper.ending(self.process) is not None

    # -- the interface of a reaper

    @property
    def childless(self) -> bool:
        """Whether the tree is empty: the keeper's own exit proves it."""
        return self.over and not self._left_behind()

    @property
    def proven_empty(self) -> bool:
        return self.childless

    def children(self) -> list[int]:
        return self._left_behind() if self.over else children(self.process.pid)

    def outsiders(self) -> Set[int]:
        self.foreign = with_descent(self.foreign)
        return self.foreign.keys()

    @property
    def top(self) -> int | None:
        return None if self.over else self.process.pid

    @property
    def counted(self) -> bool:
        return self._reaper.counted

    def last_pid(self) -> int:
        return self._reaper.last_pid()

    def saw(self, pid: int, start: int) -> None:
        self._seen[pid] = start
        if len(self._seen) >= self._too_many:
            living = set(all_pids())
            self._seen = {pid: start for pid, start in self._seen.items() if pid in living}
            self._too_many = 2 * len(self._seen) + _SEEN

    def reap(self) -> bool:
        return self._reaper.reap()

    def ending(self, _: Leader) -> Exit | None:
        over = self.over  # read first: its last report comes before its exit
        self._listen()
        if self._ending is None and over:
            self._ending = Exit(code=None, signal=signal.SIGKILL)  # the keeper was killed, and its leader with it
        return self._ending

    def kill_children(self) -> None:
        self._order(keeper_main.KILL)

    def forget(self, _: Leader) -> None:
        """Close the line: a keeper that still runs then kills its tree, except processes that may outlive an agent."""
        if self.outsiders():
            self._reaper.foreign.update(self.foreign)
            self._order(keeper_main.LET_GO)
        asyncio.get_running_loop().remove_reader(self._line)
        self._line.close()
        self._reaper.tidy()

    # -- called by the reaper

    def tops(self) -> Set[int]:
        """Where this tree begins, for searches of other trees."""
        return set(self._left_behind()) if self.over else {self.process.pid}

    def release(self) -> bool:
        """Return whether no process is left to care for. After that no other method may be called."""
        if self._line.fileno() >= 0 or not self.childless:
            return False
        self._reaper.forget(self.process)
        return True

    def _left_behind(self) -> list[int]:
        """List the orphans of a keeper that was killed: they became our children, and do not belong to the agent."""
        ended = self._reaper.ending(self.process)
        if ended is None or ended.signal is None:
            return []
        if self._orphans is None:
            self._orphans = {pid: start for pid, start in born(own_children()).items() if self._is_ours(pid, start)}
        unmarked = born(pid for pid in self._reaper.unclaimed() if tree_of(pid) in (None, self._label))
        self._orphans = with_descent(self._orphans | unmarked)
        return list(self._orphans)

    def _is_ours(self, pid: int, start: int) -> bool:
        return self._seen.get(pid) == start or tree_of(pid) == self._label

    def _on_word(self) -> None:
        self._listen()
        self._reaper.woken()

    def _listen(self) -> None:
        while self._line.fileno() >= 0:
            try:
                said = self._line.recv(256)
            except BlockingIOError:
                break
            except OSError:
                said = b""
            if not said:
                asyncio.get_running_loop().remove_reader(self._line)  # else it would be readable for ever
                break
            self._heard += said
        *lines, self._heard = self._heard.split(b"\n")
        for what, number in (line.split() for line in lines):
            if what == b"leader":
                self.leader = int(number)
            elif self._ending is None:  # else another has its number by now
                by_exit = what == b"exit"
                self._ending = Exit(code=int(number) if by_exit else None, signal=None if by_exit else int(number))

    def _order(self, order: bytes) -> None:
        with suppress(OSError):  # it has ended
            self._line.send(order)
