"""seqsup itself, which finds itself grown after every chain. With WISHED it is sent that signal as it begins anew, with
LATE at the last moment of the old image. With STOLEN somebody takes that port as the old image lets it go, with GONE
there is no Python any more. With UNKILLABLE who is still there so many seconds after KILL is told, not after ten."""

import os
import socket
import sys

from seqsup.cli import app
from seqsup.policy import resources, watch
from seqsup.runner.run import Run

resources.renewal_due = lambda own, first: True
watch.KILL_DEADLINE = float(os.environ.get("UNKILLABLE", watch.KILL_DEADLINE))
if wished := os.environ.pop("WISHED", ""):
    whole = Run._drain_chain  # the last before the wish is asked for

    async def wished_meanwhile(*args):
        ended = await whole(*args)
        os.kill(os.getpid(), int(wished))
        return ended

    Run._drain_chain = wished_meanwhile
if late := os.environ.pop("LATE", ""):
    become = os.execv

    def wished_at_last(*args):
        os.kill(os.getpid(), int(late))
        become(*args)

    os.execv = wished_at_last
if port := os.environ.pop("STOLEN", ""):
    goes = os.execv

    def robbed(*args):
        other = socket.create_server(("127.0.0.1", int(port)))
        os.set_inheritable(other.fileno(), True)  # it lives as long as we do
        goes(*args)

    os.execv = robbed
if os.environ.pop("GONE", ""):
    sys.executable += ".gone"
sys.exit(app.main(sys.argv[1:]))
