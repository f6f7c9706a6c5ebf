"""Metrics: their values for any history, their format, and that they reach their readers."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from helpers.command_line import Result, Started
from helpers.monitoring import binary, free_port, get, prometheus, promtool, running, up
from helpers.profiles import agent, of, proven, shell, write
from helpers.told import Told, collected, process
from helpers.waiting import alive, wait_for
from seqsup.metrics import figures
from seqsup.metrics.catalogue import BY_NAME, METRICS, Collected
from seqsup.metrics.endpoint import Endpoint
from seqsup.metrics.exposition import Collector, application, text
from seqsup.metrics.figures import NAMED, NAMES, AgentFigures, CompanionFigures, Figures, Histogram, apply, divide
from seqsup.metrics.files import publish
from seqsup.metrics.host_figures import HostFigures, look
from seqsup.metrics.http_server import OPEN
from seqsup.metrics.rows import rows
from seqsup.model.conversation import Conversation, ProviderLimit, Tokens
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import (
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    CompanionStopped,
    GcDone,
    GcRequested,
    Owner,
    Recorded,
    RunStarted,
    StopSent,
    Unkillable,
)
from seqsup.model.history import History
from seqsup.model.process import Heap, Observation, ProcessMemory, Sample
from seqsup.model.reason import Reason
from seqsup.units import MIB

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

AGENTS = ("a", "b", "c")
HOST = HostFigures(
    totals={"host_memory_available_bytes": 1.0, "host_oom_kills_total": 2.0}, shares=dict.fromkeys("abc", (5, 0))
)


class Counted(Figures, frozen=True, kw_only=True):
    """Metrics with the events that they count, so that a test can add more."""

    told: tuple[Recorded, ...] = ()


def fresh(*agents: str) -> Counted:
    made = {name: AgentFigures(limit=1024 * MIB, gc_threshold=768 * MIB) for name in agents or AGENTS}
    return Counted(profile="nightly", agents=made, companions={"mcp": CompanionFigures()}, baseline=20 * MIB)


def after(told: Told, now: Counted | None = None) -> Counted:
    now, history = now or fresh(), History()
    for recorded in now.told:
        history.apply(recorded)
    for recorded in told.events:
        history.apply(recorded)
        now = counted(apply(now, recorded, history.view))
    return replace(now, told=(*now.told, *told.events))


def counted(now: Figures) -> Counted:
    """Tell mypy the class, which `replace` keeps."""
    assert isinstance(now, Counted)
    return now


def observe(now: Counted, seen: Observation, at: float) -> Counted:
    return counted(figures.observe(now, seen, at))


def table(now: Figures) -> dict[tuple[str, tuple[str, ...]], float | Histogram]:
    listed = list(rows(now, HOST, ("1", "3")))
    assert len({(name, labels) for name, labels, _ in listed}) == len(listed), "two rows of one series"
    return {(name, labels): value for name, labels, value in listed}


def stopped(agent: str, signal: str, reason: Reason | None, processes: Iterable[ProcessMemory] = ()) -> StopSent:
    return StopSent(agent=agent, attempt=1, signal=signal, reason=reason, why="", processes=tuple(processes))


def seen(
    agent: str, used: int, *, at: float = 1.0, processes: tuple[ProcessMemory, ...] | None = None,
    heap: Heap | None = None,
) -> Observation:  # fmt: skip
    sample = Sample(at=at, used=used, processes=3, host_available=1024 * MIB)
    return Observation(agent=agent, attempt=1, sample=sample, took=0.001, processes=processes, heap=heap)


def companion(reason: Restart) -> Told:
    told = Told().tell(CompanionStopped(companion="mcp", number=1, reason=reason, seconds=0.1, processes=()))
    told.tell(CompanionStarted(companion="mcp", number=2, pid=9, command=("mcp",), folder="mcp/2"))
    told.tell(CompanionReady(companion="mcp", number=2, seconds=0.1))
    return told.tell(CompanionRestarted(companion="mcp", number=2, reason=reason, why="x"))


def collection(agent: str, freed: int, answered: int = 1) -> Told:
    owner = Owner(name=agent, number=1)
    told = Told().tell(GcRequested(owner=owner, used=9, limit=8, processes=1))
    return told.tell(GcDone(owner=owner, used=9, collection=collected(freed, answered=answered)))


# -- any history

SIZES = st.integers(0, 2**42)
SOME = st.lists(
    st.builds(process, st.integers(1, 9), st.sampled_from([f"program{n}" for n in range(50)] + ["other"]), SIZES),
    max_size=8,
).map(tuple)
REASONS = st.sampled_from([reason for reason in Reason if reason not in (Reason.SKIPPED, Reason.LOST)])
STOPS = st.none() | st.sampled_from([Reason.HARD, Reason.SOFT, Reason.TIMEOUT, Reason.HALTED])


def _told(what: str, agent: str, reason: Reason, stop: Reason | None, some: tuple[ProcessMemory, ...]) -> Told:
    told = Told()
    match what:
        case "started":
            return told.started(agent)
        case "term" | "kill":
            return told.tell(stopped(agent, f"SIG{what.upper()}", stop, some))
        case "ended":
            return told.ended(agent, reason, left_over=some, exit_code=1)
        case "drained":
            return told.drained(agent, why="" if some else "no memory", strays=some)
        case "retry":
            return told.retry(agent)
        case "agent_ended":
            return told.agent_ended(agent, reason)
        case "skipped":
            return told.skipped(agent)
        case "unkillable":
            return told.tell(Unkillable(agent=agent, processes=some, seconds=10))
        case "halt":
            return told.halt(Halt.NOW)
        case "companion":
            return companion(Restart.MEMORY if some else Restart.EVERY_N)
        case "collection":
            return collection(agent, freed=len(some) * MIB)
    return told.run_ended(0 if some else 1)


PARTS = (
    "companion",
    "collection",
    "started", "term", "kill", "ended", "drained", "retry", "agent_ended", "skipped", "unkillable", "halt", "run_ended",
)  # fmt: skip
NEWS = st.one_of(
    st.builds(_told, st.sampled_from(PARTS), st.sampled_from(AGENTS), REASONS, STOPS, SOME),
    st.builds(seen, st.sampled_from(AGENTS), SIZES, at=st.floats(0, 1000), processes=st.none() | SOME),
)


@settings(max_examples=150)
@given(st.lists(NEWS, max_size=30))
def test_whatever_happens_the_figures_hold_together(news: list[Told | Observation]) -> None:
    """Programs add up to the tree; one phase; one state an agent; the queue is the plan; totals only grow, from 0."""
    now = after(Told().run(*AGENTS))
    first = totals = table(now)
    for each in news:
        now = observe(now, each, 5.0) if isinstance(each, Observation) else after(each, now)
        told = table(now)
        assert sum(value for (name, _), value in told.items() if name == "phase") == 1  # type: ignore[misc]
        assert sum(value for (name, _), value in told.items() if name == "queue_agents") == len(AGENTS)  # type: ignore[misc]
        states: dict[str, float] = defaultdict(float)
        parts: dict[str, float] = defaultdict(float)
        for (name, labels), value in told.items():
            assert len(labels) == len(BY_NAME[name].labels)
            if name == "agent_status":
                states[labels[0]] += value  # type: ignore[operator]
            elif name == "agent_process_rss_bytes":
                parts[labels[0]] += value  # type: ignore[operator]
                assert isinstance(value, int)
                assert value >= 0
            elif BY_NAME[name].kind == "counter":
                before = totals[name, labels]  # it was there from the start
                assert value >= before  # type: ignore[operator]
        assert set(states.values()) == {1}
        trees = {labels[0]: value for (name, labels), value in told.items() if name == "agent_tree_rss_bytes"}
        assert trees == parts
        totals = told
    counters = {key for key in first if BY_NAME[key[0]].kind == "counter"}
    assert {key for key in totals if BY_NAME[key[0]].kind == "counter"} == counters
    assert len(now.names) <= NAMES


@given(SOME, st.integers(0, 2**43), st.frozensets(st.sampled_from([f"program{n}" for n in range(50)])))
def test_programs_and_other_add_up_to_the_tree(
    some: tuple[ProcessMemory, ...], used: int, names: frozenset[str]
) -> None:
    parts, known = divide(some, used, names)
    assert sum(parts.values()) == used
    assert all(size >= 0 for size in parts.values())
    assert len(parts) <= NAMED + 1
    assert set(parts) <= known | {"other"}
    assert len(known) <= max(NAMES, len(names))


@settings(max_examples=40)
@given(st.lists(NEWS, max_size=10), st.sampled_from(["text/plain", "application/openmetrics-text;version=1.0.0"]))
def test_cached_text_of_earlier_scrapes_equals_what_the_library_writes_now(
    news: list[Told | Observation], accept: str
) -> None:
    now = after(Told().run(*AGENTS))
    answer = application(Collector("nightly", lambda: rows(now, HOST, ("1", "3"))))
    for each in news:
        now = observe(now, each, 5.0) if isinstance(each, Observation) else after(each, now)
        kept, anew = (lines_of(answer, accept, query) for query in ("", "anew"))
        assert sorted(kept) == sorted(anew)
        assert [line for line in kept if line[:1] == b"#"] == [line for line in anew if line[:1] == b"#"]


def lines_of(answer: "WSGIApplication", accept: str, query: str) -> list[bytes]:
    """The lines of a scrape, without the supervisor's own process_*."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": query, "HTTP_ACCEPT": accept}
    body = b"".join(answer(environ, lambda *_: print))
    return [line for line in body.splitlines() if not line.startswith(b"process_")]


