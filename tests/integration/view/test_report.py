"""The report: what it shows of a history, that it is one file, and how it looks in a real browser."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from helpers.command_line import Result
from helpers.monitoring import free_port, prometheus, promtool, up
from helpers.npm import package
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write
from helpers.told import BEGAN, Told, collected, process
from helpers.waiting import wait_for, without
from seqsup.metrics import backfill
from seqsup.model import conversation
from seqsup.model.enums import Halt, Restart, Verdict
from seqsup.model.events import (
    CompanionExited,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    GcDone,
    GcRequested,
    MemorySampled,
    Owner,
    Recorded,
    RunEnded,
    StopSent,
)
from seqsup.model.process import Heap
from seqsup.model.reason import Reason
from seqsup.units import MIB
from seqsup.view.report.page import page
from seqsup.view.report.story import MarkKind, Story, tell

HEAP = Heap(used=60 * MIB, total=80 * MIB, limit=512 * MIB, external=200 * MIB, array_buffers=190 * MIB)


def sample(at: float, name: str, number: int, used: int, peak: int | None = None) -> MemorySampled:
    return MemorySampled(
        at=BEGAN + at, mono=at, agent=name, attempt=number, used=used, peak=used if peak is None else peak, processes=2,
        host_available=4096 * MIB - used, programs={f"node {name}.js": used}, heap=HEAP,
    )  # fmt: skip


def night() -> tuple[Told, list[MemorySampled]]:
    """One that works, one that leaks twice and is stopped, one that is skipped; then a resumed part."""
    held = (process(7, "node <leak> & co.js", 390 * MIB), process(8, "chrome --headless", 20 * MIB))
    told = Told().run("triage", "crawl", "report").started("triage")
    told.clock += 60
    told.ended("triage", peak=171 * MIB, hard=400 * MIB, exit_code=0).drained("triage").agent_ended("triage")
    samples = [sample(5 + n, "triage", 1, min(n, 40) * 4 * MIB, 171 * MIB if n == 30 else None) for n in range(55)]
    for number in (1, 2):
        told.attempt_started("crawl", number, 400 * MIB).spawned("crawl", number)
        began = told.clock
        samples += [sample(began + n, "crawl", number, n * 20 * MIB) for n in range(20)]
        told.clock += 15
        crawl = Owner(name="crawl", number=number)
        told.tell(GcRequested(owner=crawl, used=310 * MIB, limit=300 * MIB, processes=1))
        told.tell(GcDone(owner=crawl, used=312 * MIB, collection=collected(verdict=Verdict.BUFFER_LEAK)))
        why = "the tree reached 410 MiB (memory.hard 400 MiB)"
        told.tell(
            StopSent(
                agent="crawl", attempt=number, signal="SIGKILL", reason=Reason.HARD, why=why, processes=held
            )
        )  # fmt: skip
        told.ended("crawl", Reason.HARD, number=number, why=why, peak=410 * MIB, hard=400 * MIB, processes=held)
        told.drained("crawl", number)
        if number == 1:
            told.retry("crawl")
    told.agent_ended("crawl", Reason.HARD, why=why, attempts=2).skipped("report").halt(Halt.AFTER_AGENT)
    told.run_ended(1)
    told.clock += 8 * 3600
    return told.run("triage", "crawl", "report", resumed=True, before=("triage",)).run_ended(0), samples


@pytest.mark.parametrize("jump", [86_400, -86_400, -7])
def test_the_picture_is_the_same_whatever_the_calendar_does(jump: int) -> None:
    """It is set while the first agent runs, and again between the two parts of the run."""
    told, samples = night()
    steady = tell(told.events, samples)

    def shifted(at: float) -> float:
        return at + jump * ((at > BEGAN + 30) + (at > BEGAN + 4000))

    events = [structs.replace(each, at=shifted(each.at)) for each in told.events]
    set_back = tell(events, [structs.replace(each, at=shifted(each.at)) for each in samples])
    first, second = set_back.parts
    assert first == steady.parts[0]
    assert second.began >= first.ended
    assert second.ended - second.began == pytest.approx(steady.parts[1].ended - steady.parts[1].began)
    assert set_back.attempts == steady.attempts
    assert set_back.marks == steady.marks


@pytest.mark.parametrize("jump", [86_400, -86_400, -7])
def test_figures_filled_in_later_are_the_same_whatever_the_calendar_does(jump: int) -> None:
    told = Told().run("a", "b").started("a")
    told.clock += 30
    told.ended("a").drained("a").agent_ended("a").started("b")
    told.clock += 30
    told.ended("b").run_ended(0)
    samples = [sample(3 + n, "a", 1, n * MIB) for n in range(30)]

    def shifted(each: Recorded | MemorySampled) -> Any:
        return structs.replace(each, at=each.at + jump * (each.at > BEGAN + 20))

    set_meanwhile = backfill.text(map(shifted, told.events), map(shifted, samples))
    assert set_meanwhile == backfill.text(told.events, samples)


def story() -> Story:
    told, samples = night()
    return tell(told.events, samples)


def made(of: Story | None = None) -> str:
    return page(of or story(), forensics={}, zone=UTC)


class _Reader(HTMLParser):
    """Elements of a page: open elements, texts, attributes that lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.leading: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        leads = ("src", "href", "srcset", "xlink:href", "action")
        self.leading += [value for name, value in attrs if name in leads and value and not value.startswith("#")]
        if tag not in ("meta", "line", "polyline", "polygon", "rect"):
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    assert reader.stack == []
    return reader


