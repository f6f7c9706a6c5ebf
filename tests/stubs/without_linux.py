"""seqsup as on a system that is not Linux: what only Linux has is taken from Python before seqsup is imported.

With the name of another stub first, that one is run so.
"""

import asyncio  # noqa: F401  (these choose by sys.platform when they are imported)
import os
import runpy
import select
import signal
import sys
import sysconfig
from pathlib import Path

import psutil  # noqa: F401

sysconfig.get_config_vars()

for module, names in (
    (os, ("pidfd_open", "eventfd", "memfd_create", "sched_getaffinity", "waitid", "posix_fadvise", "getxattr")),
    (signal, ("pidfd_send_signal",)),
    (select, ("epoll",)),
):
    for name in names:
        delattr(module, name)
sys.platform = "darwin"

from seqsup.cli import app  # noqa: E402

if sys.argv[1].endswith(".py"):
    del sys.argv[0]
    runpy.run_path(str(Path(__file__).with_name(sys.argv[0])), run_name="__main__")
sys.exit(app.main(sys.argv[1:]))
