"""The live view: snapshots of the lines below the log, and that it fits any terminal."""

import asyncio
import re
import time
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.told import BEGAN, Told
from seqsup.model.conversation import Conversation, ProviderLimit, Tokens, ToolUse
from seqsup.model.enums import Halt
from seqsup.model.events import (
    AdmissionDelayed,
    CompanionReady,
    CompanionStarted,
    HookEnded,
    HookStarted,
    RunPaused,
    StopSent,
)
from seqsup.model.history import History, fold
from seqsup.model.process import Heap
from seqsup.model.reason import Reason
from seqsup.model.run_view import Now
from seqsup.text import columns
from seqsup.units import GIB, MIB, format_duration
from seqsup.view import live
from seqsup.view.canvas import Canvas
from seqsup.view.last_line import Said
from seqsup.view.live_frame import Pulse, Scene, frame


def leaking(seconds: int = 40, rate: int = 16 * MIB) -> Pulse:
    pulse = Pulse()
    for second in range(seconds):
        used = 200 * MIB + second * rate
        pulse.add(float(second), used, used, 6, 5 * GIB)
    pulse.programs = {"node embed.js": 589 * MIB, "chrome": 137 * MIB, "3 × mcp": 98 * MIB}
    return pulse


def told() -> Told:
    told = Told().run("triage", "crawl", "embed", "summarise", "plan", "deploy-check")
    told.attempt("triage", seconds=445, peak=374 * MIB).drained("triage").agent_ended("triage")
    told.attempt("crawl", Reason.HARD, why="too large").drained("crawl").agent_ended("crawl", Reason.HARD)
    told.attempt("embed", Reason.SOFT, why="too large", hard=GIB).drained("embed").retry("embed", wait=20)
    return told


def scene(story: Told, pulse: Pulse | None = None) -> Scene:
    return Scene(
        view=fold(story.events), pulses={"embed": pulse or leaking()}, warn={"embed": 512 * MIB}, tries={"embed": 3},
        host=8 * GIB,
        places=("metrics 127.0.0.1:9472", "seqsup logs r42"),
        keys={Halt.NONE: "Ctrl-C: stop after this agent · twice: stop it now", Halt.NOW: "Ctrl-C: kill it"},
    )  # fmt: skip


def running() -> Scene:
    return scene(told().attempt_started("embed", 2, hard=GIB).spawned("embed", 2))


def shown(scene: Scene, width: int, after: float = 192, encoding: str = "utf-8") -> str:
    now = (scene.view.began or 0.0) + after
    canvas = Canvas(width, encoding)
    return "\n".join(canvas.paint(line).rstrip() for line in frame(scene, Now(BEGAN + now, now), canvas))


def text(block: str) -> str:
    return dedent(block).strip("\n")


def test_live_view_shows_the_agent_its_memory_the_next_ones_and_the_machine() -> None:
    assert shown(running(), 80) == text("""
        ────────────────────────────────────────────────────────────────────────────────
        nightly  1 of 6 done · 1 failed · 3 min 12 s
        ▶ embed  attempt 2 of 3  2 min 56 s · pid 4712 · 6 processes
         mem  ███████████████████░░░░░  824 MiB of 1 GiB · 80 % · peak 824 MiB
              ▂▂▂▂▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▆▆▆▆▆▆▆▆▇▇▇▇  +16 MiB/s · hard in 12 s
         held node embed.js 589 MiB · chrome 137 MiB · 3 × mcp 98 MiB
         next summarise, plan, deploy-check
         host 5 GiB of 8 GiB available · metrics 127.0.0.1:9472 · seqsup logs r42
         Ctrl-C: stop after this agent · twice: stop it now
    """)


def test_a_narrow_terminal_shows_what_matters_most() -> None:
    assert shown(running(), 40) == text("""
        ────────────────────────────────────────
        nightly  1 of 6 done · 1 failed
        ▶ embed  attempt 2 of 3  2 min 56 s
         mem  ██████████░░░  824 MiB of 1 GiB
              ▂▃▃▄▄▅▅▆▆▇  +16 MiB/s
         held node embed.js 589 MiB
         next summarise, plan, deploy-check
         host 5 GiB of 8 GiB available
         Ctrl-C: stop after this agent
    """)