# -- one history each


def test_a_kill_is_counted_once_with_its_reason_and_the_moment() -> None:
    told = Told().run(*AGENTS).started("a").tell(stopped("a", "SIGTERM", Reason.SOFT))
    told.tell(stopped("a", "SIGKILL", Reason.SOFT)).ended("a", Reason.SOFT, exit_code=1)
    found = table(after(told))
    assert found["agent_kills_total", ("a", "soft")] == 1
    assert found["agent_kill_escalations_total", ("a",)] == 1
    assert found["agent_exits_total", ("a", "soft")] == 1
    assert found["agent_last_kill_timestamp_seconds", ("a", "soft")] == told.events[3].at
    assert ("agent_tree_rss_bytes", ("a",)) not in found


def test_a_conversation_is_counted_once_however_often_it_is_seen() -> None:
    told = Told().run(*AGENTS).tell(replace(Told().attempt_started("a").events[0].body, dialect="claude"))
    now = after(told)
    assert table(now)["agent_tokens_total", ("a", "input")] == table(now)["agent_cost_usd_total", ("a",)] == 0
    for number in (5, 5, 8):
        heard = Conversation(turns=1, tokens=Tokens(input=number), usd=number / 10, limit=ProviderLimit(used=0.5))
        now = observe(now, replace(seen("a", 10), conversation=heard), 5.0)
    now = after(Told().ended("a", conversation=replace(heard, tokens=Tokens(input=9, output=2), turns=2)), now)
    now = after(Told().attempt("a", number=2, conversation=Conversation(turns=3, usd=0.2)), now)
    found = table(now)
    assert [found["agent_tokens_total", ("a", kind)] for kind in ("input", "output", "cache_read")] == [9, 2, 0]
    assert (found["agent_turns_total", ("a",)], found["usage_limit_ratio", ("a",)]) == (5, 0.5)
    assert found["agent_cost_usd_total", ("a",)] == pytest.approx(1.0)
    assert ("agent_turns_total", ("b",)) not in found


