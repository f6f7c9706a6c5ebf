"""`start` and `status --watch` before a person: real terminals, made by tmux."""

import os
import re
import shlex
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.profiles import agent, of, parsed, proven, shell, write
from helpers.terminals import Open, in_tmux
from helpers.waiting import wait_for

Cli = Callable[..., Result]
KEYS = "Ctrl-C: stop after this agent"


GROWS = """
import pathlib, sys, time
block = []
for n in range(5):
    block.append(b"x" * 8 * 1024 * 1024)
    print("turn", n, flush=True)
    time.sleep(0.3)
while not pathlib.Path("enough").exists():
    time.sleep(0.02)
"""


def grows(name: str = "embed") -> dict[str, object]:
    return agent(name, [sys.executable, "-c", GROWS])


@in_tmux
def test_background_run_leaves_the_terminal_to_others_and_keeps_watching(terminal: Open, tmp_path: Path) -> None:
    term = terminal()
    profile = write(tmp_path, shell("triage", "until test -e enough; do sleep 0.05; done"))
    command = shlex.join([sys.executable, "-m", "seqsup", "start", profile.name])
    term.say(f"clear; stty tostop; {command} &")
    wait_for(lambda: "triage      started" in term.all(), 30)
    time.sleep(1.5)  # three times as long as it takes to draw
    term.say("jobs")
    wait_for(lambda: "Running" in term.all() or "Stopped" in term.all())
    assert ("Running" in term.all(), KEYS in term.all()) == (True, False)
    term.say("fg")
    wait_for(lambda: KEYS in term.shown())
    (tmp_path / "enough").touch()
    wait_for(lambda: "1 of 1 completed" in term.all() and KEYS not in term.shown())


@in_tmux
def test_the_view_is_drawn_below_the_log_and_gone_at_the_end(terminal: Open, tmp_path: Path) -> None:
    term = terminal()
    profile = write(tmp_path, shell("triage", "true"), grows(), shell("report", "true"), memory={"hard": "256MiB"})
    term.type("start", profile.name)
    view = term.shows("of 256 MiB", "held python", "next report", KEYS)
    assert re.search(r"^▶ embed  \d.* · pid \d+ · 1 process$", view, re.MULTILINE)
    assert re.search(r"^ mem  █+░+  \d+ MiB of 256 MiB · \d+ %", view, re.MULTILINE)
    assert view.count(KEYS) == 1
    (tmp_path / "enough").touch()
    assert term.code() == 0
    left = term.all()
    assert KEYS not in left
    assert "────" not in left
    assert len(re.findall(r"embed +started", left)) == 1
    assert "3 of 3 completed" in left


@in_tmux
def test_the_address_is_the_one_where_figures_are_served(terminal: Open, tmp_path: Path) -> None:
    term = terminal(width=120)
    term.type("start", write(tmp_path, grows(), metrics={"listen": "127.0.0.1:0"}).name)
    shown = wait_for(lambda: re.search(r"metrics (127\.0\.0\.1:\d+)", term.shown()))
    assert "seqsup_" in urllib.request.urlopen(f"http://{shown[1]}/metrics", timeout=40).read().decode()
    (tmp_path / "enough").touch()
    assert term.code() == 0


@in_tmux
def test_wait_for_a_last_scrape_is_reported_and_can_be_left(terminal: Open, tmp_path: Path) -> None:
    term = terminal()
    term.type("start", write(tmp_path, shell("a", "true"), metrics={"listen": "127.0.0.1:0", "linger": "60s"}).name)
    wait_for(lambda: "for a last scrape (Ctrl-C: do not wait)" in " ".join(term.shown().split()))
    term.press("C-c")
    assert term.code() == 0


@in_tmux
@pytest.mark.parametrize(("answer", "code"), [("a dark mode", 0), ("", 2)])
def test_start_asks_for_the_task_that_agents_use(terminal: Open, tmp_path: Path, answer: str, code: int) -> None:
    profile = write(tmp_path, agent("a", ["sh", "-c", 'echo "$0" > ran', "{task}"]))
    term = terminal()
    term.type("start", profile.name)
    term.shows("{task} is empty, and a uses it", "task:")
    if answer:
        term._call("send-keys", "-l", answer)
    term.press("Enter")
    assert term.code() == code
    assert (tmp_path / "ran").exists() == bool(answer)
    assert "--task" in term.shown() or answer


