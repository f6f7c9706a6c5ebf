"""The JSON stream of an agent's CLI, read while it runs: stubs write what the CLIs wrote."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.supervised import Tried, step, tried
from seqsup.model.conversation import ResultKind
from seqsup.model.enums import Halt
from seqsup.model.events import AnyEvent, SessionReported
from seqsup.model.preset import read_preset
from seqsup.model.reason import Reason
from seqsup.policy.sessions import NONE_CHOSEN
from seqsup.runner.place import AttemptPaths
from seqsup.runner.stop_request import StopRequest
from seqsup.runner.stream_watch import StreamWatch
from seqsup.state.artifacts import summary
from seqsup.state.run_folder import STDOUT
from seqsup.units import MIB

STREAMS = ROOT / "tests/data/streams"


def recorded(cli: str, case: str) -> tuple[dict[str, Any], Path]:
    """Return what is known of a recording, and its file."""
    file = STREAMS / cli / f"{case}.ndjson"
    return json.loads(file.read_text().partition("\n")[0])["recorded"], file


def replayed(cli: str, case: str, tmp_path: Path, before: str = "", **changes: Any) -> Tried:
    """Make an attempt at a program that writes what a CLI wrote, to both streams, and exits as it did."""
    known, file = recorded(cli, case)
    script = f"tail -n +2 {file}; printf %s {shlex.quote(known['stderr'])} >&2; {before} exit {known['exit']}"
    own = step("sh", "-c", script, cwd=tmp_path, dialect=cli, preset=read_preset(cli), **changes)
    return tried(own, tmp_path / "run")


def test_session_is_reported_and_the_answer_is_the_summary(tmp_path: Path) -> None:
    made = replayed("claude", "turn", tmp_path)
    conversation = made.outcome.conversation
    assert made.reason is Reason.COMPLETED
    assert conversation is not None
    assert conversation.result is not None
    assert conversation.result.kind is ResultKind.COMPLETED
    assert conversation.usd is not None
    assert (conversation.tokens.total > 0, conversation.turns) == (True, 2)
    assert [event.session for event in made.events if isinstance(event, SessionReported)] == [conversation.session]
    assert summary(made.folder) == conversation.result.text != ""


@pytest.mark.parametrize(
    ("cli", "case", "reason", "words"),
    [
        ("claude", "usage-limit", Reason.USAGE_LIMIT, "claude reached its usage limit: You've hit your 5-hour limit"),
        ("codex", "usage-limit", Reason.USAGE_LIMIT, "codex reached its usage limit: You’ve hit your usage limit"),
        ("claude", "max-turns", Reason.BUDGET, "exit 1: Reached maximum number of turns"),
        ("claude", "max-budget", Reason.BUDGET, "exit 1: "),
        ("claude", "credit", Reason.NO_CREDIT, "claude has no credit left: Credit balance is too low"),
        ("codex", "credit", Reason.NO_CREDIT, "codex has no credit left: Quota exceeded. Check your plan"),
        ("gemini", "credit", Reason.NO_CREDIT, "gemini has no credit left: "),
        ("claude", "interrupted", Reason.FAILED, "exit 0, but it reported: "),
        ("codex", "auth", Reason.FAILED, "exit 1: unexpected status 401"),
        ("claude", "several-tools", Reason.COMPLETED, ""),
    ],
)
def test_last_result_decides(cli: str, case: str, reason: Reason, words: str, tmp_path: Path) -> None:
    made = replayed(cli, case, tmp_path)
    assert (made.reason, made.outcome.why[: len(words)]) == (reason, words)
    if case == "usage-limit" and cli == "claude":
        assert made.outcome.resets_at == 1796259227


def test_failed_tool_is_no_failure_of_the_agent(tmp_path: Path) -> None:
    failed = {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "is_error": True}]}}
    _, file = recorded("claude", "turn")
    script = f"echo {shlex.quote(json.dumps(failed))}; tail -n +2 {file}; echo {shlex.quote(json.dumps(failed))}"
    own = step("sh", "-c", script, cwd=tmp_path, dialect="claude", preset=read_preset("claude"))
    assert tried(own, tmp_path / "run").reason is Reason.COMPLETED


def test_stream_that_a_kill_cuts_amid_a_line_keeps_what_it_had(tmp_path: Path) -> None:
    _, file = recorded("claude", "turn")
    script = f'sed -n 2,4p {file}; printf \'{{"type":"result","resu\'; echo ready >&2; exec sleep 60'

    def kill(event: AnyEvent, stop_request: StopRequest) -> None:
        if isinstance(event, SessionReported):
            stop_request.wish(Halt.KILL, 2, "test")

    own = step("sh", "-c", script, cwd=tmp_path, dialect="claude", preset=read_preset("claude"))
    made = tried(own, tmp_path / "run", meanwhile=kill)
    conversation = made.outcome.conversation
    assert made.reason is Reason.HALTED
    assert conversation is not None
    assert (conversation.malformed, conversation.result, conversation.usd_is_partial) == (1, None, True)
    assert (conversation.session != "", conversation.turns) == (True, 1)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sleep 60", Reason.STALLED),
        ("timeout 5 sh -c 'while :; do :; done'", Reason.COMPLETED),
        ("timeout 5 sh -c 'while :; do /bin/true; done'", Reason.COMPLETED),
    ],
    ids=["idle", "a tool that computes", "tools that are short"],
)
def test_agent_with_a_stream_is_stalled_if_its_tree_is_silent_and_idle(
    script: str, reason: Reason, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqsup.policy.watch.AUTO_STALL", 2.5)
    monkeypatch.setattr("seqsup.runner.output_watch.LOOK_EVERY", 0.4)
    own = step(
        "sh", "-c", f"{script}; exit 0", cwd=tmp_path, dialect="claude", preset=read_preset("claude"),
        timeouts={"stall": "auto"},
    )  # fmt: skip
    made = tried(own, tmp_path / "run")
    assert made.reason is reason
    assert reason is Reason.COMPLETED or made.outcome.why.startswith("no output and no CPU use for 2.")


def test_program_without_a_stream_is_judged_by_its_words(tmp_path: Path) -> None:
    own = step(
        sys.executable, "-c", "print('Claude usage limit reached|1796259227')", cwd=tmp_path, dialect="claude",
        preset=read_preset("claude"),
    )  # fmt: skip
    made = tried(own, tmp_path / "run")
    assert (made.reason, made.outcome.resets_at) == (Reason.USAGE_LIMIT, 1796259227)


# -- a stream that is written faster than it can be read

FLOOD = """
import json, os, subprocess, sys, time
said = {"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "x" * 60}]}}
block = (json.dumps(said) + "\\n").encode() * 1000
os.write(1, b'{"type":"system","subtype":"init","session_id":"s1"}\\n')
total, pause, leak = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
child = subprocess.Popen([sys.executable, "-c", leak]) if leak else None
written = 0
while written < total:
    written += os.write(1, block)
    time.sleep(pause)
os.write(1, b'{"type":"x","long":"')
for _ in range(50):
    os.write(1, b"y" * 2**20)
os.write(1, b'"}\\n{"type":"result","is_error":false,"num_turns":1,"result":"done"}\\n')
"""
LEAK = "import time; held = []\nwhile True: held.append(bytearray(b'x') * 2**22); time.sleep(0.02)"


def flooded(tmp_path: Path, total: int, pause: float, leak: str = "", **changes: Any) -> Tried:
    """Make an attempt at a program that writes `total` bytes and a line of 50 MiB before its result."""
    words = (sys.executable, "-c", FLOOD, str(total), str(pause), leak)
    own = step(*words, cwd=tmp_path, dialect="claude", preset=read_preset("claude"), **changes)
    return tried(own, tmp_path / "run")


def own_memory(key: str) -> int:
    """Return a figure of this process in bytes: VmRSS now, VmHWM the highest since it was reset."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("output_max", [None, 16 * MIB])
def test_result_behind_a_flood_is_read_and_memory_stays_bounded(tmp_path: Path, output_max: int | None) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    before = own_memory("VmRSS")
    made = flooded(tmp_path, 200 * MIB, 0.0, output_max=output_max)
    conversation = made.outcome.conversation
    assert made.reason is Reason.COMPLETED
    assert conversation is not None
    assert conversation.result is not None
    assert (conversation.session, conversation.result.text) == ("s1", "done")
    assert conversation.skipped >= 1
    assert own_memory("VmHWM") - before < 64 * MIB


def test_leak_beside_ten_thousand_lines_a_second_is_stopped_at_its_limit(tmp_path: Path) -> None:
    made = flooded(tmp_path, 2**40, 0.1, LEAK, limits={"hard": 256 * MIB})
    assert made.reason is Reason.HARD
    assert made.outcome.peak < 320 * MIB
    assert made.outcome.seconds < 10
    assert made.outcome.conversation is not None
    assert made.outcome.conversation.session == "s1"


def test_stream_that_is_emptied_is_not_counted_twice(tmp_path: Path) -> None:
    spent = {"type": "result", "is_error": False, "model_usage_since_last_result": {"opus": {"inputTokens": 5}}}
    line = json.dumps(spent).encode() + b"\n"
    paths = AttemptPaths(tmp_path, tmp_path, "agent/1", -1, {})
    own = step("true", cwd=tmp_path, dialect="claude", preset=read_preset("claude"))
    watch = StreamWatch(own, 1, paths, lambda _: None, NONE_CHOSEN)
    file = tmp_path / STDOUT
    for content in (line * 3, line, line * 2):  # written, rewritten, and grown again
        file.write_bytes(content)
        watch.read(1.0)
    watch.close()
    assert (watch.conversation.tokens.input, watch.conversation.skipped) == (20, 1)
