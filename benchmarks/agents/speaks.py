"""Writes when it began and when it ended, in monotonic seconds, after SECONDS: its first and its last words."""

import time

first = time.monotonic()

import os  # noqa: E402
import sys  # noqa: E402

time.sleep(float(sys.argv[1]))
print(first, time.monotonic(), flush=True)
os._exit(0)
