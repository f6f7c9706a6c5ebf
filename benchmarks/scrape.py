"""Cost of Prometheus scrapes: with few and many agents, during a storm of kills, and for a whole run."""

import socket
import statistics
import sys
import time
import urllib.request
from pathlib import Path

from lab import AGENTS, NODE, SEQSUP, Lab, Row, Supervised

SIZES, SCRAPES = {12: 50.0, 200: 250.0}, 30  # agents: milliseconds that a scrape may take
STORM, BOMBS = 20.0, 40  # seconds, and fork bombs one after another
RUNS = 15
PATIENCE = 10.0  # seconds
BOMB = Path(__file__).resolve().parent.parent / "tests" / "stubs" / "fork_bomb.py"


def measure(lab: Lab) -> list[Row]:
    rows = [row for size in SIZES for row in agents(lab, size)]
    return [*rows, *storm(lab), *memory(lab), start(lab)]


def agents(lab: Lab, size: int) -> list[Row]:
    """The first of so many idles, the others wait."""
    run, url = serve(lab, f"many-{size}", [(f"agent-{n}", ["sleep", "600"]) for n in range(size)])
    first, _ = scrape(url)
    taken, sizes = [], []
    for _ in range(SCRAPES):
        seconds, text = scrape(url)
        taken.append(seconds)
        sizes.append(len(text))
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    run.end()
    beside = f"{series} series, {statistics.median(sizes) / 1000:.0f} kB; the first scrape {first:.0f} ms"
    return [Row(f"scrape of a profile of {size} agents", taken, "ms", beside, target=SIZES[size])]


def storm(lab: Lab) -> list[Row]:
    """Scrape as fast as it goes while fork bombs are killed, one after another; in turn with a page that lies ready."""
    bombs = [(f"bomb-{n}", [sys.executable, "-S", "-E", str(BOMB), "tree", "60", lab.mark]) for n in range(BOMBS)]
    tables = ("[timeouts]", 'wall = "300ms"', 'grace = "0s"', "[retry]", "attempts = 1")
    run, url = serve(lab, "storm", bombs, *tables)
    (lab.folder / "metrics").write_bytes(scrape(url)[1])
    port = free_port()
    page = f"http://127.0.0.1:{port}/metrics"
    server = lab.start([sys.executable, "-m", "http.server", str(port), "-b", "127.0.0.1", "-d", str(lab.folder)])
    answers(page)
    taken: dict[str, list[float]] = {url: [], page: []}
    ends = time.monotonic() + STORM
    while time.monotonic() < ends:
        try:
            for each, seconds in taken.items():
                seconds.append(scrape(each)[0])
        except OSError:
            break  # all of them are over
        time.sleep(0.02)
    run.end()
    lab.end(server)
    return [
        Row("scrape while fork bombs are killed", taken[url], "ms", tail_of(taken[url]), target=50.0),
        Row("floor: a page of http.server in the same storm", taken[page], "ms", tail_of(taken[page])),
    ]


def tail_of(taken: list[float]) -> str:
    slow = sum(seconds > 50 for seconds in taken)
    return f"{len(taken)} scrapes, {slow} over 50 ms, 95 % below {statistics.quantiles(taken, n=20)[-1]:.0f} ms"


def answers(url: str) -> None:
    """Wait until the server at this URL answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            scrape(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def memory(lab: Lab) -> list[Row]:
    """The supervisor's memory with metrics off, on, and read."""
    if NODE is None:
        return []
    rows = []
    for how in ("off", "on, not read", "on and read"):
        idle = [("idle", [NODE, str(AGENTS / "idle.mjs")])]
        run, url = serve(lab, f"idle-{len(how)}", idle, on=how != "off")
        if how == "on and read":
            for _ in range(SCRAPES):
                scrape(url)
        time.sleep(1.5)
        rows.append(Row(f"supervisor's RSS, metrics {how}", [run.resident()], "MiB"))
        run.end()
    return rows


def start(lab: Lab) -> Row:
    """Measure what metrics add to `seqsup run -- true`. Both take turns, so that the machine's load affects both."""
    with_metrics: list[float] = []
    without: list[float] = []
    for _ in range(RUNS):
        for kept, listen in ((without, "none"), (with_metrics, f"127.0.0.1:{free_port()}")):
            lab.env["SEQSUP_METRICS_LISTEN"] = listen
            kept.append(lab.seconds([*SEQSUP, "run", "--", "true"]) * 1000)
    del lab.env["SEQSUP_METRICS_LISTEN"]
    off = statistics.median(without)
    return Row(
        "`seqsup run -- true` with metrics, over without", [each - off for each in with_metrics], "ms",
        f"without {off:.0f} ms",
    )  # fmt: skip


def serve(
    lab: Lab, name: str, some: list[tuple[str, list[str]]], *tables: str, on: bool = True
) -> tuple[Supervised, str]:
    """A run that is served, from when its first agent runs."""
    port = free_port()
    listen = f"127.0.0.1:{port}" if on else "none"
    tables = ("[metrics]", f'listen = "{listen}"', *tables, "[drain]", 'available = "none"')
    run = lab.supervise(lab.profile(name, some, *tables))
    run.until("spawned", some[0][0])
    return run, f"http://127.0.0.1:{port}/metrics"


def scrape(url: str) -> tuple[float, bytes]:
    """Milliseconds and text."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: bytes = answer.read()
    return (time.perf_counter() - began) * 1000, text


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