def test_a_terminal_without_symbols_gets_ascii() -> None:
    said = shown(running(), 80, encoding="ascii")
    assert said.isascii()
    assert "> embed  attempt 2 of 3" in said
    assert " mem  ###################.....  824 MiB of 1 GiB | 80 %" in said


def test_the_heap_is_shown_where_it_is_known() -> None:
    pulse = leaking()
    pulse.heap = Heap(used=389 * MIB, total=500 * MIB, limit=768 * MIB, external=46 * MIB, array_buffers=0)
    story = told().attempt_started("embed", 2, hard=GIB).spawned("embed", 2)
    assert " heap used 389 MiB of 768 MiB · external 46 MiB\n" in shown(scene(story, pulse), 80)


def test_between_attempts_it_says_when_the_next_one_comes() -> None:
    waiting = scene(told())
    due = waiting.view.agents["embed"].due
    assert due is not None
    said = "\n".join(Canvas(80).paint(line) for line in frame(waiting, Now(BEGAN, due - 12), Canvas(80)))
    assert "↻ embed  retry in 12 s · after soft" in said
    assert " mem " not in said


def test_drain_stop_request_and_time_between_agents_are_shown() -> None:
    draining = told().attempt_started("embed", 2).ended("embed", Reason.SOFT, number=2).halt(Halt.AFTER_AGENT)
    said = shown(scene(draining), 80)
    assert "… embed  attempt 2 of 3  soft · memory drains" in said
    assert "stops after this agent" in said
    assert "Ctrl-C" not in said
    assert "\n Ctrl-C: kill it" in shown(scene(draining.halt(Halt.NOW)), 80)
    first = shown(scene(Told().run("a", "b")), 80)
    assert "– before the first agent" in first
    assert "\n see  metrics 127.0.0.1:9472 · seqsup logs r42\n" in first
    one = Told().run("a", "b").attempt("a").drained("a").agent_ended("a")
    assert "– between agents" in shown(scene(one), 80)
    assert "– after the last agent: hooks and notifications" in shown(scene(one.halt(Halt.NOW)), 80)
    both = Told().run("a").attempt("a").drained("a").agent_ended("a")
    assert "– after the last agent: hooks and notifications" in shown(scene(both), 80)


@pytest.mark.parametrize(
    ("rate", "told"), [(0, "steady"), (-2 * MIB, "-2 MiB/s"), (MIB, "+1 MiB/s · soft in 8 min 59 s")]
)
def test_growth_and_the_time_to_the_next_limit(rate: int, told: str) -> None:
    assert told in shown(scene(running_story(), leaking(30, rate)), 100)


def running_story() -> Told:
    return told().attempt_started("embed", 2, hard=GIB).spawned("embed", 2)


def test_colour_follows_the_limits_and_is_left_out_on_request() -> None:
    line = next(line for line in frame(running(), Now(BEGAN, 99.0), Canvas(80)) if line[0][1] == " mem  ")
    assert "\x1b[31m█" in Canvas(80, colour=True).paint(line)  # over soft
    assert "\x1b" not in Canvas(80).paint(line)


@given(st.integers(1, 200), st.sampled_from(["utf-8", "ascii", "latin-1"]), st.text(max_size=60), st.integers(0, 300))
def test_no_line_is_wider_than_the_terminal(width: int, encoding: str, name: str, seconds: int) -> None:
    pulse = leaking(seconds)
    pulse.programs = {name: 5 * MIB}
    drawn = scene(running_story(), pulse)
    for line in frame(drawn, Now(BEGAN, 99.0), Canvas(width, encoding)):
        assert columns(Canvas(width).paint(line)) <= width


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2**40)), max_size=900))
def test_a_pulse_stays_small_and_keeps_its_peak(samples: list[tuple[float, int]]) -> None:
    pulse, at = Pulse(), 0.0
    for wait, used in samples:
        at += wait
        pulse.add(at, used, used, 1, GIB)
    curve = pulse.curve(40)
    assert len(curve) <= 40
    assert max(curve, default=0) == pulse.peak == max((used for _, used in samples), default=0)


