"""Exits with CODE, after SECONDS if given."""

import sys
import time

code = int(sys.argv[1]) if len(sys.argv) > 1 else 0
print("ready", flush=True)
time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0)
sys.exit(code)
