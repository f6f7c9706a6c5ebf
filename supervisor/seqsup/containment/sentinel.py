"""Kills all of a run's groups at once when its supervisor dies, where PDEATHSIG takes a leader only.

An agent can kill it (`pkill -9 sh`); then PDEATHSIG takes the later leaders, and the next seqsup finds the rest.
"""

import os
import select
import subprocess
from pathlib import Path

# It waits until a pipe closes that only the supervisor holds; a line before that means that all is well. It leaves our
# tree, or it would count as the agent's, and ignores signals that a terminal sends to the foreground. It holds the file
# open: if it is late, a resumed run may have another cgroup of that name. The kernel passes over a process whose first
# thread has exited (6.18 does), so listed processes are killed after that.
_WATCH = """
exec 3<&0 4>"$1"
(
    trap "" HUP INT QUIT TERM TSTP; cd /; read -r well <&3 && exit
    echo 1 >&4 || exit
    for procs in "${1%/*}"/*/cgroup.procs; do
        while read -r pid; do kill -9 "$pid"; done <"$procs"
    done
    : >"$2"
) &
"""


class Sentinel:
    def __init__(self, kill_file: str, told: Path) -> None:
        """Start it, before this process becomes a subreaper: then it would stay in our tree.

        `told` is a file that is there once it has killed.
        """
        ours, self._line = os.pipe()
        try:
            subprocess.run(
                ["/bin/sh", "-c", _WATCH, "seqsup-sentinel", kill_file, str(told)],
                stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, check=False,
            )  # fmt: skip
        finally:
            os.close(ours)

    @property
    def stands(self) -> bool:
        """Return whether it lives: no other process holds the other end of the pipe."""
        poll = select.poll()
        poll.register(self._line, 0)
        return not poll.poll(0)

    def dismiss(self) -> None:
        """End the sentinel without a kill: all is well."""
        try:
            os.write(self._line, b"well\n")
        except BrokenPipeError:
            pass  # it was killed
        finally:
            os.close(self._line)