def test_a_long_attempt_is_shown_whole() -> None:
    pulse = Pulse()
    for second in range(8 * 3600):
        pulse.add(float(second), 900 if second == 60 else 100, 900 if second == 60 else 100, 1, GIB)
    assert re.fullmatch("9?1*9?1*", "".join(str(point // 100) for point in pulse.curve(48)))
    assert 900 in pulse.curve(48)


def test_pause_is_shown_with_its_cause() -> None:
    paused = Told().run("a", "b").tell(RunPaused(why="by the user; `seqsup resume r42` continues it"))
    said = shown(scene(paused), 80)
    assert "■ paused  by the user; `seqsup resume r42` continues it" in said
    assert "between agents" not in said


def test_wait_of_a_run_between_agents_is_shown() -> None:
    hook = HookStarted(
        point="before_agent", command="./check.sh --all", agent="b", pid=7, folder="@hooks/before_agent-1"
    )
    between = Told().run("a", "b").attempt("a").drained("a").agent_ended("a").tell(hook)
    assert "\n hook before_agent of b · 3 min 6 s · ./check.sh --all\n" in shown(scene(between), 80)
    over = HookEnded(
        point="before_agent", command="./check.sh --all", agent="b", ok=True, why="", exit_code=0, signal=None,
        seconds=1.0, folder="@hooks/before_agent-1", output="",
    )  # fmt: skip
    assert " hook " not in shown(scene(between.tell(over)), 80)
    late = between.tell(
        AdmissionDelayed(agent="b", need=4 * GIB, room=GIB, why="needs 4 GiB, but only 1 GiB is available")
    )
    said = shown(scene(late), 80)
    assert "… b  waits for memory: needs 4 GiB, but only 1 GiB is available\n" in said
    assert "between agents" not in said
    assert "waits for memory" not in shown(scene(late.attempt_started("b")), 80)
    again = told().tell(AdmissionDelayed(agent="embed", need=GIB, room=0, why="it may take 1 GiB"))
    assert "↻ embed  waits for memory: it may take 1 GiB\n" in shown(scene(again), 80)


def test_companions_are_shown_with_what_they_hold() -> None:
    story = running_story().tell(
        CompanionStarted(companion="mcp", number=1, pid=7, command=("mcp",), folder="@companions/mcp/1")
    )
    beside = scene(story)
    beside.beside["mcp"] = 187 * MIB
    assert " with mcp starting\n" in shown(beside, 80)
    story.tell(CompanionReady(companion="mcp", number=1, seconds=0.1))
    beside = scene(story)
    beside.beside["mcp"] = 187 * MIB
    assert " with mcp 187 MiB\n" in shown(beside, 80)


def test_remaining_time_is_shown_if_all_of_it_is_known() -> None:
    story = running_story()
    known = scene(story)
    known.view.expected = {"embed": 600.0, "summarise": 60.0}
    assert "left" not in shown(known, 80)
    known.view.expected |= {"plan": 60.0, "deploy-check": 60.0}
    assert " left" in shown(known, 80)


def test_agent_in_another_lane_is_named_and_has_its_own_figures() -> None:
    story = told().attempt_started("embed", 2, hard=GIB).spawned("embed", 2).attempt_started("plan").spawned("plan")
    beside = scene(story)
    beside.begin("plan")
    beside.pulses["plan"].add(0.0, 5 * MIB, 5 * MIB, 1, GIB)
    said = shown(beside, 80)
    assert "824 MiB of 1 GiB" in said
    assert re.search(r"^▶ plan  .* · 5 MiB$", said, re.MULTILINE)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(("age", "told"), [(0.4, "now"), (1.2, "1 s ago"), (102, "1 min 42 s ago")])
def test_last_line_of_the_agent_is_shown_with_its_age(width: int, age: float, told: str) -> None:
    spoken = running()
    spoken.said["embed"] = Said(
        "Editing \x1b[2Jsrc/" + "long/" * 20 + "file5.ts", BEGAN + (spoken.view.began or 0.0) + 192 - age
    )
    line = next(line for line in shown(spoken, width).splitlines() if line.startswith(" said "))
    assert line.startswith(" said Editing  [2Jsrc/")
    assert line.endswith(f"… · {told}")
    assert len(line) == width


def test_agent_that_is_told_to_stop_is_shown_as_stopping() -> None:
    story = told().attempt_started("plan", hard=GIB).spawned("plan")
    story.tell(StopSent(agent="plan", attempt=1, signal="SIGTERM", reason=Reason.SOFT, why="", processes=()))
    assert "▶ plan  stopping: soft · " in shown(scene(story), 80)


def test_time_to_a_limit_is_not_guessed_for_a_process_far_below_it() -> None:
    small = running()
    small.pulses["embed"] = Pulse()
    for second in range(3):
        small.pulses["embed"].add(second, (10 + second) * MIB, (10 + second) * MIB, 1, GIB)
    assert "+1 MiB/s\n" in shown(small, 80)


def test_running_agent_in_lanes_is_shown_before_one_that_waits_for_a_retry() -> None:
    beside = scene(told().attempt_started("plan", 1, hard=GIB).spawned("plan", 1))
    beside.pulses["plan"] = leaking()
    said = shown(beside, 80)
    assert "▶ plan" in said
    assert "824 MiB of 1 GiB" in said
    assert "\n↻ embed  " in said


def test_plain_output_reports_an_agent_beside_which_others_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TOLD_EVERY", 0.3)
    said: list[str | None] = []

    async def lanes() -> None:
        history, told, heard = History(), Told().run("long", "a", "b", "c", "d"), 0
        told.attempt_started("long").spawned("long")
        pulses = live.Pulses(lambda: history.view, lambda agent, *_: said.append(agent))
        for agent in "abcd":
            for recorded in told.attempt(agent).events[heard:]:
                history.apply(recorded)
                pulses(recorded)
            heard = len(told.events)
            await asyncio.sleep(0.2)
        pulses.close()

    asyncio.run(lanes())
    assert "long" in said


def test_live_view_is_drawn_at_once_however_many_agents_come() -> None:
    """The watch waits for it: of 10,000 names nearly all were tried, two seconds long."""
    story = Told().run(*(f"a{number}" for number in range(20_000)))
    many, began = scene(story), time.perf_counter()
    assert " next a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 and 19989 others" in shown(many, 70)
    assert time.perf_counter() - began < 1


def test_live_view_does_not_grow_with_finished_agents() -> None:
    names = [f"a{n}" for n in range(500)]
    many = Scene(view=fold(Told().run(*names).started("a7").events))
    for name in names:
        many.begin(name)
    assert {"a7", "a499"} <= set(many.pulses)
    assert len(many.pulses) < 100


def test_conversation_is_a_line_of_the_view() -> None:
    pulse = leaking()
    pulse.conversation = Conversation(
        turns=14, tool=ToolUse(name="Bash", about="npm test", since=0.0),
        tokens=Tokens(input=12_000, cache_read=400_000), usd=1.834, limit=ProviderLimit(used=0.91),
    )  # fmt: skip
    story = scene(told().attempt_started("embed", 2, hard=GIB).spawned("embed", 2), pulse)
    assert story.view.began is not None
    line = next(line for line in shown(story, 120).splitlines() if line.startswith(" work "))
    took = format_duration(story.view.began + 192)
    assert line == f" work turn 14 · Bash {took}: npm test · 412k tokens · $1.83 · usage limit 91 %"
    pulse.conversation = Conversation(session="s")
    assert " work " not in shown(story, 120)
