"""Agents of 600 MiB in 1 GiB, by `seqsup bench`: several tries of each row, with 3, 5 and 10 agents.

python benchmarks/seed_table.py [TRIES]     # any user; the kernel keeps the limit where a cgroup can be made
"""

import json
import os
import statistics
import subprocess
import sys

from lab import MIB, SEQSUP, Lab

COUNTS, TRIES, LIMIT = (3, 5, 10), 3, "1GiB"


def main(tries: int) -> int:
    print(f"600 MiB each in {LIMIT}; {tries} tries of each row; load {os.getloadavg()[0]:.1f}\n")
    print("| way | agents | crashed | tries with a crash | peak | time |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    worst = 0
    for count in COUNTS:
        ways: list[list[dict[str, float]]] = []
        for _ in range(tries):
            with Lab() as lab:
                words = [*SEQSUP, "bench", "--agents", str(count), "--memory", LIMIT, "--json"]
                said = subprocess.run(words, env=lab.env, stdout=subprocess.PIPE, check=False)
                worst = max(worst, said.returncode)
                ways.append(json.loads(said.stdout)["ways"])
        for rows in zip(*ways, strict=True):
            way, crashed = rows[0]["way"], [row["crashed"] for row in rows]
            print(
                f"| {way} | {count} | {sum(crashed)} of {count * tries} | {sum(map(bool, crashed))} of {tries}"
                f" | {max(row['peak'] or 0 for row in rows) / MIB:.0f} MiB"
                f" | {statistics.median(row['seconds'] for row in rows):.1f} s |", flush=True,
            )  # fmt: skip
    return worst


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIES))