def test_agents_at_the_same_time_have_figures_of_their_own_until_they_exit() -> None:
    now = after(Told().run(*AGENTS).started("a").started("b"))
    now = observe(observe(now, seen("a", 10), 5.0), seen("b", 20), 5.0)
    assert [table(now)["agent_tree_rss_bytes", (name,)] for name in "ab"] == [10, 20]
    found = table(after(Told().ended("a"), now))
    assert ("agent_tree_rss_bytes", ("a",)) not in found
    assert found["agent_tree_rss_bytes", ("b",)] == 20


def test_number_of_agents_at_a_time_is_exported() -> None:
    began = Told().run(*AGENTS).events[0].body
    assert isinstance(began, RunStarted)
    assert table(after(Told().tell(replace(began, concurrency=2))))["run_concurrency", ()] == 2


def test_two_attempts_of_one_lane_at_a_time_are_counted_while_they_run() -> None:
    now = after(Told().run(*AGENTS).started("a"))
    assert table(now)["sequence_violations_total", ()] == 0
    now = after(Told().started("b"), now)
    assert table(now)["sequence_violations_total", ()] == 1
    beside = Told().attempt_started("c", lane=2)
    assert table(after(beside, now))["sequence_violations_total", ()] == 1
    assert table(after(Told().run_ended(0), now))["sequence_violations_total", ()] == 1


def test_leftovers_are_counted_by_what_ended_them() -> None:
    some = [*(process(n) for n in range(1, 4)), replace(process(4), count=2), replace(process(0), count=0)]
    told = Told().run(*AGENTS).started("a").tell(stopped("a", "SIGTERM", None, some))
    told.tell(stopped("a", "SIGKILL", None, some[:2])).ended("a", left_over=tuple(some)).drained(
        "a", strays=(process(9),)
    )
    found = table(after(told))
    assert [found["leftover_processes_reaped_total", ("a", how)] for how in ("term", "kill", "apart")] == [3, 2, 1]
    assert found["agent_kills_total", ("a", "leftover")] == 1


def test_a_spike_stays_visible_for_a_minute_and_the_peak_for_the_attempt() -> None:
    now = after(Told().run(*AGENTS).started("a"))
    for at, used in ((1.0, 10), (1.2, 900), (1.4, 20), (30.0, 30)):
        now = observe(now, seen("a", used, at=at), 5.0)
    assert table(now)["agent_tree_rss_recent_max_bytes", ("a",)] == 900
    now = observe(now, seen("a", 30, at=62.5), 5.0)
    assert table(now)["agent_tree_rss_recent_max_bytes", ("a",)] == 30
    assert table(now)["agent_tree_rss_peak_bytes", ("a",)] == 900


def test_the_peak_is_the_highest_of_all_attempts_as_in_the_table() -> None:
    told = Told().run(*AGENTS).attempt("a", Reason.FAILED, peak=900).attempt("a", number=2, peak=20)
    assert table(after(told))["agent_tree_rss_peak_bytes", ("a",)] == 900


def test_agents_that_completed_before_a_resume_are_in_the_queue_metric() -> None:
    found = table(after(Told().run(*AGENTS, resumed=True, before=("a",))))
    assert found["queue_agents", ("completed",)] == 1
    assert found["queue_agents", ("pending",)] == 2


def test_a_companions_collections_are_counted_and_a_restart_without_one() -> None:
    mcp = Owner(name="mcp", number=1, companion=True)
    told = Told().tell(GcRequested(owner=mcp, used=9, limit=8, processes=1))
    told.tell(GcDone(owner=mcp, used=9, collection=collected(MIB)))
    now = after(companion(Restart.MEMORY), after(told))
    found = table(after(companion(Restart.MEMORY), now))
    results = {result: found["companion_gc_requests_total", ("mcp", result)] for result in Collected}
    assert results == {"freed": 1, "no_effect": 0, "unsupported": 1, "failed": 0, "interrupted": 0}