def test_attempts_marks_and_parts_are_shown() -> None:
    found = story()
    assert [(each.agent, each.number, each.reason) for each in found.attempts] == [
        ("triage", 1, Reason.COMPLETED), ("crawl", 1, Reason.HARD), ("crawl", 2, Reason.HARD),
    ]  # fmt: skip
    assert [len(attempt.samples) for attempt in found.attempts] == [55, 20, 20]
    kinds = [mark.kind for mark in found.marks]
    assert (kinds.count(MarkKind.KILL), kinds.count(MarkKind.COLLECTION), kinds.count(MarkKind.RETRY)) == (2, 4, 1)
    assert len(found.parts) == 2
    assert found.parts[1].began - found.parts[0].ended > 7 * 3600
    assert [kill.agent for kill in found.kills] == ["crawl", "crawl"]


def test_leftovers_are_named() -> None:
    told = Told().run("a").started("a")
    told.tell(
        StopSent(agent="a", attempt=1, signal="SIGTERM", reason=None, why="1 left", processes=(process(2, "vite"),))
    )
    (mark,) = tell(told.ended("a").run_ended(0).events, []).marks
    assert mark.text.startswith("SIGTERM to leftovers: 1 left (vite ")


def test_the_page_needs_nothing_else_and_says_all_in_words() -> None:
    reader = read(made())
    assert reader.leading == []
    assert not {"script", "link", "img", "iframe"} & {*reader.tags}
    assert "http" not in made().replace("http-equiv", "")
    for words in (
        "the tree reached 410 MiB",
        "node <leak> & co.js",
        "410 MiB",
        "GC freed 0 B",
        "stop SIGINT",
    ):
        assert words in reader.text, words
    assert reader.tags.count("table") >= 4
    assert reader.tags.count("th") == len(re.findall('<th scope="col"', made()))


def test_failures_come_first_and_link_to_their_details() -> None:
    told, samples = night()
    ended = next(n for n, each in enumerate(told.events, 1) if isinstance(each.body, RunEnded))  # as it was then
    html = made(tell(told.events[:ended], samples))
    top = html.partition("<h2>")[0]
    assert "<strong>1 failed</strong>" in top
    assert "✖ crawl failed</strong>: the tree reached 410 MiB" in top
    links = re.findall(r'href="#([^"]+)"', html)
    assert links == ["crawl-2"]
    assert html.count('id="crawl-2"') == 1
    assert '<tr class="bad"><td>crawl</td>' in html
    assert '<tr class="bad"><td>triage</td>' not in html


def test_name_of_an_agent_is_shown_once_below_its_attempts() -> None:
    names = re.findall(r'<text class="name"[^>]*>([^<]*)<', made())
    assert names == ["triage", "crawl"]


def test_names_of_several_at_a_time_stand_apart() -> None:
    told = Told().run("a", "b", "c")
    for name in "abc":
        told.attempt_started(name)
    told.clock += 60
    for name in "abc":
        told.ended(name, peak=(90 if name == "c" else 9) * MIB).drained(name).agent_ended(name)
    of = tell(told.run_ended(0).events, [sample(5 + n, name, 1, 9 * MIB) for n in range(50) for name in "abc"])
    html = made(structs.replace(of, concurrency=3))
    assert "<dt>agents</dt><dd>3 at a time at your own risk: their memory adds up</dd>" in html
    assert "at your own risk" not in made(of)
    heights = [float(y) for y in re.findall(r'<text class="name" [^>]*y="([\d.]+)"', html)]
    assert len(heights) == 3
    assert all(one - other >= 12 for one, other in pairwise(heights))


