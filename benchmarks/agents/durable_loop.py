"""The least that a journalled queue can do: each job of a file, with a write that reaches the disk before and after."""

import os
import sys

with open(sys.argv[1]) as jobs, open(sys.argv[2], "ab", buffering=0) as journal:  # noqa: PTH123 (no pathlib to import)
    for job in map(str.split, jobs):
        for moment in ("start", "end"):
            journal.write(f"{job} {moment}\n".encode().ljust(400))
            os.fdatasync(journal.fileno())
            if moment == "start":
                os.waitpid(os.posix_spawn(job[0], job, os.environ), 0)
