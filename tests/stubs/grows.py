"""Grows to MIB MiB of touched memory, then says ready and holds it: as fast as the machine allows, or with
--rate by that many MiB a second."""

import argparse
import signal
import time

MIB = 1024 * 1024

parser = argparse.ArgumentParser()
parser.add_argument("mib", type=int)
parser.add_argument("--rate", type=float)
args = parser.parse_args()

signal.alarm(60)  # a faulty test must not leave it for ever
held = []
began = time.monotonic()
for n in range(args.mib):
    held.append(b"x" * MIB)  # written, so every page is resident
    if args.rate:
        time.sleep(max(0.0, began + (n + 1) / args.rate - time.monotonic()))
print("ready", flush=True)
while True:
    signal.pause()