def test_a_collection_that_a_companions_stop_overtakes_is_counted() -> None:
    mcp = Owner(name="mcp", number=1, companion=True)
    now = after(Told().tell(GcRequested(owner=mcp, used=9, limit=8, processes=1)))
    now = after(companion(Restart.MEMORY), now)
    assert table(now)["companion_gc_requests_total", ("mcp", "interrupted")] == 1
    assert table(now)["companion_gc_requests_total", ("mcp", "unsupported")] == 0


def test_a_collection_that_a_kill_overtakes_is_counted() -> None:
    asked = GcRequested(owner=Owner(name="a", number=1), used=9, limit=8, processes=1)
    now = after(Told().run(*AGENTS).started("a").tell(asked).tell(asked).ended("a", Reason.HARD))
    assert table(now)["gc_requests_total", ("a", "interrupted")] == 1
    answered = after(collection("a", freed=0), after(Told().run(*AGENTS).started("a")))
    assert table(after(Told().ended("a"), answered))["gc_requests_total", ("a", "interrupted")] == 0


def test_restart_of_a_companion_is_counted_with_its_reason_and_its_agents_restart_at_zero() -> None:
    now = after(Told().run(*AGENTS).started("a").ended("a").agent_ended("a"))
    assert table(now)["companion_agents_since_restart", ("mcp",)] == 1
    now = counted(figures.weigh(after(companion(Restart.MEMORY), now), "mcp", 7 * MIB))
    found = table(now)
    assert found["companion_restarts_total", ("mcp", "memory")] == 1
    assert found["companion_restarts_total", ("mcp", "crashed")] == 0
    names = ("up", "tree_rss_bytes", "agents_since_restart")
    assert [found[f"companion_{name}", ("mcp",)] for name in names] == [True, 7 * MIB, 0]


def test_while_an_agent_runs_that_is_the_phase_whatever_happens_beside_it() -> None:
    """The alert for a watch that hangs needs it."""
    running = Told().run(*AGENTS).started("a")
    start = CompanionStarted(companion="mcp", number=2, pid=7, command=("mcp",), folder="@companions/mcp/2")
    assert table(after(running.tell(start)))["phase", ("running",)] == 1
    assert table(after(companion(Restart.CRASHED), after(running)))["phase", ("running",)] == 1
    lanes = Told().run(*AGENTS).started("a").started("b")
    for tell in (lanes.ended, lanes.drained, lanes.retry, lanes.paused, lanes.agent_ended):
        assert table(after(tell("b")))["phase", ("running",)] == 1
    assert table(after(lanes.ended("a")))["phase", ("draining",)] == 1


def test_a_collection_is_counted_by_what_came_of_it() -> None:
    now = after(Told().run(*AGENTS).started("a"))
    now = after(collection("a", freed=0, answered=0), after(collection("a", freed=0), now))
    now = after(collection("a", freed=9 * MIB), now)
    found = table(now)
    results = ("freed", "no_effect", "failed", "unsupported")
    assert [found["gc_requests_total", ("a", result)] for result in results] == [1, 1, 1, 0]
    assert found["gc_freed_bytes_total", ("a",)] == 9 * MIB
    assert found["phase", ("running",)] == 1
    native = after(Told().run(*AGENTS).started("b").tell(stopped("b", "SIGTERM", Reason.SOFT)))
    assert table(native)["gc_requests_total", ("b", "unsupported")] == 1


def test_drains_fall_into_buckets() -> None:
    told = (
        Told()
        .run(*AGENTS)
        .started("a")
        .ended("a")
        .drained("a", seconds=0.1)
        .drained("a", seconds=7)
        .drained("a", why="x")
    )
    exposed = text(Collector("nightly", lambda: rows(after(told), HOST, ("1", "3")))).decode()
    assert 'seqsup_drain_duration_seconds_bucket{le="0.1",profile="nightly",result="drained"} 1.0' in exposed
    assert 'seqsup_drain_duration_seconds_bucket{le="10.0",profile="nightly",result="drained"} 2.0' in exposed
    assert 'seqsup_drain_duration_seconds_count{profile="nightly",result="timed_out"} 1.0' in exposed


def test_a_container_that_has_less_than_the_machine_counts() -> None:
    names = ("host_memory_total_bytes", "host_memory_available_bytes")
    whole, inside = look({}), look({}, [(2**50, 2**50), (7 * MIB, 5 * MIB)])
    assert [inside.totals[name] for name in names] == [7 * MIB, 5 * MIB]
    assert whole.totals[names[0]] == look({}, [(2**50, 2**50)]).totals[names[0]] > 7 * MIB


# -- the form


def everything() -> Figures:
    """A history that has a value for each series which is not always there."""
    told = (
        Told().run(*AGENTS).started("a").tell(stopped("a", "SIGKILL", Reason.HARD)).ended("a", exit_code=0).drained("a")
    )
    told.tell(replace(Told().attempt_started("b").events[0].body, dialect="claude"))
    heap = Heap(used=1, total=2, limit=3, external=4, array_buffers=5)
    looked = seen("b", 900, processes=(process(1, "node b.js", 500),), heap=heap)
    heard = Conversation(turns=1, limit=ProviderLimit(used=0.5))
    return figures.observe(after(told), replace(looked, conversation=heard), 5.0)


