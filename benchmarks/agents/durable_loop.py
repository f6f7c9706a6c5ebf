"""The least that a journalled queue can do: before each job of a file, a write that reaches the disk."""

import os
import sys

with open(sys.argv[1]) as jobs, open(sys.argv[2], "ab", buffering=0) as journal:  # noqa: PTH123 (no pathlib to import)
    for job in map(str.split, jobs):
        journal.write(f"{job} starts\n".encode().ljust(400))
        os.fdatasync(journal.fileno())
        os.waitpid(os.posix_spawn(job[0], job, os.environ), 0)
        journal.write(f"{job} ended\n".encode().ljust(400))
