"""The final table and its prose: snapshots of what people read."""

from textwrap import dedent

import pytest
from msgspec.structs import replace

from helpers.told import BEGAN, Told, process
from seqsup.model.conversation import Conversation
from seqsup.model.enums import Verdict
from seqsup.model.history import fold
from seqsup.model.outcome import Leak
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import processes, title
from seqsup.model.reason import OF_MEMORY, Reason
from seqsup.model.run_view import RunView
from seqsup.profile.limits import auto_heap
from seqsup.text import unpainted
from seqsup.units import GIB, MIB
from seqsup.view.summary import body, headline
from seqsup.view.summary import summary as painted

HELD = (
    process(1, "node agents/embed.js --all", 589 * MIB),
    process(2, "/opt/chrome --headless", 237 * MIB),
    process(3, "git status", 40 * MIB),
    process(4, "sh -c true", 30 * MIB),
    process(5, "rg todo", 28 * MIB),
)


def nightly() -> Told:
    """One completes, one gives up after a retry, one fails as expected, one is skipped, one does not get its turn."""
    told = Told().run("triage", "embed", "leak", "deploy", "report")
    told.attempt("triage", seconds=445, peak=374 * MIB, hard=1024 * MIB)
    told.drained("triage", seconds=0.4).agent_ended("triage")
    told.attempt("embed", Reason.CRASHED, seconds=200, peak=700 * MIB, hard=1024 * MIB, left_over=(process(7),) * 1)
    told.drained("embed", strays=(process(8), process(9))).retry("embed")
    why = "its tree was over 1 GiB for 3 s, 12 s after a GC that freed 41 MiB"
    told.attempt("embed", Reason.SOFT, number=2, why=why, seconds=224, peak=1031 * MIB, hard=1024 * MIB, processes=HELD)
    told.drained("embed", 2, seconds=1.2).agent_ended("embed", Reason.SOFT, attempts=2, why=why)
    told.attempt("leak", Reason.HARD, seconds=2, peak=260 * MIB, hard=256 * MIB, ok=True)
    told.drained("leak", seconds=30, why="96 MiB still owned").agent_ended("leak", Reason.HARD, ok=True)
    return told.skipped("deploy", "it needs embed, which did not complete").run_ended(1)


def summary(view: RunView, width: int | None = None, here: str = "") -> str:
    return unpainted(painted(view, width=width, here=here))


def text(block: str) -> str:
    return dedent(block).strip("\n")


def test_the_final_table_says_all_of_it() -> None:
    assert summary(fold(nightly().events)) == text("""
        r42  nightly  2 of 5 completed · 1 failed · 1 skipped · 1 not run · 1 h 5 min · highest peak 1031 MiB (embed)

          agent   attempts  reason                 time      peak  of limit  gc freed  left over  drained
          triage         1  completed        7 min 25 s   374 MiB      37 %         –          –    0.4 s
          embed          2  soft              7 min 4 s  1031 MiB     101 %         –          3    1.2 s
          leak           1  hard (expected)         2 s   260 MiB     102 %         –          –   > 30 s
          deploy         –  skipped                   –         –         –         –          –        –
          report         –  not run                   –         –         –         –          –        –
        why embed failed: its tree was over 1 GiB for 3 s, 12 s after a GC that freed 41 MiB;
          node embed.js 589 MiB · chrome 237 MiB · git 40 MiB · other 58 MiB
        why deploy was skipped: it needs embed, which did not complete
        next: seqsup report r42 · seqsup logs r42 embed · seqsup start nightly.toml --resume
              raise memory.soft for embed
    """)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_the_table_fits_its_terminal_as_far_as_it_can(width: int) -> None:
    said = summary(fold(nightly().events), width=width)
    table = said.splitlines()[1:7]
    assert max(map(len, table)) <= max(width, 60), said
    assert "hard (expected)" in said
    assert "gc freed" not in said or width >= 100, "what says nothing goes first"


def test_only_long_names_are_cut_at_80_columns() -> None:
    told = Told().run("a-very-long-name-of-an-agent", "b")
    told.attempt("a-very-long-name-of-an-agent", Reason.HARD, hard=GIB, ok=True).drained("a-very-long-name-of-an-agent")
    said = summary(fold(told.agent_ended("a-very-long-name-of-an-agent", Reason.HARD, ok=True).events), width=80)
    assert said == text("""
        r42  nightly  1 of 2 completed · highest peak 10 MiB
          (a-very-long-name-of-an-agent)

          agent               attempts  reason           time    peak  of limit  drained
          a-very-long-name-…         1  hard (expected)   1 s  10 MiB       1 %    0.1 s
          b                          –  pending             –       –         –        –
    """)