def exposed(now: Figures) -> bytes:
    return text(Collector("nightly", lambda: rows(now, HOST, ("1", "3"))))


def test_promtool_has_no_complaint() -> None:
    assert promtool("check", "metrics", stdin=exposed(everything())) == ""


def test_no_series_says_when_it_was_created() -> None:
    assert b"_created" not in exposed(everything())


def test_hostile_names_are_escaped() -> None:
    told = Told().run("a").started("a")
    now = figures.observe(after(told, fresh("a")), seen("a", 9, processes=(process(1, 'x"\\\n{}', 9),)), 5.0)
    families = {family.name: family for family in text_string_to_metric_families(exposed(now).decode())}
    (one, other) = families["seqsup_agent_process_rss_bytes"].samples
    assert (one.value, other.value) == (9, 0)
    assert '"' in one.labels["process"]


def test_every_metric_of_the_catalogue_is_exported_or_waits_for_its_event() -> None:
    told = {name for name, _ in table(everything())}
    waiting = {
        each.name
        for each in METRICS
        if each.name.startswith("host_")
        or each.name in ("agent_last_gc_timestamp_seconds", "companion_last_restart_timestamp_seconds")
    }
    late = {"run_end_timestamp_seconds", "run_duration_seconds", "run_last_success_timestamp_seconds"}
    assert {metric.name for metric in METRICS} - told <= waiting | late


def test_a_profile_of_200_agents_has_as_many_series_as_the_readme_says() -> None:
    """At most 90, and 60 for each agent: here each has run, and was killed for two reasons."""
    names = [f"agent{n}" for n in range(200)]
    told = Told().run(*names)
    for name in names:
        for reason in (Reason.HARD, Reason.SOFT):
            told.attempt_started(name, hard=1024 * MIB).tell(stopped(name, "SIGKILL", reason)).ended(
                name, exit_code=1
            ).drained(name)
    lines = [line for line in exposed(after(told, fresh(*names))).splitlines() if not line.startswith(b"#")]
    assert 50 * 200 <= len(lines) <= 90 + 60 * 200


# -- the way out


Scraped = dict[str, dict[tuple[tuple[str, str], ...], float]]


def scraped(url: str) -> Scraped:
    found: Scraped = defaultdict(dict)
    for family in text_string_to_metric_families(get(url)):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "profile"))
            found[sample.name][labels] = sample.value
    return found


LEAK = ["python3", "-c", "import time\nheld = []\nwhile len(held) < 900: held.append(b'x' * 2**20); time.sleep(0.002)"]


GATE = "while [ ! -e gate ]; do sleep 0.05; done"


def _share(by_program: Mapping[tuple[tuple[str, str], ...], float], program: str) -> float:
    whole = sum(by_program.values())
    return sum(size for labels, size in by_program.items() if ("process", program) in labels) / whole if whole else 0


