"""Exits by SIGNAL (a name such as SEGV, or a number) by itself."""

import os
import resource
import signal
import sys

wanted = sys.argv[1] if len(sys.argv) > 1 else "SEGV"
signum = int(wanted) if wanted.isdigit() else signal.Signals[f"SIG{wanted.removeprefix('SIG')}"]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("ready", flush=True)
os.kill(os.getpid(), signum)
