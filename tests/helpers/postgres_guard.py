"""Runs a PostgreSQL server until its stdin ends, and removes its folder. It is no descendant of the test session, which
looks for processes that tests leave behind, and it outlives a session that is killed by as much as a clean end takes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys


def main() -> None:
    start = json.loads(sys.argv[1])
    if os.fork():
        return
    os.setsid()
    print(os.getpid(), flush=True)
    as_user = {"user": start["uid"], "group": start["gid"], "extra_groups": []} if start["uid"] else {}
    server: subprocess.Popen[bytes] | None = None
    for line in sys.stdin:  # "start", "stop" or "kill"
        if line.strip() == "start":
            with open(start["log"], "ab") as log:  # noqa: PTH123
                server = subprocess.Popen(
                    start["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **as_user
                )
        elif server is not None:
            _end(server, signal.SIGINT if line.strip() == "stop" else signal.SIGQUIT)
        print("done", flush=True)
    if server is not None:
        _end(server, signal.SIGQUIT)
    shutil.rmtree(start["folder"], ignore_errors=True)


def _end(server: "subprocess.Popen[bytes]", signum: int) -> None:
    server.send_signal(signum)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
