"""What the readers find in streams that the real CLIs wrote."""

import json
import re
from typing import NamedTuple

import pytest

from helpers.recordings import RECORDINGS, recorded
from seqsup.dialects.stream import EventStream
from seqsup.dialects.transcript import Transcript
from seqsup.model.conversation import Conversation, ProviderLimit, Result, ResultKind, Tokens, ToolUse

SAYS = "There are three files, and the tests pass."
NOW = 5.0


def conversation(name: str, text: bytes | None = None, **before: object) -> Conversation:
    stream = EventStream(name.partition("/")[0], **before)  # type: ignore[arg-type]
    stream.feed(recorded(name) if text is None else text, NOW)
    return stream.end()


class Expected(NamedTuple):
    turns: int = 0
    tokens: tuple[int, int] = (0, 0)  # input and output
    usd: float | None = None
    kind: ResultKind | None = ResultKind.COMPLETED
    text: str = SAYS
    denied: tuple[str, ...] = ()


def failed(text: str) -> Expected:
    return Expected(kind=ResultKind.FAILED, text=text)


TURN, ONCE = Expected(2, (2400, 160)), Expected(1, (1200, 80))
BUDGET = Expected(1, (1200, 80), 0.0064, ResultKind.BUDGET)
NOTHING = Expected(kind=None)
EXPECTED = {
    "claude/auth": failed("Invalid API key · Fix external API key")._replace(usd=0.0),
    "claude/credit": Expected(0, (0, 0), 0.0, ResultKind.NO_CREDIT, "Credit balance is too low"),
    "claude/denied": Expected(2, (13513, 80), 0.055652, denied=("Bash",)),
    "claude/interrupted": Expected(1, (12360, 32), 0.05008, ResultKind.INTERRUPTED, ""),
    "claude/lost": failed("No conversation found with session ID: 3f0c1f9e-0000-4000-8000-000000000000")._replace(
        usd=0.0
    ),
    "claude/max-budget": BUDGET._replace(text="Reached maximum budget ($0.001)"),
    "claude/max-turns": BUDGET._replace(text="Reached maximum number of turns (1)"),
    "claude/resumed": ONCE._replace(usd=0.0064),
    "claude/several-tools": TURN._replace(usd=0.0128),
    "claude/subagents": Expected(5, (6000, 400), 0.032, text="A part."),
    "claude/turn": TURN._replace(usd=0.0128),
    "claude/usage-limit": Expected(
        0, (0, 0), 0.0, ResultKind.USAGE_LIMIT, "You've hit your 5-hour limit · resets 12:53am (UTC)"
    ),
    "claude/usage-warning": TURN._replace(usd=0.0064),
    "codex/auth": failed(
        "unexpected status 401 Unauthorized: Incorrect API key provided: x., url: http://127.0.0.1:1/v1/responses"
    ),
    "codex/credit": failed("Quota exceeded. Check your plan and billing details."),
    "codex/lost": NOTHING,
    "codex/resumed": TURN._replace(turns=1),  # its tokens are those of the whole session
    "codex/several-tools": TURN._replace(turns=3),  # it ran two calls of one answer one after another
    "codex/turn": TURN,
    "codex/usage-limit": failed(
        "You’ve hit your usage limit. Visit https://chatgpt.com/settings/usage to purchase more credits or try again"
        " at Dec 3rd, 2026 12:49 AM."
    ),
    "copilot/lost": NOTHING,
    "copilot/resumed": Expected(1),
    "copilot/several-tools": Expected(2),
    "copilot/turn": Expected(2),
    "gemini/denied": Expected(2, (10440, 80)),
    "gemini/lost": NOTHING,
    "gemini/resumed": ONCE,
    "gemini/several-tools": TURN,
    "gemini/turn": TURN,
    "opencode/auth": failed("Incorrect API key provided: x."),
    "opencode/lost": NOTHING,
    "opencode/resumed": ONCE._replace(usd=0.00136),
    "opencode/several-tools": TURN._replace(usd=0.00272),
    "opencode/turn": TURN._replace(usd=0.00272),
    "qwen/auth": failed("[API Error: 401 Incorrect API key provided: x.]"),
    "qwen/denied": Expected(2, (17690, 80), denied=("Bash",)),
    "qwen/lost": NOTHING,
    "qwen/max-session-turns": ONCE._replace(kind=None),
    "qwen/resumed": Expected(1, (4800, 320)),  # of the whole session, with two requests that no line shows
    "qwen/several-tools": TURN,
    "qwen/turn": TURN,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recording_has_these_facts(name: str) -> None:
    expected, found = EXPECTED[name], conversation(name)
    assert (found.turns, (found.tokens.input, found.tokens.output)) == (expected.turns, expected.tokens)
    assert found.usd == (None if expected.usd is None else pytest.approx(expected.usd))
    assert found.result == (None if expected.kind is None else Result(kind=expected.kind, text=expected.text))
    assert found.denied == expected.denied
    assert found.tool is None or expected.kind is None
    assert not found.usd_is_partial


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_names_its_session_and_has_no_line_that_is_not_read(name: str) -> None:
    text = recorded(name)
    found = conversation(name)
    named = re.findall(rb'"(?:session_id|thread_id|sessionID|sessionId)":\s*"([^"]+)"', text)
    assert found.session == (named[-1].decode() if named and not name.endswith("/lost") else "")
    assert found.malformed == found.skipped == 0


@pytest.mark.parametrize(
    "name", ["copilot/auth", "gemini/auth", "gemini/credit", "gemini/usage-limit", "qwen/usage-limit"]
)
def test_recorded_failure_has_its_message(name: str) -> None:
    found = conversation(name).result
    assert found is not None
    assert found.kind is ResultKind.FAILED
    assert re.search("401|402|reset after 1h0m0s", found.text)


def test_stream_names_the_model_of_each_cli_that_reports_it() -> None:
    models = {cli: conversation(f"{cli}/turn").model for cli in ("claude", "codex", "copilot", "gemini", "qwen")}
    assert models == {
        "claude": "claude-opus-5-5", "codex": "", "copilot": "fake", "gemini": "gemini-2.5-flash", "qwen": "fake"
    }  # fmt: skip


def test_claude_reports_its_fullest_window() -> None:
    warned = ProviderLimit(used=0.91, resets_at=2_000_000_000, window="five_hour")
    assert conversation("claude/usage-warning").limit == warned
    windows = {
        "five_hour": {"utilization": 0.12, "resetsAt": 2_000_000_000, "status": "allowed"},
        "seven_day": {"utilization": 0.4, "resetsAt": 2_000_300_000, "status": "allowed"},
    }
    info = {"status": "allowed", "resetsAt": 2_000_000_000, "rateLimitType": "five_hour", "unifiedWindows": windows}
    line = json.dumps({"type": "rate_limit_event", "rate_limit_info": info}).encode() + b"\n"
    weekly = ProviderLimit(used=0.4, resets_at=2_000_300_000, window="seven_day")
    assert conversation("claude/usage-warning", line).limit == weekly


def test_claude_reports_when_a_reached_limit_resets() -> None:
    limit = ProviderLimit(rejected=True, used=1.0, resets_at=1796259227, window="five_hour")
    assert conversation("claude/usage-limit").limit == limit


def test_resumed_claude_has_its_own_cost_and_that_of_its_session() -> None:
    found = conversation("claude/resumed", usd_before=0.0064)
    assert found.usd == pytest.approx(0.0064)
    assert found.usd_of_session == pytest.approx(0.0128)


def test_older_claude_reports_the_sums_of_its_process() -> None:
    results = [(0.5, 30), (0.75, 40)]
    lines = [
        {"type": "result", "is_error": False, "total_cost_usd": usd, "modelUsage": {"m": {"outputTokens": output}}}
        for usd, output in results
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    found = conversation("claude/turn", text, usd_before=0.25)
    assert (found.usd, found.usd_of_session, found.tokens) == (0.75, 1.0, Tokens(output=40))


@pytest.mark.parametrize("cli", ["codex", "qwen"])
def test_resumed_attempt_has_the_tokens_over_those_of_its_session(cli: str) -> None:
    whole = conversation(f"{cli}/resumed").tokens
    before = Tokens(input=1200, output=80)
    found = conversation(f"{cli}/resumed", tokens_before=before).tokens
    assert found == Tokens(input=whole.input - 1200, output=whole.output - 80)


@pytest.mark.parametrize(
    ("cli", "name", "about"),
    [
        ("claude", "Bash", "expr 41 + 1"),
        ("codex", "shell", "/bin/bash -lc 'expr 41 + 1'"),
        ("copilot", "bash", "expr 41 + 1"),
        ("gemini", "run_shell_command", "expr 41 + 1"),
        ("qwen", "run_shell_command", "expr 41 + 1"),
    ],
)
def test_killed_cli_shows_its_tool_in_progress(cli: str, name: str, about: str) -> None:
    lines = recorded(f"{cli}/turn").splitlines(keepends=True)
    started = next(n for n, line in enumerate(lines) if _uses_tool(cli, line))
    found = conversation(f"{cli}/turn", b"".join(lines[: started + 1]))
    assert found.tool == ToolUse(name=name, about=about, since=NOW)
    assert found.result is None
    assert (found.usd, found.usd_is_partial) == ((0.0, True) if cli == "claude" else (None, False))


def _uses_tool(cli: str, line: bytes) -> bool:
    words = {"codex": b'"item.started"', "copilot": b'"tool.execution_start"', "gemini": b'"tool_use"'}
    return words.get(cli, b'"type":"tool_use"') in line


@pytest.mark.parametrize(("cli", "usd"), [("claude", 0.0), ("opencode", 0.00136)])
def test_cost_is_a_lower_bound_after_a_kill_amid_a_turn(cli: str, usd: float) -> None:
    lines = recorded(f"{cli}/turn").splitlines(keepends=True)
    begun = next(n for n, line in enumerate(lines) if b'"init"' in line or b"step_finish" in line) + 1
    found = conversation(f"{cli}/turn", b"".join(lines[: begun + (cli == "opencode")]))
    assert found.usd == pytest.approx(usd)
    assert found.usd_is_partial


def test_last_result_gives_the_kind_and_the_last_one_with_text_the_text() -> None:
    lines = [
        {"type": "result", "is_error": True, "result": "broken"},
        {"type": "result", "is_error": False, "result": "done"},
        {"type": "result", "is_error": False, "result": "", "num_turns": 0},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    assert conversation("claude/turn", text).result == Result(kind=ResultKind.COMPLETED, text="done")


def test_codex_reports_a_declined_command() -> None:
    item = {"id": "1", "type": "command_execution", "command": "rm -r .", "status": "declined"}
    line = json.dumps({"type": "item.completed", "item": item}).encode() + b"\n"
    assert conversation("codex/turn", line).denied == ("shell",)
    assert Transcript("codex").feed(line).decode() == "▶ shell: rm -r .\n  ✖ declined\n"


def test_codex_names_the_files_that_it_changes() -> None:
    changes = [{"path": "a.py", "kind": "add"}, {"path": "b.py", "kind": "update"}]
    item = {"id": "1", "type": "file_change", "changes": changes, "status": "completed"}
    line = json.dumps({"type": "item.completed", "item": item}).encode() + b"\n"
    assert Transcript("codex").feed(line).decode() == "▶ file_change: a.py b.py\n"


# -- what a person reads


def transcript(name: str) -> str:
    reader = Transcript(name.partition("/")[0])
    return (reader.feed(recorded(name)) + reader.end()).decode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("claude/denied", f"▶ Bash: python3 -c 1\n  ✖ This command requires approval\n{SAYS}\n"),
        ("claude/usage-limit", "✖ You've hit your 5-hour limit · resets 12:53am (UTC)\n"),
        ("claude/max-turns", "▶ Bash: expr 41 + 1\n✖ Reached maximum number of turns (1)\n"),
        ("codex/turn", f"▶ shell: /bin/bash -lc 'expr 41 + 1'\n{SAYS}\n"),
        ("copilot/turn", f"▶ bash: expr 41 + 1\n{SAYS}\n"),
        ("gemini/turn", f"▶ run_shell_command: expr 41 + 1\n{SAYS}\n"),
        ("opencode/auth", "✖ Incorrect API key provided: x.\n"),
        ("qwen/turn", f"▶ run_shell_command: expr 41 + 1\n{SAYS}\n"),
    ],
)
def test_transcript_has_answers_tools_and_errors(name: str, text: str) -> None:
    assert transcript(name) == text


def test_transcript_names_the_subagent_that_speaks() -> None:
    assert transcript("claude/subagents").splitlines()[3:] == [
        "[First part] A part.",
        "[Second part] A part.",
        "A part.",
    ]