def test_a_name_gets_back_what_a_column_that_went_has_left() -> None:
    told = Told().run("forgets-nothing", "fails-twice")
    for agent in ("forgets-nothing", "fails-twice"):
        told.attempt(agent, Reason.HARD, hard=GIB, ok=True, left_over=(process(7),))
        told.drained(agent, seconds=30, why="96 MiB still owned").agent_ended(agent, Reason.HARD, ok=True)
    assert summary(fold(told.run_ended(0, seconds=2).events), width=80) == text("""
        r42  nightly  2 of 2 completed · 2 s · highest peak 10 MiB (forgets-nothing)

          agent            attempts  reason           time    peak  left over  drained
          forgets-nothing         1  hard (expected)   1 s  10 MiB          1   > 30 s
          fails-twice             1  hard (expected)   1 s  10 MiB          1   > 30 s
        next: seqsup logs r42 · seqsup report r42
    """)


def test_what_went_wrong_is_red_and_what_went_well_green() -> None:
    said = painted(fold(nightly().events))
    for marked in (
        "\x1b[1mnightly\x1b[0m", "\x1b[31m1 failed\x1b[0m", "\x1b[32mcompleted\x1b[0m", "\x1b[31msoft\x1b[0m",
        "\x1b[33mskipped\x1b[0m", "\x1b[2mnot run\x1b[0m", "\x1b[1mwhy embed failed:\x1b[0m", "\x1b[1mnext:\x1b[0m",
    ):  # fmt: skip
        assert marked in said, marked
    assert "\x1b" not in headline(fold(nightly().events))


def test_a_completed_run_has_nothing_to_explain() -> None:
    told = Told().run("a").attempt("a").drained("a").agent_ended("a").run_ended(0, seconds=2)
    assert summary(fold(told.events)) == text("""
        r42  nightly  1 of 1 completed · 2 s · highest peak 10 MiB (a)

          agent  attempts  reason     time    peak  of limit  gc freed  left over  drained
          a             1  completed   1 s  10 MiB         –         –          –    0.1 s
        next: seqsup logs r42 · seqsup report r42
    """)


@pytest.mark.parametrize("width", [40, 80, None])
def test_result_of_each_agent_is_shown_in_one_line(width: int | None) -> None:
    told = Told().run("a").attempt("a").agent_ended("a").run_ended(0, seconds=2)
    said = "\n".join(body(fold(told.events), width=width, said={"a": "Done\x1b[2J: " + "all of it, " * 30}))
    line = next(line for line in unpainted(said).splitlines() if "said" in line)
    assert line.startswith("a said: Done [2J: all")
    assert len(line) <= (width or 100)


def test_a_resumed_run_says_how_many_were_completed_before() -> None:
    told = Told().run("a", "b").attempt("a").agent_ended("a").run_ended(143)
    told.run("a", "b", resumed=True, before=("a",)).attempt("b").agent_ended("b").run_ended(0, seconds=60)
    assert headline(fold(told.events)) == "nightly  2 of 2 completed (1 before) · 1 min · highest peak 10 MiB (a)"
    told.run("a", "b", resumed=True, before=("b",)).attempt("a").agent_ended("a").run_ended(0, seconds=60)
    assert "2 of 2 completed (1 before)" in headline(fold(told.events))  # a had changed, and ran again


def test_active_run_shows_its_duration_and_no_advice() -> None:
    told = Told().run("a", "b").attempt("a", Reason.FAILED).retry("a")
    view = fold(told.events)
    assert headline(view, told.events[0].mono + 61).startswith("nightly  0 of 2 completed · 1 min 1 s · ")
    said = unpainted("\n".join(body(view)))
    assert "failed, retries" in said
    assert "next:" not in said


def test_a_command_has_no_profile_to_resume_or_change() -> None:
    told = Told().run("a", profile=None).attempt("a", Reason.HARD).agent_ended("a", Reason.HARD).run_ended(1)
    assert summary(fold(told.events)).endswith("next: seqsup report r42 · seqsup logs r42 a · raise --hard")


