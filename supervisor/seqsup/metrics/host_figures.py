"""Figures that are read at a scrape: those of the machine, and the proportional share of the running tree."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field


class HostFigures(Struct, frozen=True, kw_only=True):
    """Figures that are read at a scrape: those of the machine, and those that cost too much for every sample."""

    totals: Mapping[str, float] = field(default_factory=dict)  # metric -> value
    shares: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # agent -> PSS and swap, in bytes


def look(trees: Mapping[str, Iterable[int]], bounds: Iterable[tuple[int, int]] = ()) -> HostFigures:
    """Read it, in the thread that asks: `trees` are the pids of each agent, `bounds` the limit and the room of each
    group with one that we live in. What cannot be read is left out."""
    found = {agent: [share for pid in pids if (share := _share(pid)) is not None] for agent, pids in trees.items()}
    shares = {
        agent: (sum(pss for pss, _ in some), sum(swap for _, swap in some)) for agent, some in found.items() if some
    }
    return HostFigures(totals={**_memory(tuple(bounds)), **_pressure(), **_kills()}, shares=shares)


def _memory(bounds: tuple[tuple[int, int], ...]) -> dict[str, float]:
    told = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
    size = {name: int(text.split()[0]) * 1024 for name, text in told.items()}
    return {
        "host_memory_total_bytes": min([size["MemTotal"], *(limit for limit, _ in bounds)]),
        "host_memory_available_bytes": min([size["MemAvailable"], *(room for _, room in bounds)]),
        "host_swap_used_bytes": size["SwapTotal"] - size["SwapFree"],
    }


def _pressure() -> dict[str, float]:
    """Empty where the kernel has no PSI."""
    names = {"some": "waiting", "full": "stalled"}
    found: dict[str, float] = {}
    for line in _read("/proc/pressure/memory").splitlines():
        kind, _, rest = line.partition(" ")
        total = rest.rpartition("total=")[2]
        found[f"host_pressure_memory_{names[kind]}_seconds_total"] = int(total) / 1e6
    return found


def _kills() -> dict[str, float]:
    _, _, rest = _read("/proc/vmstat").partition("\noom_kill ")
    return {"host_oom_kills_total": int(rest.split(None, 1)[0])} if rest else {}


def _share(pid: int) -> tuple[int, int] | None:
    """Pss and Swap in bytes; None when it is gone or not ours to read."""
    told = dict(line.split(":", 1) for line in _read(f"/proc/{pid}/smaps_rollup").splitlines()[1:])
    if "Pss" not in told:
        return None
    return int(told["Pss"].split()[0]) * 1024, int(told.get("SwapPss", told.get("Swap", "0 kB")).split()[0]) * 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