@in_tmux
def test_text_before_a_run_is_broken_at_words(
    terminal: Open, seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    first = seqsup_started("start", write(tmp_path, grows("first"), name="the-first-of-the-two-runs"))
    wait_for(lambda: "first       started" in first.stderr)
    term = terminal(width=40)
    term.type("start", write(tmp_path, shell("second", "true")).name)
    shown = term.shows("waiting for", "the-first-of-the-two-runs")
    (told,) = re.findall(r"seqsup: waiting for.*\n(?:  .*\n)*", shown)
    assert "\n  " in told
    assert all(len(line) <= 40 for line in told.splitlines())
    assert "the-first-of-the-two-runs" in told
    (tmp_path / "enough").touch()
    assert term.code() == 0


@in_tmux
def test_ctrl_c_thrice_kills_and_the_terminal_is_left_clean(
    terminal: Open, stub: Callable[..., list[str]], tmp_path: Path
) -> None:
    term = terminal()
    profile = write(tmp_path, agent("deaf", stub("deaf")), timeouts={"grace": "60s"})
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    term.type("start", profile.name)
    wait_for(lambda: "ready" in (state / "runs/r1/deaf/1/stdout.log").read_text())
    term.shows("▶ deaf", KEYS)
    term.press("C-c")
    term.shows("stops after this agent", "Ctrl-C again: stop now · twice: kill")
    term.press("C-c")
    term.shows("stops now (with a grace period)", "Ctrl-C again: kill")
    term.press("C-c")
    assert term.code() == 130
    left = term.all()
    assert KEYS not in left
    assert len(re.findall(r"seqsup +stop +Ctrl-C: ", left)) == 3


@in_tmux
@pytest.mark.long
@pytest.mark.parametrize("sizes", [[(40, 24), (120, 24), (80, 24)], [(80, 6), (80, 30)], [(40, 10), (41, 9), (39, 24)]])
def test_a_window_that_changes_leaves_no_remains(terminal: Open, tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    term = terminal()
    term.type("start", write(tmp_path, grows(), memory={"hard": "256MiB"}).name)
    wait_for(lambda: KEYS in term.shown())
    for width, height in sizes:
        term.resize(width, height)
        time.sleep(1.2)  # two redraws: there is no sign of the second one to wait for
        assert max(map(len, term.shown().splitlines()), default=0) <= width
    (tmp_path / "enough").touch()
    assert term.code() == 0
    left = term.all()
    assert "Ctrl-C: stop" not in left
    assert len(re.findall(r"embed +started", left)) == 1
    assert "░" not in left


@in_tmux
@pytest.mark.long
def test_a_narrow_terminal_without_colour_or_symbols(terminal: Open, tmp_path: Path) -> None:
    term = terminal(40, 24, LC_ALL="C", NO_COLOR="1")
    term.type("start", write(tmp_path, grows(), memory={"hard": "256MiB"}).name)
    view = term.shows(KEYS, "of 256 MiB", styled=True)
    assert view.isascii()
    assert "\x1b[" not in view
    (tmp_path / "enough").touch()
    assert term.code() == 0


@in_tmux
@pytest.mark.long
def test_colour_is_there_where_it_is_wanted(terminal: Open, tmp_path: Path) -> None:
    term = terminal()
    term.type("start", write(tmp_path, grows(), memory={"hard": "256MiB"}).name)
    wait_for(lambda: "\x1b[32m█" in term.shown(styled=True))
    (tmp_path / "enough").touch()
    assert term.code() == 0


@in_tmux
@pytest.mark.long
@pytest.mark.parametrize("how", ["--progress=plain", "-q", "CI=1", "TERM=dumb"])
def test_live_view_is_not_drawn_if_it_is_not_wanted(terminal: Open, tmp_path: Path, how: str) -> None:
    name, _, value = how.partition("=")
    options = [how] if how.startswith("-") else []
    term = terminal(CI=value) if name == "CI" else terminal()
    profile = write(tmp_path, grows(), memory={"hard": "256MiB"})
    words = ["start", profile.name, *options]
    if name == "TERM":
        term._call("send-keys", "-l", "export TERM=dumb")
        term.press("Enter")
    term.type(*words)
    wait_for(lambda: (tmp_path / "home/seqsup_state_dir/runs/r1/embed/1/stdout.log").exists())
    time.sleep(1.5)  # nothing is to come: there is no sign of it to wait for
    assert KEYS not in term.shown()
    (tmp_path / "enough").touch()
    assert term.code() == 0


@in_tmux
def test_output_of_agents_scrolls_above_the_view(terminal: Open, tmp_path: Path) -> None:
    term = terminal()
    term.type("start", "--follow", write(tmp_path, grows(), memory={"hard": "256MiB"}).name)
    view = term.shows("embed | turn 0", "embed | turn 4", KEYS)
    assert view.index("embed | turn 0") < view.index("embed | turn 4") < view.index(KEYS)
    (tmp_path / "enough").touch()
    assert term.code() == 0
    assert len(re.findall(r"^embed \| turn \d$", term.all(), re.MULTILINE)) == 5


# -- where there is no terminal


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1", "TERM": "xterm"}, {"CI": "true"}])
def test_a_pipe_gets_lines_whatever_the_environment_says(
    seqsup: Cli, tmp_path: Path, variables: dict[str, str]
) -> None:
    ended = seqsup("start", write(tmp_path, shell("a", "sleep 1")), env=variables)
    assert ended.code == 0
    assert KEYS not in ended.stderr
    assert not re.search(r"\x1b\[[0-9?]*[A-Zhl]", ended.stderr)
    assert ("\x1b[" in ended.stderr) is ("FORCE_COLOR" in variables)


def test_lines_of_agents_carry_their_names_and_move_no_cursor(seqsup: Cli, tmp_path: Path) -> None:
    script = r"printf 'one\n\033[31mred\033[0m \033[2Jclear\n10 %%\r100 %%\n'; printf 'error\n' >&2; printf 'no end'"
    ended = seqsup("start", "--follow", write(tmp_path, shell("a", script), shell("b", "echo two")))
    assert ended.code == 0
    assert sorted(ended.stdout.splitlines()) == sorted(
        ["a | one", "a | red clear", "a | 100 %", "a | error", "a | no end", "b | two"]
    )
    assert "a | " not in ended.stderr


def test_agent_that_prints_more_than_can_be_shown_is_still_watched(
    seqsup: Cli, seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    chatty = shell("a", "yes | head -c 8M; exec sleep 60", timeouts={"wall": "1s"}, retry={"attempts": 1})
    started = seqsup_started("start", "--follow", write(tmp_path, chatty))  # into a file, which takes all at once
    wait_for(lambda: of(parsed(seqsup("events").stdout), "attempt_ended"))
    (ended,) = of(parsed(seqsup("events").stdout), "attempt_ended")
    assert (ended["reason"], ended["seconds"] < 4) == ("timeout", True), ended
    started.send(signal.SIGINT)  # without it, seqsup would keep passing output on
    assert started.wait().code == 1


def test_following_and_json_do_not_go_together(seqsup: Cli, tmp_path: Path) -> None:
    ended = seqsup("start", "--follow", "--json", write(tmp_path, shell("a", "true")))
    assert ended.code == 2
    assert "seqsup logs -f" in ended.stderr
    assert proven(seqsup("start", "--json", write(tmp_path, shell("a", "true"))))


@in_tmux
def test_another_terminal_can_watch(terminal: Open, seqsup_started: Callable[..., object], tmp_path: Path) -> None:
    seqsup_started("start", write(tmp_path, grows(), shell("report", "true"), memory={"hard": "256MiB"}))
    wait_for(lambda: (tmp_path / "home/seqsup_state_dir/runs/r1/memory.ndjson").exists())
    term = terminal()
    term.type("status", "--watch")
    term.shows("MiB of 256 MiB", "next report", "Ctrl-C: stop watching (the run continues)")
    (tmp_path / "enough").touch()
    assert term.code() == 0
    left = term.all()
    assert "leave the run alone" not in left
    assert "2 of 2 completed" in left


def test_without_a_terminal_there_is_nothing_to_watch(seqsup: Cli, tmp_path: Path) -> None:
    seqsup("start", write(tmp_path, shell("a", "true")))
    ended = seqsup("status", "--watch")
    assert ended.code == 2
    assert "use `seqsup events -f`" in ended.stderr