@pytest.mark.parametrize(
    ("heap", "remedy"),
    [
        (None, "raise node.max_old_space_size for a"),
        (256 * MIB, "raise node.max_old_space_size for a"),
        (auto_heap(GIB), "raise memory.hard for a"),  # a larger one may pass it
    ],
)
def test_a_heap_that_ran_out_is_raised_where_it_comes_from(heap: int | None, remedy: str) -> None:
    told = Told().run("a").attempt("a", Reason.HEAP_OOM, hard=GIB, heap=heap).agent_ended("a", Reason.HEAP_OOM)
    assert summary(fold(told.run_ended(1).events)).endswith(remedy)


LEAK = Leak(verdict=Verdict.JS_LEAK, at="leak.js:1", proven=True)


@pytest.mark.parametrize("reason", OF_MEMORY)
@pytest.mark.parametrize("profile", ["nightly.toml", None])
def test_a_leak_with_a_line_is_to_be_fixed_and_no_limit_raised(reason: Reason, profile: str | None) -> None:
    told = Told().run("a", "b", profile=profile)
    for agent in ("a", "b"):  # of two that leak at one line the first is named
        told.attempt(agent, reason, hard=GIB, heap=auto_heap(GIB), leak=LEAK).agent_ended(agent, reason)
    said = summary(fold(told.run_ended(1).events))
    advice = said[said.index("next: ") :]
    fix = "fix the leak at leak.js:1 (seqsup logs r42 a shows the allocations)"
    assert advice.startswith(f"next: {fix}")
    assert advice.count("leak.js:1") == 1
    assert "raise" not in advice


def test_what_may_be_garbage_is_to_be_looked_for() -> None:
    told = Told().run("a").attempt("a", Reason.HARD, leak=replace(LEAK, proven=False)).agent_ended("a", Reason.HARD)
    assert "next: look for a leak at leak.js:1 (" in summary(fold(told.run_ended(1).events))


def test_a_limit_is_raised_for_another_agent_than_the_one_that_leaks() -> None:
    told = Told().run("a", "b").attempt("a", Reason.HARD, leak=LEAK).agent_ended("a", Reason.HARD)
    told.attempt("b", Reason.HARD).agent_ended("b", Reason.HARD)
    said = summary(fold(told.run_ended(1).events))
    assert "raise memory.hard for b" in said
    assert "for a" not in said


def test_each_distinct_failure_has_its_advice_in_three_lines() -> None:
    told = Told().run("a", "b", "slow", "slow2", "big", "still", "leaks")
    reasons = [Reason.FAILED, Reason.FAILED, Reason.TIMEOUT, Reason.TIMEOUT, Reason.HARD, Reason.STALLED]
    for agent, reason in zip(["a", "b", "slow", "slow2", "big", "still"], reasons, strict=True):
        told.attempt(agent, reason).agent_ended(agent, reason)
    said = summary(fold(told.run_ended(1).events), width=100)
    assert said[said.index("next: ") :].splitlines() == [
        "next: seqsup report r42 · seqsup logs r42 --failed · seqsup start nightly.toml --resume",
        "      raise timeouts.wall for slow, slow2 · raise memory.hard for big",
        "      raise timeouts.stall for still",
    ]


def test_advice_on_many_failures_ends_after_three_lines() -> None:
    names = [f"agent{n}" for n in range(12)]
    told = Told().run(*names)
    for n, name in enumerate(names):
        leak = replace(LEAK, at=f"leak.js:{n}")
        told.attempt(name, Reason.HARD, leak=leak).agent_ended(name, Reason.HARD)
    said = summary(fold(told.run_ended(1).events), width=100)
    assert len(said[said.index("next: ") :].splitlines()) == 3


def test_a_profile_with_a_blank_in_its_path_can_be_pasted() -> None:
    told = Told().run("a", profile="my agents/night.toml").attempt("a", Reason.FAILED)
    told.agent_ended("a", Reason.FAILED).run_ended(1)
    assert "seqsup start 'my agents/night.toml' --resume" in summary(fold(told.events))


@pytest.mark.parametrize(
    ("here", "shown"),
    [("/home/me", "agents/night.toml"), ("/home/me/agents", "night.toml"), ("/tmp", "/home/me/agents/night.toml")],
)
def test_a_profile_is_named_as_it_would_be_typed_here(here: str, shown: str) -> None:
    told = Told().run("a", profile="/home/me/agents/night.toml").attempt("a", Reason.FAILED).run_ended(1)
    assert f"seqsup start {shown} --resume" in summary(fold(told.events), here=here)