def test_names_of_agents_are_escaped() -> None:
    told = Told(name='<b>"x"</b>').run("a").started("a")
    some = (process(1, "<script>alert(1)</script>"),)
    stop = StopSent(agent="a", attempt=1, signal="SIGKILL", reason=Reason.HARD, why="<i>", processes=some)
    told.tell(stop).ended("a", Reason.HARD, why="<i>").agent_ended("a", Reason.HARD, why="<i>\x1b[2J").run_ended(1)
    html = page(tell(told.events, [sample(2, "a", 1, 9)]), forensics={}, zone=UTC)
    assert not {"script", "b", "i"} & {*read(html).tags}
    assert "\x1b" not in html


def test_no_spike_is_lost_in_a_night_and_the_page_stays_small() -> None:
    told = Told().run("a").started("a")
    told.clock += 8 * 3600
    samples = [sample(3 + n, "a", 1, 100 * MIB, 3000 * MIB if n == 12_345 else None) for n in range(8 * 3600)]
    told.ended("a", peak=3000 * MIB, hard=4096 * MIB).drained("a").agent_ended("a").run_ended(0)
    html = made(tell(told.events, samples))
    assert len(html.encode()) < 200_000
    (band,) = re.findall(r'class="band" points="([^"]*)"', html)
    heights = [float(pair.split(",")[1]) for pair in band.split()]
    assert min(heights) < 120 < 230 < max(heights)


