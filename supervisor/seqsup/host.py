"""The machine: its memory, its boot, its processors."""

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


class Host:
    """Reads what changes through descriptors kept open: the watcher asks up to a thousand times a second."""

    def __init__(self) -> None:
        self._meminfo = os.open("/proc/meminfo", os.O_RDONLY)
        self._own = os.open("/proc/self/statm", os.O_RDONLY)
        self.cpus = len(os.sched_getaffinity(0))

    def available(self) -> int:
        """MemAvailable in bytes."""
        text = os.pread(self._meminfo, 256, 0)
        start = text.index(b"MemAvailable:") + 13
        return int(text[start : text.index(b"kB", start)]) * 1024

    def own(self) -> int:
        """The supervisor's own memory in bytes, shared pages left out."""
        fields = os.pread(self._own, 128, 0).split()
        return (int(fields[1]) - int(fields[2])) * PAGE

    def oom_kills(self) -> int:
        """Kills by the kernel for want of memory since boot."""
        _, _, rest = Path("/proc/vmstat").read_bytes().partition(b"\noom_kill ")  # there since Linux 4.13
        return int(rest.split(None, 1)[0]) if rest else 0

    def close(self) -> None:
        os.close(self._meminfo)
        os.close(self._own)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
