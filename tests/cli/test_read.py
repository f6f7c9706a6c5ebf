"""The commands that look: real seqsup on journals written through the journal, a table of argv → code and output."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import shell, write
from helpers.told import Told
from helpers.waiting import wait_for
from helpers.written import Written
from seqsup.cli.app import COMMANDS, ISSUES
from seqsup.model.enums import Halt
from seqsup.model.events import RunEnded
from seqsup.model.reason import Reason
from seqsup.state.run_folder import run_folder
from seqsup.units import MIB

Seqsup = Callable[..., Result]
Start = Callable[..., Started]


@pytest.fixture
def written(test_id: str) -> Iterator[Written]:
    state = Written(Path(os.environ["SEQSUP_STATE_DIR"]))
    yield state
    state.close()


def completed() -> Told:
    told = Told().run("a", "b").attempt("a", peak=374 * MIB).drained("a").agent_ended("a")
    return told.attempt("b").drained("b").agent_ended("b").run_ended(0)


def failed() -> Told:
    told = Told().run("a", "b").attempt("a").drained("a").agent_ended("a")
    told.attempt("b", Reason.FAILED).drained("b").retry("b").attempt("b", Reason.FAILED, number=2).drained("b", 2)
    return told.agent_ended("b", Reason.FAILED, why="exit code 3", attempts=2).run_ended(1)


def running() -> Told:
    return Told().run("a", "b").attempt("a").drained("a").agent_ended("a").started("b", pid=4712)


# -- one voice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "stdout", "stderr"),
    [
        (["--version"], 0, r"seqsup \d+\.\d+\.\d+\n", ""),
        (["-V"], 0, r"seqsup \d+\.\d+\.\d+\n", ""),
        (["-h"], 0, r"(?s)Usage: .*start.*Exit codes: .*", ""),
        ([], 0, r"(?s)Usage: .*", ""),
        (["runs", "-h"], 0, r"(?s)Usage: .*--json.*", ""),
        (["stats"], 2, "", r'seqsup: unknown command "stats" \(did you mean status.*\?\)\ntry: seqsup -h\n'),
        (["xyzzy"], 2, "", r'seqsup: unknown command "xyzzy"\ntry: seqsup -h\n'),
        (["status", "--jsn"], 2, "", r"(?s)seqsup: unknown option --jsn.*--json.*\ntry: seqsup status -h\n"),
        (["runs", "-n", "0"], 2, "", r"(?s)seqsup: --last: expected a whole number from 1.*\n"),
        (["status", "a", "b"], 2, "", r"(?s)seqsup: unexpected argument: b; usage: seqsup status .*\n"),
        (["status"], 3, "", r"seqsup: no runs yet.*\n"),
        (["status", "r1"], 3, "", r"seqsup: no runs yet.*\n"),
        (["events"], 2, "", r"seqsup: no runs yet.*\n"),
        (["logs"], 2, "", r"seqsup: no runs yet.*\n"),
        (["runs"], 0, "", r"seqsup: no runs yet\n"),
        (["runs", "--json"], 0, r'\{"schema":"seqsup.runs/1","runs":\[\],"waiting":\[\]\}\n', ""),
        (["status", "--json"], 3, r'\{"schema":"seqsup.status/1","run":null,"state":"never-ran"\}\n', ""),
    ],
)
def test_before_anything_ran(seqsup: Seqsup, argv: list[str], code: int, stdout: str, stderr: str) -> None:
    result = seqsup(*argv)
    assert result.code == code
    assert re.fullmatch(stdout, result.stdout), result.stdout
    assert re.fullmatch(stderr, result.stderr), result.stderr


def test_every_command_of_the_help_is_there(seqsup: Seqsup) -> None:
    for commands in COMMANDS.values():
        for name in commands:
            result = seqsup(name, "--help")
            assert (result.code, result.stderr) == (0, ""), name


def test_damaged_journal_is_reported_without_a_traceback(seqsup: Seqsup, written: Written) -> None:
    written.close()
    (written.state_dir / "journal.db").write_bytes(b"not a database " * 100)
    result = seqsup("status")
    assert result.code == 3
    assert result.stderr.startswith("seqsup: the journal ")
    assert "Traceback" not in result.stderr


def test_a_fault_of_ours_is_shown_whole_and_asked_to_be_reported(seqsup: Seqsup, written: Written) -> None:
    written.run(completed())
    with sqlite3.connect(written.state_dir / "journal.db") as tampered:
        tampered.execute("UPDATE runs SET started = 'never'")
    tampered.close()
    result = seqsup("runs")
    assert (result.code, result.stdout) == (70, "")
    assert "Traceback" in result.stderr
    assert "\nseqsup: internal error: TypeError: " in result.stderr
    assert result.stderr.endswith(f"report it with the lines above and what you did: {ISSUES}\n")


def test_run_whose_supervisor_died_before_its_first_event_has_a_name(seqsup: Seqsup, written: Written) -> None:
    written.run(Told())
    page = seqsup("report", "-o", "-").stdout
    assert f"<h1>{Told().name} <" in page
    assert json.loads(seqsup("report", "--json").stdout)["view"]["name"] == Told().name


def test_every_moment_of_a_report_is_dated_as_in_status(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("expected", "sleep 1.2"), shell("b", "exit 1"))).code == 1
    told, status = (json.loads(seqsup(command, "--json").stdout) for command in ("report", "status"))
    dated = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
    view = told["view"]
    assert all(dated.fullmatch(view[key]) for key in ("started", "resumed", "ended"))
    assert [view[key] for key in ("started", "ended")] == [status[key] for key in ("started", "ended")]
    assert [each["started"] for each in view["agents"].values()] == [each["started"] for each in status["agents"]]
    moments = [part[key] for part in told["parts"] for key in ("began", "ended")]
    moments += [attempt[key] for attempt in told["attempts"] for key in ("started", "ended", "drained")]
    moments += [each["at"] for attempt in told["attempts"] for each in (*attempt["stops"], *attempt["samples"])]
    moments += [mark["at"] for mark in told["marks"]]
    assert len(moments) > 8
    assert all(dated.fullmatch(moment) for moment in moments)


def test_full_disk_is_reported_without_a_traceback(written: Written) -> None:
    written.run(completed())
    result = _run_shell(f"exec {_shell('events')} > /dev/full")
    assert result.code == 2
    assert result.stderr == "seqsup: output: No space left on device: free space there (df), or files (df -i)\n"


def test_a_reader_that_goes_away_is_no_failure(written: Written) -> None:
    told = completed()
    for _ in range(2000):
        told.halt(Halt.AFTER_AGENT)
    written.run(told)
    result = _run_shell(f"{_shell('events')} | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert result.stdout.endswith("\n141\n")
    assert result.stderr == ""


def test_closed_streams_are_no_failure(written: Written) -> None:
    number = written.run(completed())
    written.printed(number, "a/1", "hello\n", "a warns\n")
    for argv in ("status", "runs", "events", "logs", "--version"):
        for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
            result = _run_shell(f"{_shell(argv)} {closed}")
            assert result.code == 0, (argv, closed)
            assert "Traceback" not in result.stderr
    assert [*written.journal.events(number)], "nothing was written into the journal"


@pytest.mark.parametrize("most", [6, 7, 8, 12])
@pytest.mark.parametrize("command", ["status", "logs"])
def test_limit_of_open_files_that_is_too_low_is_reported(written: Written, command: str, most: int) -> None:
    written.printed(written.run(completed()), "a/1", "hello\n")
    result = _run_shell(f"ulimit -n {most}; exec {_shell(command)}")
    assert result.code == 0 or (result.code == 2 and result.stderr.endswith("Too many open files: raise `ulimit -n`\n"))
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("argv", [["--version"], ["status"], ["runs"], ["events"], ["logs"]])
def test_looking_is_quick_because_little_is_imported(written: Written, argv: list[str]) -> None:
    written.run(completed())
    result = _run_shell(f"{_shell(*argv, python='-X importtime')} > /dev/null")
    imported = set(re.findall(r"\| +(\S+)\n", result.stderr))
    assert not {"asyncio", "loguru", "tenacity", "psutil", "prometheus_client", "rich", "tomlkit"} & imported
    assert "seqsup.cli" in imported


def _shell(*argv: str, python: str = "") -> str:
    return f"{sys.executable} {python} -m seqsup {' '.join(argv)}"


def _run_shell(line: str) -> Result:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    ended = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=60, check=False)
    return Result(ended.returncode, ended.stdout, ended.stderr)


# -- status and runs -------------------------------------------------------------------------------------------------


def test_status_of_a_completed_run(seqsup: Seqsup, written: Written) -> None:
    written.run(completed())
    result = seqsup("status")
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "r1  nightly  2 of 2 completed · 1 h 5 min · highest peak 374 MiB (a)"
    assert re.fullmatch(r"  completed .* ago, exit 0", lines[1])
    assert lines[2] == ""
    assert lines[3].split() == [
        "agent",
        "attempts",
        "reason",
        "time",
        "peak",
        "of",
        "limit",
        "gc",
        "freed",
        "left",
        "over",
        "drained",
    ]
    assert result.stderr == ""


def test_status_of_a_failed_run_says_why_and_what_next(seqsup: Seqsup, written: Written) -> None:
    written.run(failed())
    result = seqsup("status")
    assert result.code == 1
    assert "why b failed: exit code 3\n" in result.stdout
    assert "next: seqsup logs r1 b · seqsup start nightly.toml --resume · seqsup report r1\n" in result.stdout


def test_status_of_a_running_run_says_what_it_does_now(seqsup: Seqsup, written: Written) -> None:
    number = written.run(running())
    written.live(number)
    result = seqsup("status")
    assert result.code == 0
    now = result.stdout.splitlines()[1]
    assert re.fullmatch(r"  running, pid 4711 · b: attempt 1, pid 4712, for .*", now)
    assert result.stdout.endswith("next: seqsup status --watch · seqsup logs r1 -f · seqsup stop\n")


def test_status_reports_that_the_supervisor_died(seqsup: Seqsup, written: Written) -> None:
    number = written.run(running())
    written.live(number)
    written.die(number)
    result = seqsup("status")
    assert result.code == 1
    now = result.stdout.splitlines()[1]
    assert now == (
        "  its supervisor (pid 4711) died while b ran; no processes left;"
        " `seqsup start nightly.toml --resume` resumes it"
    )
    assert "running" not in result.stdout
    told = json.loads(seqsup("status", "--json").stdout)
    assert told["state"] == "died"
    assert [agent["state"] for agent in told["agents"] if agent["name"] == "b"] == ["lost"]


def test_an_agent_that_had_completed_when_its_supervisor_died_in_its_drain_counts_as_that(
    seqsup: Seqsup, written: Written
) -> None:
    number = written.run(Told().run("a", "b", profile="nightly.toml").attempt("a"))
    written.live(number)
    written.die(number)
    headline, now, _, _, row, *_, last = seqsup("status").stdout.splitlines()
    assert headline.startswith("r1  nightly  1 of 2 completed")
    assert now.startswith("  its supervisor (pid 4711) died; no processes left;")
    assert row.split()[:3] == ["a", "1", "completed"]
    assert last == "next: seqsup start nightly.toml --resume · seqsup logs r1 · seqsup report r1"
    assert "1 of 2" in seqsup("runs").stdout


def test_status_as_json_has_numbers_and_iso_times(seqsup: Seqsup, written: Written) -> None:
    written.run(failed())
    result = seqsup("status", "--json")
    assert result.code == 1
    status = json.loads(result.stdout)
    assert (status["schema"], status["run"], status["state"]) == ("seqsup.status/1", "r1", "failed")
    assert status["counts"]["completed"] == 1
    assert status["counts"]["gave-up"] == 1
    assert [agent["name"] for agent in status["agents"]] == ["a", "b"]
    assert status["agents"][1]["attempts"] == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", status["started"])
    assert Path(status["folder"]) == run_folder(written.state_dir, 1)


def test_status_takes_the_running_run_before_the_last(seqsup: Seqsup, written: Written) -> None:
    number = written.run(running())
    written.live(number)
    written.run(failed())
    assert seqsup("status").stdout.startswith("r1  nightly")


@pytest.mark.parametrize(
    ("given", "found"), [("r1", "r1"), ("1", "r1"), ("nightly", "r3"), ("weekly", "r2"), ("r3", "r3")]
)
def test_a_run_is_found_by_number_and_name(seqsup: Seqsup, written: Written, given: str, found: str) -> None:
    written.run(completed())
    written.run(Told("weekly").run("a").run_ended(0))
    written.run(completed())
    assert json.loads(seqsup("status", given, "--json").stdout)["run"] == found


def test_a_run_is_found_by_its_profile(seqsup: Seqsup, written: Written, tmp_path: Path) -> None:
    profile = tmp_path / "nightly.toml"
    profile.write_text('[[agents]]\nname = "a"\ncommand = ["true"]\n')
    written.run(completed(), profile=str(profile))
    written.run(failed(), profile="/elsewhere/nightly.toml")
    assert json.loads(seqsup("status", profile, "--json").stdout)["run"] == "r1"
    profile.rename(tmp_path / "new.toml")
    result = seqsup("status", "new.toml")
    assert (result.code, result.stderr) == (3, "seqsup: new.toml never ran\n")


def test_a_profile_has_its_own_state_folder(seqsup: Seqsup, tmp_path: Path) -> None:
    state_dir = tmp_path / "mine"
    (tmp_path / "own.toml").write_text(
        f'[run]\nstate_dir = "{state_dir}"\n[[agents]]\nname = "a"\ncommand = ["true"]\n'
    )
    other = Written(state_dir)
    other.run(Told("own").run("a").run_ended(0))
    other.close()
    assert seqsup("status", "own.toml").code == 0
    assert seqsup("status").code == 3


def test_unknown_run_is_an_error_with_a_hint(seqsup: Seqsup, written: Written) -> None:
    written.run(completed())
    result = seqsup("status", "nigthly")
    assert result.code == 2
    assert result.stderr == 'seqsup: no run "nigthly" (did you mean nightly?); `seqsup runs` lists all runs\n'
    assert seqsup("status", "r7").code == 2


def test_runs_lists_the_latest_last(seqsup: Seqsup, written: Written) -> None:
    written.run(completed())
    written.run(Told("weekly").run("a").run_ended(1))
    number = written.run(running())
    written.live(number)
    rows = [line.split() for line in seqsup("runs").stdout.splitlines()]
    assert [row[:3] for row in rows] == [
        ["run", "name", "state"],
        ["r1", "nightly", "completed"],
        ["r2", "weekly", "failed"],
        ["r3", "nightly", "running"],
    ]
    result = seqsup("runs", "-n", "1")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["run", "r3"]
    assert result.stderr == "seqsup: 2 earlier ones: --all shows them\n"


def test_runs_as_json(seqsup: Seqsup, written: Written) -> None:
    written.run(failed())
    runs = json.loads(seqsup("runs", "--json").stdout)
    assert runs["schema"] == "seqsup.runs/1"
    assert runs["runs"][0]["state"] == "failed"
    assert (runs["runs"][0]["agents"], runs["runs"][0]["completed"], runs["runs"][0]["gave_up"]) == (2, 1, 1)


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_are_lines_of_json_in_order(seqsup: Seqsup, written: Written) -> None:
    written.run(failed())
    lines = [json.loads(line) for line in seqsup("events").stdout.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["run"] for line in lines} == {"r1"}
    assert (lines[0]["event"], lines[-1]["event"]) == ("run_started", "run_ended")


def test_events_are_followed_until_the_run_ends(seqsup_started: Start, written: Written) -> None:
    number = written.run(running())
    written.live(number)
    following = seqsup_started("events", "-f")
    wait_for(lambda: '"spawned"' in following.stdout.splitlines()[-1] if following.stdout else False)
    written.go_on(number, Told().ended("b").agent_ended("b").run_ended(0))
    result = following.wait()
    assert result.code == 0
    assert json.loads(result.stdout.splitlines()[-1])["event"] == "run_ended"


def test_following_ends_when_the_supervisor_dies(seqsup_started: Start, written: Written) -> None:
    number = written.run(running())
    written.live(number)
    following = seqsup_started("events", "-f")
    wait_for(lambda: '"spawned"' in following.stdout)
    written.die(number)
    result = following.wait()
    assert (result.code, result.stderr) == (0, "seqsup: the supervisor of r1 died\n")


def test_a_resumed_run_is_followed_beyond_its_first_end(seqsup_started: Start, written: Written) -> None:
    number = written.run(failed())
    written.go_on(number, Told().run("a", "b", resumed=True, before=("a",)))
    written.live(number)
    following = seqsup_started("events", "-f")
    wait_for(lambda: '"resumed":true' in following.stdout)
    written.go_on(number, Told().attempt("b").agent_ended("b").run_ended(0))
    assert json.loads(following.wait().stdout.splitlines()[-1])["exit_code"] == 0


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def printed(written: Written) -> Written:
    number = written.run(failed())
    written.printed(number, "a/1", "hello from a\n", "a warns\n")
    written.printed(number, "b/1", "first try of b\n")
    written.printed(number, "b/2", "second try of b", "b fails\n")
    return written


@pytest.mark.parametrize(
    ("argv", "stdout", "stderr"),
    [
        (["nightly", "a"], "hello from a\n", "a warns\n"),
        (["a"], "hello from a\n", "a warns\n"),
        (["b"], "second try of b", "b fails\n"),
        (["r1", "b", "--attempt", "1"], "first try of b\n", ""),
        (
            [],
            "==> a <==\nhello from a\n==> b (attempt 2) <==\nsecond try of b",
            "a warns\nb fails\n",
        ),
        (["-f"], "==> a <==\nhello from a\n==> b (attempt 2) <==\nsecond try of b", "a warns\nb fails\n"),
        (["b", "--attempt", "7"], "", "seqsup: b has no attempt 7 yet\n"),
    ],
)
def test_logs_show_the_last_attempt(
    seqsup: Seqsup, printed: Written, argv: list[str], stdout: str, stderr: str
) -> None:
    assert seqsup("logs", *argv) == Result(0, stdout, stderr)


def test_logs_of_a_word_that_is_a_run_and_an_agent_say_which_is_shown(seqsup: Seqsup, written: Written) -> None:
    """As after `seqsup run -- claude`, and a profile with an agent claude."""
    for name in ("claude", "nightly"):
        written.run(Told(name).run("claude").attempt("claude").run_ended(0))
    said = "seqsup: this is the run claude (r1); for the agent of r2 say r2 claude\n"
    assert seqsup("logs", "claude").stderr.startswith(said)
    for words in (("r1",), ("claude", "claude"), ("r2", "claude"), ()):
        assert "this is" not in seqsup("logs", *words).stderr
    written.live(2)
    said = "seqsup: this is the agent of r2; for the run claude say r1\n"
    assert seqsup("logs", "claude").stderr.startswith(said)


def test_logs_of_an_unknown_agent_are_an_error_with_a_hint(seqsup: Seqsup, written: Written) -> None:
    written.run(Told().run("frontend").attempt("frontend").run_ended(0))
    result = seqsup("logs", "frontned")
    assert result.code == 2
    assert result.stderr == 'seqsup: "frontned" is neither a run nor an agent of r1 (did you mean frontend?)\n'
    result = seqsup("logs", "nightly", "frontned")
    assert result.stderr == 'seqsup: r1 has no agent "frontned" (did you mean frontend?)\n'


def test_logs_that_were_removed_are_reported_as_removed(seqsup: Seqsup, written: Written) -> None:
    written.run(completed())
    result = seqsup("logs", "a")
    assert result.code == 0
    assert result.stderr.endswith("no longer exists: its logs were removed\n")


def test_logs_are_bytes_not_text(seqsup_started: Start, written: Written) -> None:
    number = written.run(completed())
    (written.printed(number, "a/1", "") / "stdout.log").write_bytes(b"\xff\x00\n")
    started = seqsup_started("logs", "a")
    assert started.process.wait(40) == 0
    assert (started.folder / "stdout").read_bytes() == b"\xff\x00\n"


def test_logs_are_followed_through_attempts_and_agents(seqsup_started: Start, written: Written) -> None:
    number = written.run(Told().run("a", "b").started("a"))
    written.live(number)
    output = written.printed(number, "a/1", "one\n")
    following = seqsup_started("logs", "-f")
    wait_for(lambda: "one\n" in following.stdout)
    with (output / "stdout.log").open("a") as stdout:
        stdout.write("two\n")
    wait_for(lambda: "two\n" in following.stdout)
    written.printed(number, "a/2", "three\n", "oops\n")
    written.go_on(number, Told().ended("a", Reason.FAILED).retry("a").started("a", 2))
    wait_for(lambda: "three\n" in following.stdout)
    written.go_on(number, Told().ended("a", number=2).agent_ended("a").started("b"))
    written.printed(number, "b/1", "four\n")
    written.go_on(number, Told().ended("b").agent_ended("b").run_ended(0))
    result = following.wait()
    assert result == Result(0, "==> a <==\none\ntwo\n==> a (attempt 2) <==\nthree\n==> b <==\nfour\n", "oops\n")


def test_logs_follow_a_single_agent(seqsup_started: Start, written: Written) -> None:
    number = written.run(Told().run("a", "b").started("a"))
    written.live(number)
    written.printed(number, "a/1", "one\n")
    following = seqsup_started("logs", "b", "-f")
    written.printed(number, "b/1", "two\n")
    written.go_on(number, Told().ended("a").agent_ended("a").started("b"))
    wait_for(lambda: "two\n" in following.stdout)
    written.go_on(number, Told().ended("b").agent_ended("b").run_ended(0))
    assert following.wait() == Result(0, "two\n", "")


def test_following_survives_a_file_that_is_truncated(seqsup_started: Start, written: Written) -> None:
    number = written.run(Told().run("a").started("a"))
    written.live(number)
    log = written.printed(number, "a/1", "a long first line\n") / "stdout.log"
    following = seqsup_started("logs", "a", "-f")
    wait_for(lambda: "first" in following.stdout)
    log.write_text("short\n")
    wait_for(lambda: "short" in following.stdout)
    written.go_on(number, Told().tell(_ended()))
    assert following.wait().stdout == "a long first line\nshort\n"


def test_ctrl_c_ends_following_without_a_word(seqsup_started: Start, written: Written) -> None:
    number = written.run(Told().run("a").started("a"))
    written.live(number)
    written.printed(number, "a/1", "one\n")
    following = seqsup_started("logs", "-f")
    wait_for(lambda: "one\n" in following.stdout)
    following.send(signal.SIGINT)
    result = following.wait()
    assert (result.code, result.stderr) == (130, "")


def _ended() -> RunEnded:
    return RunEnded(
        exit_code=0, why="", completed=1, gave_up=0, skipped=0, not_run=0, seconds=1.0, sequence_violations=0
    )