def many(agents: int, seconds: int, kills: int) -> str:
    """A night of so many agents, of which some are killed at their limit."""
    told, samples = Told().run(*(f"frontend-developer-{n}" for n in range(agents))), []
    why = "the tree reached 410 MiB (memory.hard 400 MiB)"
    for n in range(agents):
        name, bad = f"frontend-developer-{n}", n % (agents // kills) == 0
        told.attempt_started(name, 1, 400 * MIB).spawned(name)
        used = [k * 400 * MIB // seconds if bad else (50 + k * 7 % 90) * MIB for k in range(seconds - 5)]
        samples += [sample(told.clock + k, name, 1, size) for k, size in enumerate(used)]
        told.clock += seconds - 4
        if bad:
            held = tuple(process(100 + k, f"node /home/agents/{name}.mjs --worker={k}", MIB) for k in range(8))
            told.tell(
                StopSent(agent=name, attempt=1, signal="SIGKILL", reason=Reason.HARD, why=why, processes=held)
            )  # fmt: skip
            told.ended(name, Reason.HARD, why=why, peak=410 * MIB, hard=400 * MIB, processes=held)
        else:
            told.ended(name, peak=140 * MIB, hard=400 * MIB, exit_code=0)
        told.drained(name).agent_ended(name, Reason.HARD if bad else Reason.COMPLETED, why=why if bad else "")
    return made(tell(told.run_ended(1).events, samples))


@pytest.mark.parametrize(("agents", "seconds", "kills"), [(96, 300, 24), (480, 60, 60)])
def test_the_page_of_a_night_stays_small_however_many_agents_ran(agents: int, seconds: int, kills: int) -> None:
    html = many(agents, seconds, kills)
    assert len(html.encode()) < 200_000
    text = read(html).text
    assert html.count("<article ") + int(re.findall(r"(\d+) more, in short", text)[0]) == kills
    for n in range(0, agents, agents // kills):  # each of them is in the table of agents
        assert f"<td>frontend-developer-{n}</td>" in html


def test_peak_is_marked_where_the_attempt_was_stopped() -> None:
    told = Told().run("a").attempt_started("a", 1, 400 * MIB)
    samples = [sample(told.clock + n, "a", 1, 20 * MIB) for n in range(40)]
    told.clock += 40
    stop = StopSent(agent="a", attempt=1, signal="SIGKILL", reason=Reason.HARD, why="", processes=())
    stopped = told.tell(stop).events[-1].at
    samples.append(sample(told.clock + 10, "a", 1, 5 * MIB, 410 * MIB))  # with the peak since the one before
    told.clock += 20
    told.ended("a", Reason.HARD, peak=410 * MIB, hard=400 * MIB).drained("a").agent_ended("a", Reason.HARD)
    found = tell(told.run_ended(1).events, samples)
    html = made(found)
    (line,) = re.findall(r'class="line" points="([^"]*)"', html)
    highest = min((tuple(map(float, pair.split(","))) for pair in line.split()), key=lambda pair: pair[1])
    (mark,) = re.findall(r'class="mark kill">.*?x1="([^"]*)"', html, re.DOTALL)
    assert highest[0] == pytest.approx(float(mark), abs=1)
    assert stopped == found.attempts[0].stopped
    assert "From 20 MiB to 410 MiB in its last 30 s: 13 MiB/s." in read(html).text


def test_times_are_right_though_the_calendar_was_set_back() -> None:
    told = Told().run("a").started("a")
    told.clock -= 86400
    told.ended("a", Reason.HARD, peak=9 * MIB, seconds=20).drained("a").agent_ended("a", Reason.HARD).run_ended(1)
    html = made(tell(told.events, [sample(5, "a", 1, 9 * MIB)]))
    assert "<td>20 s</td>" in html
    assert "<td>-" not in html


def test_memory_that_did_not_come_back_is_so_in_both_tables() -> None:
    told = Told().run("a", "b").attempt("a").drained("a", seconds=0.5).agent_ended("a")
    told.attempt("b").drained("b", seconds=4, why="too little").agent_ended("b").run_ended(4)
    agents, attempts = made(tell(told.events, [])).split("<h2>Attempts</h2>")
    assert all(
        ("0.5 s<" in each, "&gt; 4 s<" in each, ">4 s<" in each) == (True, True, False) for each in (agents, attempts)
    )


def test_attempt_that_was_running_when_the_supervisor_died_is_lost() -> None:
    died = tell(Told().run("a", "b").attempt("a").drained("a").agent_ended("a").started("b").events, [])
    died.view.lose()
    assert [(attempt.reason, attempt.ok) for attempt in died.attempts] == [("completed", True), ("lost", False)]


def test_companions_have_marks_and_a_table() -> None:
    told, samples = Told().run("a"), []
    for number in (1, 2, 3):
        told.tell(CompanionStarted(companion="mcp", number=number, pid=9, command=("mcp",), folder=f"mcp/{number}"))
        told.tell(CompanionReady(companion="mcp", number=number, seconds=0.5))
        if number > 1:
            told.tell(CompanionRestarted(companion="mcp", number=number, reason=Restart.EVERY_N, why="1 agent ended"))
        told.started("a", number)
        held = sample(told.clock + 1, "a", number, 9 * MIB)
        samples.append(structs.replace(held, companions={"mcp": number * 10 * MIB}))
        told.clock += 5
        told.ended("a", number=number).drained("a", number)
    told.tell(
        CompanionExited(
            companion="mcp", number=3, why="exit 1", exit_code=1, signal=None, seconds=1, folder="mcp/3", output=""
        )
    )  # fmt: skip
    found = tell(told.agent_ended("a").run_ended(0).events, samples)
    assert [mark.kind for mark in found.marks] == [MarkKind.RESTART, MarkKind.RESTART, MarkKind.TROUBLE]
    text = " ".join(read(made(found)).text.split())
    assert "companion restarted" in text
    rows = re.findall(r"<tr><td>mcp</td>.*?</tr>", made(found))
    assert [re.sub("<[^>]*>", "|", row).replace("||", "|").strip("|") for row in rows] == [
        "mcp|3|1|30 MiB|0.5 s|2 × every-n|exit 1"
    ]


def test_several_agents_at_a_time_are_shown() -> None:
    events = Told().run("a").started("a").ended("a").run_ended(0).events
    began = structs.replace(events[0].body, concurrency=3)
    text = read(made(tell([structs.replace(events[0], body=began), *events[1:]], []))).text
    assert "Up to 3 at a time." in text
    assert "one after another" not in text.lower()


def test_active_run_and_run_without_agents() -> None:
    told = Told().run("a").started("a")
    html = made(tell(told.events, [sample(3 + n, "a", 1, n * MIB) for n in range(9)]))
    assert "running" in read(html).text
    assert "Nothing ran." in read(made(tell(Told().run("a", skips={"b": "x"}).events, []))).text
    assert "<svg" not in made(tell([], []))


def test_the_figures_of_a_run_can_be_filled_in_later(tmp_path: Path) -> None:
    told, samples = night()
    (tmp_path / "om.txt").write_bytes(backfill.text(told.events, samples))
    promtool("tsdb", "create-blocks-from", "openmetrics", tmp_path / "om.txt", tmp_path / "data")
    with prometheus(tmp_path, None, "--query.lookback-delta=10s") as server:
        at = BEGAN + 90
        assert server.query("seqsup_agent_tree_rss_bytes", at)[0]["metric"]["agent"] == "crawl"
        kills = 'seqsup_agent_kills_total{agent="crawl",reason="hard"}'
        assert server.query(f"max_over_time({kills}[10m])", BEGAN + 400)[0]["value"][1] == "2"
        assert float(server.query(f"increase({kills}[5m])", BEGAN + 130)[0]["value"][1]) > 1
        assert server.query("sum(seqsup_phase) ", at)[0]["value"][1] == "1"


def test_report_writes_a_page_an_object_or_figures(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    leak = ["node", "-e", "const h = []; setInterval(() => h.push(Buffer.alloc(4e6, 1)), 25)"]
    profile = write(
        tmp_path, shell("sleeps", "sleep 1.2"),
        agent("leaks", leak, memory={"soft": "none", "hard": "250MiB", "enforce": "watch"}),  # the kernel may be first
        run={"on_failure": "continue"},
    )  # fmt: skip
    assert seqsup("start", profile).code == 1
    result = seqsup("report")
    assert result.stdout == "nightly-r1.html\n"
    text = read((tmp_path / "nightly-r1.html").read_text()).text
    assert "the tree reached " in text
    assert "allocation sites" in text  # its forensics
    told = json.loads(seqsup("report", "r1", "--json").stdout)
    assert (told["schema"], told["state"]) == ("seqsup.report/1", "failed")
    assert [attempt["reason"] for attempt in told["attempts"]] == ["completed", "hard"]
    assert seqsup("report", "--openmetrics").stdout.endswith("# EOF\n")
    assert seqsup("report", "-o", "-").stdout.startswith("<!DOCTYPE html>")
    assert seqsup("report", "--json", "--openmetrics").code == 2


# -- a real browser


def chromium() -> str:
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or without("no chromium on PATH (Debian: chromium-headless-shell)", "SEQSUP_NO_BROWSER")


FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
_ASKS = """
import fs from 'node:fs';
const [, , port, file, axe, shots] = process.argv;
let target;
while (!target) {
  target = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()).find((each) => each.type === 'page');
}
const socket = new WebSocket(target.webSocketDebuggerUrl);
await new Promise((done) => { socket.onopen = done; });
let number = 0;
const waiting = new Map();
const seen = { requests: [], complaints: [] };
let loaded;
socket.onmessage = ({ data }) => {
  const said = JSON.parse(data);
  if (said.id) waiting.get(said.id)(said.result);
  if (said.method === 'Page.loadEventFired') loaded?.();
  if (said.method === 'Network.requestWillBeSent') seen.requests.push(said.params.request.url);
  if (said.method === 'Runtime.exceptionThrown' || said.method === 'Log.entryAdded') seen.complaints.push(said.params);
};
const ask = (method, params = {}) => new Promise((done) => {
  waiting.set(++number, done);
  socket.send(JSON.stringify({ id: number, method, params }));
});
for (const domain of ['Page', 'Network', 'Runtime', 'Log']) await ask(`${domain}.enable`);
const results = {};
for (const scheme of ['light', 'dark']) {
  await ask('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  await ask('Page.setBypassCSP', { enabled: true });
  const load = new Promise((done) => { loaded = done; });
  await ask('Page.navigate', { url: `file://${file}` });
  await load;
  await new Promise((done) => setTimeout(done, 700));
  const requests = [...seen.requests], complaints = [...seen.complaints];
  await ask('Runtime.evaluate', { expression: fs.readFileSync(axe, 'utf8') });
  const ran = await ask('Runtime.evaluate', {
    expression: `axe.run().then(({ violations }) =>
      JSON.stringify(violations.map((v) => [v.id, v.nodes.map((n) => n.html)])))`,
    awaitPromise: true,
  });
  const evaluate = async (expression) => (await ask('Runtime.evaluate', { expression })).result.value;
  const stops = `[...document.querySelectorAll('[tabindex="0"], summary')]`;
  const wanted = await evaluate(`${stops}.length`);
  const reached = new Set();
  for (let n = 0; n < wanted + 2; n++) {
    for (const type of ['rawKeyDown', 'keyUp']) {
      await ask('Input.dispatchKeyEvent', { type, key: 'Tab', code: 'Tab', windowsVirtualKeyCode: 9 });
    }
    reached.add(await evaluate(`${stops}.indexOf(document.activeElement)`));
  }
  reached.delete(-1);
  const { data } = await ask('Page.captureScreenshot', { captureBeyondViewport: true });
  fs.writeFileSync(`${shots}/report-${scheme}.png`, Buffer.from(data, 'base64'));
  const violations = JSON.parse(ran.result.value);
  results[scheme] = { requests, complaints, violations, wanted, reached: reached.size };
}
await ask('Emulation.setEmulatedMedia', { media: 'print' });
const printed = await ask('Page.printToPDF', {});
results.pdf = printed.data.length;
console.log(JSON.stringify(results));
process.exit(0);
"""


@pytest.mark.long
@pytest.mark.memory
@pytest.mark.timeout(300)
def test_a_real_browser_shows_a_real_run_without_complaint_or_request_and_axe_finds_nothing(
    seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    """In light and dark; with a keyboard what scrolls can be reached, and it prints. build/ has what it looks like."""
    leak = ["node", "-e", "const h = []; setInterval(() => h.push(Buffer.alloc(4e6, 1)), 25)"]
    profile = write(
        tmp_path, shell("works", "sleep 2.5; exit 3", retry={"attempts": 2, "on": ["failed"]}),
        agent("leaks", leak, memory={"soft": "150MiB", "hard": "250MiB", "sustain": "500ms", "settle": "500ms"}),
        shell("leaves", "sleep 60 & sleep 1.5"), run={"on_failure": "continue"},
        companions=[{"name": "mcp", "command": ["sleep", "600"], "ready": {"delay": "100ms"}, "restart_every": 1}],
    )  # fmt: skip
    assert seqsup("start", profile).code == 1
    html, asks, port = tmp_path / "report.html", tmp_path / "asks.mjs", free_port()
    assert seqsup("report", "-o", html).code == 0
    asks.write_text(_ASKS)
    shots = ROOT / "build"
    shots.mkdir(exist_ok=True)
    command = [
        chromium(), *FLAGS, f"--remote-debugging-port={port}", f"--user-data-dir={tmp_path / 'user'}", "about:blank",
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    browser = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        wait_for(lambda: up(f"http://127.0.0.1:{port}/json/list"), 60)
        axe = package("axe-core", "4.11.0") / "axe.min.js"
        node = ["node", "--experimental-websocket", str(asks), str(port), str(html), str(axe), str(shots)]
        done = subprocess.run(node, capture_output=True, text=True, timeout=200, check=False)
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait(40)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for scheme in ("light", "dark"):
        assert {*told[scheme]["requests"]} == {f"file://{html}"}
        assert told[scheme]["complaints"] == []
        assert told[scheme]["violations"] == []
        assert told[scheme]["reached"] == told[scheme]["wanted"] > 4
        assert (shots / f"report-{scheme}.png").stat().st_size > 10_000
    assert told["pdf"] > 10_000


def test_conversations_are_a_table_with_their_results() -> None:
    heard = conversation.Conversation(
        model="opus", turns=3, tokens=conversation.Tokens(input=412_000), usd=0.42, usd_is_partial=True,
        result=conversation.Result(kind=conversation.ResultKind.COMPLETED, text="all <b>done</b>"),
    )  # fmt: skip
    told = Told().run("plan", "lint").attempt("plan", conversation=heard).agent_ended("plan")
    told.attempt("lint").agent_ended("lint").run_ended(0)
    made = page(tell(told.events, ()), forensics={}, zone=UTC)
    table = made.partition("<h2>Conversations</h2>")[2].partition("</section>")[0]
    cells = re.findall(r">([^<>\n]+)</t[hd]>", table)
    assert cells[-6:] == ["plan", "opus", "3", "412k", "≥ $0.42", "all &lt;b&gt;done&lt;/b&gt;"]
    plain = page(tell(Told().run("a").attempt("a").events, ()), forensics={}, zone=UTC)
    assert "Conversations" not in plain