def test_a_run_serves_its_figures_to_the_end(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    """While it lingers, a last scrape sees the kill."""
    port = free_port()
    profile = write(
        tmp_path, shell("first", f"for n in $(seq 20); do sleep 60 & pids=\"$pids $!\"; done; {GATE}; kill $pids"),
        shell("hangs", "trap '' TERM; sleep 60", timeouts={"wall": "1s", "grace": "100ms"}),
        run={"on_failure": "continue"}, metrics={"listen": f"127.0.0.1:{port}", "linger": "60s"},
    )  # fmt: skip
    run = seqsup_started("start", profile)
    url = f"http://127.0.0.1:{port}/metrics"
    wait_for(lambda: up(url))
    wait_for(lambda: _share(scraped(url)["seqsup_agent_process_rss_bytes"], "sleep") > 0.6)  # all, not eight of them
    found = scraped(url)
    wait_for(lambda: scraped(url)["seqsup_agent_tree_pss_bytes"])  # of all of them too
    assert sum(found["seqsup_phase"].values()) == 1
    assert found["seqsup_agent_status"][("agent", "first"), ("status", "running")] == 1
    assert found["seqsup_agent_kills_total"][("agent", "hangs"), ("reason", "timeout")] == 0
    assert found["process_resident_memory_bytes"][()] > 0
    assert found["seqsup_host_memory_available_bytes"][()] > 0
    assert len(found["seqsup_containment_info"]) == 1
    (tmp_path / "gate").touch()
    killed = (("agent", "hangs"), ("reason", "timeout"))
    wait_for(lambda: scraped(url)["seqsup_agent_kills_total"].get(killed))
    wait_for(lambda: "for a last scrape" in " ".join(run.stderr.split()))
    assert scraped(url)["seqsup_runs_total"][(("outcome", "failed"),)] == 1
    run.send(signal.SIGINT)
    result = run.wait()
    assert result.code == 1
    assert "not here" not in result.stderr


def test_run_ends_at_once_unless_it_lingers(
    seqsup: Callable[..., Result], seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    port = free_port()
    listen = {"SEQSUP_METRICS_LISTEN": f"127.0.0.1:{port}"}
    assert seqsup("run", "--", "true", env=listen).code == 0
    profile = write(tmp_path, shell("a", "exit 0"), metrics={"linger": "60s"})
    run = seqsup_started("start", profile, env=listen)
    wait_for(lambda: "waiting at most" in run.stderr)
    assert "1 of 1 completed" in run.stderr  # all figures were written before
    found = scraped(f"http://127.0.0.1:{port}/metrics")
    assert found["seqsup_phase"][(("phase", "idle"),)] == 1
    assert found["seqsup_runs_total"][(("outcome", "completed"),)] == 1
    run.send(signal.SIGINT)
    assert run.wait().code == 0


def test_port_in_use_is_reported_and_the_run_continues_unless_metrics_are_required(
    seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        profile = write(tmp_path, shell("a", "exit 0"), metrics={"listen": listen})
        result = seqsup("start", profile, "--json")
        assert result.code == 0
        (warned,) = of(proven(result), "warned")
        assert warned["message"].startswith(f"metrics.listen {listen}: Address already in use; the run continues")
        profile = write(tmp_path, shell("a", "exit 0"), name="strict", metrics={"listen": listen, "required": True})
        result = seqsup("start", profile, "--json")
        assert (result.code, result.stdout) == (3, "")
        assert "metrics.required is set" in result.stderr


@pytest.mark.parametrize("linger", ["0s", "60s"])
def test_runs_that_wait_for_each_other_serve_on_one_port(
    seqsup_started: Callable[..., Started], tmp_path: Path, linger: str
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    metrics = {"listen": listen, "linger": linger, "required": True}
    first = seqsup_started("start", write(tmp_path, shell("a", GATE), name="first", metrics=metrics))
    wait_for(lambda: up(f"http://{listen}/metrics"))
    second = seqsup_started("start", write(tmp_path, shell("b", "true"), name="second", metrics=metrics))
    wait_for(lambda: "waiting for first" in second.stderr)
    (tmp_path / "gate").touch()
    assert first.wait().code == 0
    if linger != "0s":
        wait_for(lambda: "for a last scrape" in " ".join(second.stderr.split()))
        second.send(signal.SIGINT)
    ended = second.wait()
    assert ended.code == 0, ended.stderr
    assert "in use" not in ended.stderr


def test_run_that_lingers_gives_its_port_to_the_next(
    seqsup: Callable[..., Result], seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    stays = write(tmp_path, shell("a", "exit 0"), name="stays", metrics={"listen": listen, "linger": "60s"})
    first = seqsup_started("start", stays, "--log-format", "json")
    wait_for(lambda: "waiting at most" in first.stderr)
    line = json.loads(first.stderr.splitlines()[-1])
    assert (line["run"], line["agent"], line["attempt"], line["event"]) == ("r1", None, None, "lingering")
    strict = write(tmp_path, shell("b", "exit 0"), name="strict", metrics={"listen": listen, "required": True})
    second = seqsup("start", strict)
    assert second.code == 0, second.stderr
    assert "in use" not in second.stderr
    assert first.wait(40).code == 0


def test_a_port_that_becomes_free_is_served(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        profile = write(tmp_path, shell("a", "sleep 60"), metrics={"listen": f"127.0.0.1:{port}"})
        run = seqsup_started("start", profile)
        wait_for(lambda: "in use" in run.stderr)
    wait_for(lambda: up(f"http://127.0.0.1:{port}/metrics"))
    run.end()


def test_a_bad_address_in_the_environment_is_refused_by_name(seqsup: Callable[..., Result]) -> None:
    result = seqsup("run", "--", "true", env={"SEQSUP_METRICS_LISTEN": "9472"})
    assert result.code == 125
    assert 'SEQSUP_METRICS_LISTEN: expected "host:port"' in result.stderr


def test_a_host_that_none_can_be_is_no_fault(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    listen = f"127.0.0..1:{free_port()}"
    result = seqsup("start", write(tmp_path, shell("a", "exit 0"), metrics={"listen": listen}))
    assert result.code == 0, result.stderr
    assert f"metrics.listen {listen}: not a host name" in result.stderr
    told = seqsup("doctor", env={"SEQSUP_METRICS_LISTEN": listen})
    assert f"{listen}: not a host name" in told.stdout


def test_a_first_scrape_that_meets_the_end_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is being imported for it, which takes 0.1 s, as the port is given up."""
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    importing, closed = threading.Event(), threading.Event()

    def answers() -> "WSGIApplication":
        importing.set()
        closed.wait(30)
        return lambda *_: []

    before = set(threading.enumerate())
    endpoint = Endpoint("127.0.0.1:0", answers)
    endpoint.bind()
    endpoint.serve()
    (thread,) = set(threading.enumerate()) - before
    host, _, port = str(endpoint.address).rpartition(":")
    with socket.create_connection((host, int(port))):
        assert importing.wait(30)
        endpoint.close()
        closed.set()
        thread.join(30)
    assert (thread.is_alive(), raised) == (False, [])


def test_only_metrics_are_served(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    port = free_port()
    profile = write(tmp_path, shell("a", "sleep 60"), metrics={"listen": f"127.0.0.1:{port}"})
    run = seqsup_started("start", profile)
    wait_for(lambda: up(f"http://127.0.0.1:{port}/"))
    assert '<a href="/metrics">' in get(f"http://127.0.0.1:{port}/")
    with socket.create_connection(("127.0.0.1", port)) as odd:
        odd.sendall(b"GET /else HTTP/1.0\r\n\r\n")
        assert odd.recv(100).startswith(b"HTTP/1.0 404")
    with socket.create_connection(("127.0.0.1", port)) as stuck:
        stuck.sendall(b"GET /met")  # never finished: others are served, and the run ends
        assert up(f"http://127.0.0.1:{port}/metrics")
        run.send(signal.SIGTERM)
        assert run.wait().code == 143


def test_hundreds_of_readers_that_say_nothing_cost_little_and_no_word(
    seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    port = free_port()
    url, address = f"http://127.0.0.1:{port}/metrics", ("127.0.0.1", port)
    run = seqsup_started("start", write(tmp_path, shell("a", "sleep 60"), metrics={"listen": f"127.0.0.1:{port}"}))
    wait_for(lambda: up(url))
    with ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(socket.create_connection(address, timeout=40))
        assert up(url)
        wait_for(lambda: len(list(Path(f"/proc/{run.pid}/task").iterdir())) < 2 * OPEN)
    with socket.create_connection(address) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sendall(b"GET /metrics HTTP/1.0\r\n")  # and is reset
    assert up(url)
    run.send(signal.SIGTERM)
    ended = run.wait()
    assert (ended.code, "Traceback" in ended.stderr) == (143, False)


def test_textfile_keeps_last_success_and_others_may_read_it(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    script = "[ ! -e fails ] || exit 7"
    profile = write(tmp_path, shell("a", script), metrics={"textfile": "out.prom", "file_sd": "sd.json"})
    succeeded = []
    for code in (0, 1):
        assert seqsup("start", profile).code == code
        written = (tmp_path / "out.prom").read_text()
        succeeded += [line for line in written.splitlines() if "seqsup_run_last_success_timestamp_seconds{" in line]
        (tmp_path / "fails").touch()
    assert len(succeeded) == 2
    assert len(set(succeeded)) == 1
    assert 'seqsup_agent_exits_total{agent="a",profile="nightly",reason="failed"} 1.0' in written
    assert "process_resident" not in written
    assert (tmp_path / "out.prom").stat().st_mode & 0o777 == 0o644
    promtool("check", "metrics", stdin=(tmp_path / "out.prom").read_bytes())
    assert not (tmp_path / "sd.json").exists()


@pytest.mark.parametrize("command", ["sweep", "start"])
def test_target_of_a_killed_run_is_removed_once_the_run_is_found(
    seqsup: Callable[..., Result], seqsup_started: Callable[..., Started], tmp_path: Path, command: str
) -> None:
    listen, targets = f"127.0.0.1:{free_port()}", tmp_path / "sd.json"
    profile = write(tmp_path, shell("a", "sleep 60"), metrics={"listen": listen, "file_sd": "sd.json"})
    process = seqsup_started("start", profile)
    wait_for(lambda: targets.exists() and "a           started" in process.stderr)
    process.send(signal.SIGKILL)
    process.process.wait()
    assert targets.exists()
    if command == "sweep":
        assert seqsup("sweep").code == 0
    else:
        assert seqsup("start", write(tmp_path, shell("b", "true"), name="other")).code == 0
    assert not targets.exists()


def test_a_file_for_others_is_whole_or_the_old_one(tmp_path: Path) -> None:
    """A disk that fills up during a write, simulated by a limit on the file's size."""
    path = tmp_path / "out.prom"
    publish(path, b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from seqsup.metrics.files import publish\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "publish(Path(sys.argv[1]), b'x' * 9000)"
    )
    assert subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False).returncode == 1
    assert path.read_bytes() == b"old"
    os.mkfifo(pipe := tmp_path / "pipe")  # so would root replace /dev/null, for all
    for other, why in ((tmp_path, "a folder"), (pipe, "not a regular file")):
        with pytest.raises(OSError, match=why):
            publish(other, b"x")
    assert pipe.is_fifo()
    assert sorted(tmp_path.parent.glob("*.new")) == []
    assert [each.name for each in tmp_path.glob("out*")] == ["out.prom"]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"textfile": "."}, "metrics.textfile: . is a folder; choose a file in it"),
        ({"textfile": "/dev/null"}, "metrics.textfile: /dev/null is not a regular file, and would be replaced by one"),
        (
            {"file_sd": "/dev/stdout"},
            "metrics.file_sd: /dev/stdout is not a regular file, and would be replaced by one",
        ),
        ({"listen": "none", "required": True}, 'metrics.required: listen = "none" turns metrics off'),
        ({"listen": "none", "file_sd": "sd.json"}, 'metrics.file_sd: listen = "none" turns metrics off'),
        ({"pushgateway": "http://x y"}, "metrics.pushgateway: 'http://x y': expected an address such as"),
        ({"pushgateway": "http://"}, "metrics.pushgateway: 'http://': expected an address such as"),
        ({"port": 9472}, "hint: did you mean listen?"),
    ],
)
def test_address_that_cannot_be_served_is_refused(
    metrics: dict[str, object], said: str, seqsup: Callable[..., Result], tmp_path: Path
) -> None:
    result = seqsup("plan", write(tmp_path, shell("a", "exit 0"), metrics=metrics))
    assert result.code == 2
    assert said in result.stderr


def test_the_plan_says_where_figures_are_read(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    metrics = {"listen": "0.0.0.0:9472", "required": True, "textfile": "out.prom"}
    said = " ".join(seqsup("plan", write(tmp_path, shell("a", "exit 0"), metrics=metrics), "-v").stdout.split())
    assert "metrics http://0.0.0.0:9472/metrics, readable from other machines; required: nothing starts without" in said
    assert f"textfile {tmp_path}/out.prom" in said


def test_textfile_that_cannot_be_written_is_reported_once(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "exit 0"), metrics={"textfile": "no/such/folder/out.prom"})
    result = seqsup("start", profile)
    assert result.code == 0
    assert result.stderr.count("metrics.textfile") == 1


def test_a_pushgateway_has_the_run_when_it_is_over(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    port = free_port()
    command = [binary("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}"]
    profile = write(tmp_path, shell("a", "exit 7"), metrics={"pushgateway": f"127.0.0.1:{port}"})
    with running(command, f"http://127.0.0.1:{port}/-/ready", tmp_path):
        assert seqsup("start", profile).code == 1
        told = get(f"http://127.0.0.1:{port}/metrics")
    pushed = [line for line in told.splitlines() if line.startswith("seqsup_agent_exits_total{")]
    assert any('reason="failed"' in line and 'profile="nightly"' in line and line.endswith(" 1") for line in pushed)


@pytest.mark.long
def test_pushgateway_that_is_not_reachable_is_reported(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    port = free_port()
    profile = write(tmp_path, shell("a", "exit 0"), metrics={"pushgateway": f"127.0.0.1:{port}"})
    result = seqsup("start", profile)
    assert result.code == 0
    assert f"metrics.pushgateway 127.0.0.1:{port}: Connection refused\n" in result.stderr


@pytest.mark.memory
def test_each_of_many_scrapes_at_once_is_of_one_moment_while_bombs_are_killed(
    seqsup: Callable[..., Result], stub: Callable[..., list[str]], tmp_path: Path
) -> None:
    """A run in the background: each scrape is answered while it runs, and none sees half a change."""
    url = f"http://127.0.0.1:{(port := free_port())}/metrics"
    bombs = [agent(f"bomb-{n}", stub("fork_bomb", "tree", "30")) for n in range(3)]
    profile = write(
        tmp_path, *bombs, timeouts={"wall": "700ms", "grace": "0s"}, run={"on_failure": "continue"},
        metrics={"listen": f"127.0.0.1:{port}"},
    )  # fmt: skip
    assert seqsup("start", profile, "--detach").code == 0
    pid = json.loads(seqsup("status", "--json").stdout)["supervisor"]

    def scrape_on(_: int) -> list[Scraped]:
        told = []
        while alive(pid):
            with suppress(OSError):  # it has ended since
                told.append(scraped(url))
        return told

    with ThreadPoolExecutor(4) as pool:
        told = [found for some in pool.map(scrape_on, range(4)) for found in some]
    for found in told:
        assert sum(found["seqsup_phase"].values()) == 1
        assert sum(found["seqsup_queue_agents"].values()) == 3
        assert sum(found["seqsup_agent_process_rss_bytes"].values()) == sum(
            found["seqsup_agent_tree_rss_bytes"].values()
        )
        ended = {status: number for ((_, status),), number in found["seqsup_queue_agents"].items()}
        assert ended["gave-up"] <= sum(found["seqsup_agent_kills_total"].values())
    assert max(sum(found["seqsup_agent_kills_total"].values()) for found in told) == 3


@pytest.mark.memory
@pytest.mark.timeout(300)
def test_a_real_prometheus_has_the_last_kill_of_a_run(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    """Found through the run's own target file; the last agent is killed at its limit, and the run ends."""
    targets = tmp_path / "targets.json"
    config = (
        f"scrape_configs:\n- job_name: seqsup\n  scrape_interval: 250ms\n  file_sd_configs:\n  - files: [{targets}]\n"
    )
    profile = write(
        tmp_path, shell("first", GATE), agent("leaks", LEAK, memory={"hard": "200MiB", "enforce": "watch"}),
        run={"on_failure": "continue"},
        metrics={"listen": f"127.0.0.1:{free_port()}", "file_sd": str(targets), "linger": "10s"},
    )  # fmt: skip
    with prometheus(tmp_path, config) as server:
        run = seqsup_started("start", profile)
        kills = 'seqsup_agent_kills_total{agent="leaks",reason="hard"}'
        wait_for(lambda: server.value(kills) == 0)  # it was there at 0 before
        (tmp_path / "gate").touch()
        result = run.wait(60)
        assert result.code == 1
        wait_for(lambda: server.value(f"last_over_time({kills}[5m])") == 1)
        assert (server.value(f"increase({kills}[5m])") or 0) > 0
        assert (server.value('last_over_time(seqsup_runs_total{outcome="failed"}[5m])') or 0) == 1
        most = server.value('max_over_time(seqsup_agent_tree_rss_peak_bytes{agent="leaks"}[5m])')
        assert most is not None
        assert most >= 200 * MIB
    assert not targets.exists()