def test_dead_supervisor_is_reported_with_what_to_do() -> None:
    told = Told().run("a", "b").started("a").lost("a")
    said = unpainted("\n".join(body(fold(told.events), died=True, unswept=True)))
    assert "why a was lost: the supervisor died" in said
    assert said.endswith(
        "next: seqsup sweep · seqsup start nightly.toml --resume · seqsup logs r42 · seqsup report r42"
    )


def test_a_policy_that_stopped_the_run_is_named() -> None:
    told = Told().run("a").attempt("a").agent_ended("a").run_ended(4, why="memory did not drain in 30 s")
    assert "why the run stopped: memory did not drain in 30 s" in summary(fold(told.events))


def test_control_characters_in_names_do_not_reach_the_terminal() -> None:
    told = Told().run("a").attempt("a", Reason.HARD, processes=(process(1, "\x1b[2Jevil\r"),))
    told.agent_ended("a", Reason.HARD, why="said\x1b]0;title\x07").run_ended(1)
    assert not set("\x1b\r\x07") & set(summary(fold(told.events)))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("node agents/embed.js --all", "node embed.js"),
        ("/usr/bin/node --require /opt/preload.cjs --max-old-space-size=100 embed.js", "node embed.js"),
        ("node", "node"),
        ("python3 -u -m http.server", "python3 http.server"),
        ("sh -c sleep 5", "sh -c"),
        ("/opt/bun/bin/bun.exe run agents/embed.ts", "bun embed.ts"),
        ("deno run -A agents/embed.ts", "deno embed.ts"),
        ("bun run", "bun"),
        ("/opt/claude-code/bin/claude.exe -p hi", "claude"),
        ("node run embed.js", "node run"),
        ("node -e setInterval(()=>{},1)", "node -e"),
        ("/opt/google/chrome --type=renderer", "chrome"),
        ("", "comm"),
        ("/usr/lib/chromium/chromium-headless-shell --type=zygote", "chromium-headless-shell"),
    ],
)
def test_a_process_is_named_as_its_user_would(command: str, said: str) -> None:
    name = command.split()[0].rsplit("/")[-1][:15] if command else "comm"
    assert title(ProcessMemory(pid=1, name=name, command=command, bytes=0)) == said


def test_name_that_the_kernel_cut_is_completed_to_the_end_of_its_word() -> None:
    for name, command, said in [
        ("npm exec vite -", "npm exec vite --port 5199", "npm exec vite --port"),
        ("next-server (v1", "next-server (v16.0.1)", "next-server (v16.0.1)"),
        ("Compositor-Task", "/usr/bin/other", "Compositor-Task"),
        ("x" * 15, "x" * 200, "x" * 60),
        ("Compositor-Task", "", "Compositor-Task"),
    ]:
        assert title(ProcessMemory(pid=1, name=name, command=command, bytes=0)) == said


def test_processes_of_one_name_are_added_up_and_the_small_ones_too() -> None:
    assert processes(HELD[:1] * 2 + HELD[1:]) == (
        "2 × node embed.js 1.2 GiB · chrome 237 MiB · git 40 MiB · other 58 MiB"
    )
    assert processes(HELD[:4]).endswith("git 40 MiB · sh -c 30 MiB"), "one other is named"
    assert processes(()) == ""


def test_histories_of_the_helpers_begin_at_their_start_time() -> None:
    assert fold(Told().run("a").events).started == BEGAN + 1


def test_turns_and_cost_are_columns_if_any_agent_has_them() -> None:
    told = Told().run("plan", "lint", "fix").attempt("lint").agent_ended("lint")
    for name, reason, conversation in (
        ("plan", Reason.COMPLETED, Conversation(turns=14, usd=1.834)),
        ("fix", Reason.HARD, Conversation(turns=3, usd=0.42, usd_is_partial=True)),
    ):
        told.attempt(name, reason, conversation=conversation).agent_ended(name, reason)
    rows = [line.split() for line in summary(fold(told.events)).splitlines()[2:6]]
    assert [row[-7] for row in rows[1:3]] == ["$1.83", "–"]
    assert rows[0][4:6] == ["turns", "cost"]
    assert "≥ $0.42" in " ".join(rows[3])
