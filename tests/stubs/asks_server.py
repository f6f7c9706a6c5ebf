"""An agent that is no Node program: it starts an MCP server with the six variables of the official client, greets it
and stays. asks_server.py COMMAND ARG…"""

import json
import os
import signal
import subprocess
import sys

HANDED_ON = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")

signal.alarm(60)  # a faulty test must not leave it for ever
server = subprocess.Popen(
    sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    env={name: os.environ[name] for name in HANDED_ON if name in os.environ},
)  # fmt: skip
assert server.stdin is not None
assert server.stdout is not None
asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}
server.stdin.write(f"{json.dumps(asked)}\n".encode())
server.stdin.flush()
assert server.stdout.readline()
print("ready", server.pid, flush=True)
signal.pause()
