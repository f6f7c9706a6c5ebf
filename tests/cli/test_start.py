"""`seqsup start` as its users meet it: the real command line, real agents, exit codes, Ctrl-C, the queue."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import agent, of, parsed, proven, reasons, shell, started, write
from helpers.waiting import alive, wait_for
from seqsup.cli.commands.status import state_of
from seqsup.cli.find_run import Found
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import JournalError
from seqsup.state.run_folder import KILLED, MEMBERS, PAUSED, QUEUE

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
Stub = Callable[..., list[str]]
OK, FAILS = "exit 0", "exit 3"


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def waits(path: Path, seconds: float = 60) -> str:
    """A script that says in a file that it runs, and waits; TERM ends it."""
    return f"echo $$ >> {path}; exec sleep {seconds}"


def unless_alive(tmp_path: Path) -> str:
    """A script that makes the file `alone` unless the agent of the file `pids` lives (a zombie does not)."""
    return f"grep -q '^State:.[^Z]' /proc/$(cat {tmp_path}/pids)/status || touch alone"


# -- exit codes

HUGE = f"{psutil.virtual_memory().total - 1024**2}"  # more than can ever be available, but not more than there is

CODES: list[tuple[str, int, list[dict[str, Any]], dict[str, dict[str, Any]], dict[str, str]]] = [
    ("all completed", 0, [shell("a", OK), shell("b", OK)], {}, {"a": "completed", "b": "completed"}),
    ("one failed, and the run stops", 1, [shell("a", FAILS), shell("b", OK)], {}, {"a": "failed"}),
    (
        "one failed, and the run goes on", 1, [shell("a", FAILS), shell("b", OK)],
        {"run": {"on_failure": "continue"}}, {"a": "failed", "b": "completed"},
    ),
    ("it failed as expected", 0, [shell("a", FAILS, expect=["failed"]), shell("b", OK)], {},
     {"a": "failed", "b": "completed"}),
    ("it completed, though something else was expected", 0, [shell("a", OK, expect=["failed"])], {},
     {"a": "completed"}),
    ("it ended for another reason than expected", 1, [shell("a", FAILS, expect=["timeout"])], {}, {"a": "failed"}),
    ("it crashed", 1, [shell("a", "kill -SEGV $$")], {}, {"a": "crashed"}),
    ("it took too long", 1, [shell("a", "exec sleep 60")], {"timeouts": {"wall": "300ms"}}, {"a": "timeout"}),
    ("it left no result", 1, [shell("a", OK, success={"file": "review.md"})], {}, {"a": "no-result"}),
    ("another code is good", 0, [shell("a", FAILS, success={"codes": [3]})], {}, {"a": "completed"}),
    ("memory did not drain", 4, [shell("a", OK), shell("b", OK)],
     {"drain": {"threshold": "1KiB", "timeout": "200ms", "on_timeout": "stop"}}, {"a": "completed"}),
    ("memory did not drain, and nobody minds", 0, [shell("a", OK), shell("b", OK)],
     {"drain": {"threshold": "1KiB", "timeout": "200ms", "on_timeout": "continue"}},
     {"a": "completed", "b": "completed"}),
    ("the host is below its floor", 4, [shell("a", OK)],
     {"memory": {"host_floor": HUGE}, "drain": {"timeout": "200ms"}}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "agents", "tables", "ended"), [c[1:] for c in CODES], ids=[c[0] for c in CODES])
def test_exit_code(
    seqsup: Seqsup,
    tmp_path: Path,
    code: int,
    agents: list[dict[str, Any]],
    tables: dict[str, Any],
    ended: dict[str, str],
) -> None:
    profile = write(tmp_path, *agents, **tables)
    result = seqsup("start", profile, "--json")
    assert result.code == code, result.stderr
    assert reasons(proven(result)) == ended


ABREAST = (
    "--concurrency=2", "--workers=2", "--max-parallel=2", "--max-procs", "--parallelism=2", "--max-concurrency=4",
    "--threads", "--concurrent",
)  # fmt: skip


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["start"], "no profile in"),
        (["start", "nowhere.toml"], "nowhere.toml"),
        (["start", "--nonsense", "x.toml"], "--nonsense"),
        (["strat", "x.toml"], "did you mean start"),
        (["start", "x.toml", "--parallel=3"], "unknown option --parallel: agents run one at a time"),
        (["start", "x.toml", "-j", "3"], "docs/how-to/two-at-a-time.md"),
        *((["start", flag], f"{flag.partition('=')[0]}: agents run one at a time") for flag in ABREAST),
        (["start", "--jsno"], "unknown option --jsno (did you mean --json?)"),
        (["plan", "--jobs", "3"], "To allow more, set run.concurrency and run.allow_concurrency"),
    ],
)
def test_a_slip_of_the_pen_is_2_and_starts_nothing(seqsup: Seqsup, args: list[str], said: str) -> None:
    result = seqsup(*args)
    assert (result.code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_faulty_profile_is_2_and_starts_nothing(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "touch ran"), memory={"hrad": "1GiB"})
    result = seqsup("start", profile)
    assert result.code == 2
    assert "hrad" in result.stderr
    assert not (tmp_path / "ran").exists()


# -- the story of a run


def test_failed_agent_skips_all_agents_that_need_it(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path, shell("a", FAILS), shell("b", OK, needs=["a"]), shell("c", OK, needs=["b"]), shell("d", OK),
        run={"on_failure": "continue"},
    )  # fmt: skip
    result = seqsup("start", profile, "--json")
    events = proven(result)
    assert result.code == 1
    assert reasons(events) == {"a": "failed", "d": "completed"}
    assert [(event["agent"], event["why"].split()[2].strip(",")) for event in of(events, "agent_skipped")] == [
        ("b", "a"), ("c", "b")
    ]  # fmt: skip
    assert (events[-1]["completed"], events[-1]["gave_up"], events[-1]["skipped"]) == (1, 1, 2)


def test_agent_that_fails_twice_is_tried_three_times(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", '[ "$SEQSUP_ATTEMPT" = 3 ]', retry={"attempts": 3}))
    result = seqsup("start", profile, "--json")
    events = proven(result)
    assert (result.code, started(events)) == (0, ["a"] * 3)
    assert [event["attempt"] for event in of(events, "retry_scheduled")] == [2, 3]
    assert [event["reason"] for event in of(events, "attempt_ended")] == ["failed", "failed", "completed"]
    (ended,) = of(events, "agent_ended")
    assert (ended["reason"], ended["attempts"], ended["ok"]) == ("completed", 3, True)


def test_reason_that_is_not_in_retry_on_is_not_retried(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", FAILS, retry={"attempts": 3, "on": ["crashed"]}))
    assert started(proven(seqsup("start", profile, "--json"))) == ["a"]


@pytest.mark.memory
def test_a_heap_that_was_too_small_grows(seqsup: Seqsup, tmp_path: Path) -> None:
    program = (
        "const held = []; for (let n = 0; n < 120; n++) held.push(new Array(131072).fill(n + 0.5));"
        "console.log(process.execArgv, process.env.NODE_OPTIONS)"
    )
    profile = write(
        tmp_path,
        agent("a", ["node", "-e", program], node={"max_old_space_size": "80MiB"},
              retry={"attempts": 3, "grow_heap": 2.0}, memory={"hard": "600MiB"}),
    )  # fmt: skip
    events = proven(seqsup("start", profile, "--json"))
    assert [event["reason"] for event in of(events, "attempt_ended")] == ["heap-oom", "completed"]
    assert [event["heap"] >> 20 for event in of(events, "attempt_started")] == [80, 160]


def test_placeholders_reach_from_one_agent_to_the_next(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path,
        shell("a", "echo 'found 3 bugs'; echo detail > {artifacts}/detail"),
        shell("b", "echo '{summary:a}' > said; cat {artifacts:a}/detail >> said; echo '{task}' >> said"),
    )
    assert seqsup("start", profile, "--task", "mend {it}").code == 0
    assert (tmp_path / "said").read_text() == "found 3 bugs\ndetail\nmend {it}\n"


def test_leftovers_are_named_in_the_table_and_gone(seqsup: Seqsup, tmp_path: Path, stub: Stub) -> None:
    profile = write(tmp_path, agent("a", stub("orphans", 2)))
    result = seqsup("start", profile)
    assert result.code == 0
    (row,) = [line for line in result.stderr.splitlines() if line.startswith("  a ")]
    assert " 2 " in row


def test_strays_without_a_parent_of_ours_are_found_by_their_mark(seqsup: Seqsup, tmp_path: Path, stub: Stub) -> None:
    """A daemon that was there before may start what an agent asks for, with the agent's environment."""
    pipe, pid_file = tmp_path / "pipe", tmp_path / "pid"
    os.mkfifo(pipe)
    daemon = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys\n"
         "env = dict(line.split('=', 1) for line in open(sys.argv[1]).read().split('\\0') if '=' in line)\n"
         "child = subprocess.Popen(['sleep', '60'], env=env)\n"
         "open(sys.argv[2], 'w').write(str(child.pid))\n"
         "child.wait()\n", str(pipe), str(pid_file)]
    )  # fmt: skip
    script = f"cat /proc/self/environ > {pipe}; while [ ! -s {pid_file} ]; do sleep 0.01; done"
    try:
        events = proven(seqsup("start", write(tmp_path, shell("a", script)), "--json"))
        (drained,) = of(events, "drained")
        assert [process["pid"] for process in drained["strays"]] == [int(pid_file.read_text())]
        assert daemon.wait(40) == 0
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.parametrize("drain", [{"allow": ["orphans.py"]}, {"sweep": False}], ids=["allow", "sweep"])
def test_leftovers_may_outlive_the_run_where_the_profile_says_so(
    seqsup: Seqsup, tmp_path: Path, stub: Stub, drain: dict[str, Any]
) -> None:
    profile = write(tmp_path, agent("a", stub("orphans", 2)), shell("b", OK), drain=drain)
    result = seqsup("start", profile, "--json")
    events = proven(result)
    assert result.code == 0
    assert [event["left_over"] for event in of(events, "attempt_ended")] == [[], []]
    assert of(events, "stop_sent") == []
    pids = [int(word) for word in seqsup("logs", "r1", "a").stdout.split() if word.isdigit()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    assert seqsup("sweep").code == 0
    assert all(map(alive, pids)), "a run that ended well has left nothing to sweep"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_server_that_was_let_go_is_let_alone_by_the_runs_next_part(
    seqsup: Seqsup, tmp_path: Path, stub: Stub
) -> None:
    server = agent("server", stub("orphans", 1), drain={"allow": ["orphans.py"]})
    profile = write(tmp_path, server, shell("b", "[ -e mended ]"))
    assert seqsup("start", profile).code == 1
    (tmp_path / "mended").touch()
    assert seqsup("start", profile, "--resume").code == 0
    (pid,) = (int(word) for word in seqsup("logs", "r1", "server").stdout.split() if word.isdigit())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_process_that_a_script_started_before_it_became_seqsup_is_not_stopped(tmp_path: Path) -> None:
    """`server & exec seqsup start`, as a container's entry point has it: the server is our child, and no agent's."""
    profile = write(tmp_path, shell("a", "sleep 0.3"))
    script = f"sleep 60 > server.log 2>&1 & echo $! > server; exec {sys.executable} -m seqsup start {profile}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    ended = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    pid = int((tmp_path / "server").read_text())
    assert ended.returncode == 0, ended.stderr
    assert "leftovers" not in ended.stderr
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("most", [64, 65])
def test_tree_with_more_processes_than_descriptors_is_stopped_and_no_other_process(
    tmp_path: Path, stub: Stub, most: int
) -> None:
    """A process takes two of them, so that the last is left over or is not."""
    profile = write(tmp_path, agent("a", stub("forks", 60, 1)), timeouts={"wall": "1s"})
    server = "sleep 60 > server.log 2>&1 & echo $! > server"
    script = f"{server}; ulimit -n {most}; exec {sys.executable} -m seqsup start {profile}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    ended = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    pid = int((tmp_path / "server").read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


# -- what it prints


def test_the_json_stream_is_what_events_replays(seqsup: Seqsup, tmp_path: Path, stub: Stub) -> None:
    profile = write(
        tmp_path, shell("a", FAILS, retry={"attempts": 2}), agent("b", stub("orphans", 1)), shell("c", OK, needs=["a"]),
        run={"on_failure": "continue"},
    )  # fmt: skip
    result = seqsup("start", profile, "--json")
    assert result.stdout == seqsup("events").stdout
    assert result.stderr == ""
    events = proven(result)
    assert {event["schema"] for event in events} == {"seqsup.events/1"}
    assert {event["run"] for event in events} == {"r1"}


def test_the_table_comes_at_the_end_and_nothing_on_stdout(seqsup: Seqsup, tmp_path: Path) -> None:
    result = seqsup("start", write(tmp_path, shell("a", OK)))
    assert result.stdout == ""
    assert "1 of 1 completed" in result.stderr
    assert result.stderr.index("1 of 1 completed") > result.stderr.index("started")


def test_quiet_is_only_the_table(seqsup: Seqsup, tmp_path: Path) -> None:
    result = seqsup("start", write(tmp_path, shell("a", OK)), "--quiet")
    assert "1 of 1 completed" in result.stderr.splitlines()[0]


def test_no_two_agents_ever_run_at_the_same_time(seqsup: Seqsup, tmp_path: Path, stub: Stub) -> None:
    many = [shell(f"a{n}", "echo + >> marks; sleep 0.02; echo - >> marks") for n in range(8)]
    events = proven(seqsup("start", write(tmp_path, *many), "--json"))
    assert lines(tmp_path / "marks") == ["+", "-"] * 8
    ends = 0.0
    for begun, ended in zip(of(events, "spawned"), of(events, "attempt_ended"), strict=True):
        assert ends < begun["seq"] < ended["seq"]
        ends = ended["seq"]


# -- resume


def test_resume_starts_at_the_first_agent_that_did_not_complete(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "echo a >> ran"), shell("b", "echo b >> ran; [ -e mended ]"),
                    shell("c", "echo c >> ran"))  # fmt: skip
    assert seqsup("start", profile).code == 1
    (tmp_path / "mended").touch()
    result = seqsup("start", profile, "--resume", "--json")
    events = proven(result)
    assert (result.code, started(events)) == (0, ["b", "c"])
    assert events[0]["completed_before"] == ["a"]
    assert lines(tmp_path / "ran") == ["a", "b", "b", "c"]
    again = seqsup("start", profile, "--resume")
    assert again.code == 0
    assert "nothing to resume" in again.stderr
    assert lines(tmp_path / "ran") == ["a", "b", "b", "c"]


def test_resume_knows_agents_by_their_content(seqsup: Seqsup, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "echo a >> ran"), shell("b", "echo b >> ran"), shell("c", FAILS))
    assert seqsup("start", "nightly.toml").code == 1
    write(tmp_path, shell("b2", "echo b >> ran"), shell("a", "echo changed >> ran"), shell("c", OK))
    assert seqsup("start", "nightly.toml", "--resume").code == 0
    assert lines(tmp_path / "ran") == ["a", "b", "changed"]


def test_resume_of_a_run_that_never_was(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", OK))
    assert seqsup("start", profile, "--resume", "r7").code == 3
    first = seqsup("start", "--resume", profile)
    assert first.code == 0
    assert "has no earlier run" in first.stderr


# -- the user


def running(start: Start, tmp_path: Path, *agents: dict[str, Any], **tables: Any) -> Started:
    """A run whose first agent has written the file `pids`."""
    process = start("start", write(tmp_path, *agents, **tables))
    wait_for(lambda: lines(tmp_path / "pids"))
    return process


def halts(process: Started, times: int) -> None:
    """Wait until so many wishes are written down."""
    wait_for(lambda: len(re.findall(r"(?:Ctrl-C|seqsup stop): ", process.stderr)) >= times)


def test_ctrl_c_ends_after_the_agent_that_runs(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    gate = "echo $$ >> pids; while [ ! -e gate ]; do sleep 0.01; done"
    process = running(seqsup_started, tmp_path, shell("a", gate), shell("b", "touch ran"))
    process.send(signal.SIGINT)
    halts(process, 1)
    (tmp_path / "gate").touch()
    assert process.wait().code == 130
    assert not (tmp_path / "ran").exists()
    assert reasons(parsed(seqsup("events").stdout)) == {"a": "completed"}
    assert seqsup("start", "nightly.toml", "--resume").code == 0
    assert (tmp_path / "ran").exists()
    assert len(lines(tmp_path / "pids")) == 1


def test_ctrl_c_in_the_last_agent_is_no_failure_when_it_completes(seqsup_started: Start, tmp_path: Path) -> None:
    gate = "echo $$ >> pids; while [ ! -e gate ]; do sleep 0.01; done"
    process = running(seqsup_started, tmp_path, shell("a", gate))
    process.send(signal.SIGINT)
    halts(process, 1)
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


def test_ctrl_c_twice_stops_it_with_its_grace(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    polite = "trap 'sleep 0.3; echo tidy > tidied; exit' TERM; echo $$ >> pids; while :; do sleep 0.01; done"
    process = running(seqsup_started, tmp_path, shell("a", polite), shell("b", OK))
    for times in (1, 2):
        process.send(signal.SIGINT)
        halts(process, times)
    assert process.wait().code == 130
    assert lines(tmp_path / "tidied") == ["tidy"]
    events = parsed(seqsup("events").stdout)
    assert reasons(events) == {"a": "halted"}
    assert of(events, "drained")
    assert seqsup("status").code == 1


def test_ctrl_c_three_times_kills(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    deaf = shell("a", "trap '' TERM; echo $$ >> pids; exec sleep 60")
    process = running(seqsup_started, tmp_path, deaf, timeouts={"grace": "60s"})
    for times in (1, 2, 3):
        process.send(signal.SIGINT)
        halts(process, times)
    assert process.wait().code == 130
    assert not alive(int(lines(tmp_path / "pids")[0]))
    assert reasons(parsed(seqsup("events").stdout)) == {"a": "halted"}


@pytest.mark.parametrize(
    ("quiet", "answers"),
    [
        (
            ["start", "--quiet", "nightly.toml"],
            [
                "seqsup: stops after this agent; Ctrl-C again stops now",
                "seqsup: stops now (with a grace period); Ctrl-C again kills", "seqsup: stops at once",
            ],
        ),
        (
            ["run", "--", "sh", "nightly.sh"],
            ["seqsup: stops now (with a grace period); Ctrl-C again kills", "seqsup: stops at once"],
        ),
    ],
)  # fmt: skip
def test_each_ctrl_c_is_answered_if_no_log_is_shown(
    seqsup_started: Start, tmp_path: Path, quiet: list[str], answers: list[str]
) -> None:
    deaf = "trap '' TERM; echo $$ >> pids; exec sleep 60"
    (tmp_path / "nightly.sh").write_text(deaf)
    write(tmp_path, shell("a", deaf), timeouts={"grace": "60s"})
    process = seqsup_started(*quiet)
    wait_for(lambda: lines(tmp_path / "pids"))
    for said in answers:
        assert said not in process.stderr
        process.send(signal.SIGINT)
        wait_for(lambda: said in process.stderr)
    assert process.wait().code == 130


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_term_is_as_ctrl_c_twice(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    process = running(seqsup_started, tmp_path, shell("a", waits(tmp_path / "pids")), shell("b", OK))
    process.send(signum)
    assert process.wait().code == code
    assert not alive(int(lines(tmp_path / "pids")[0]))
    assert reasons(parsed(seqsup("events").stdout)) == {"a": "halted"}


def test_a_halt_ends_the_wait_for_the_next_try_and_no_further_try_is_made(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path
) -> None:
    fails = shell("a", "echo $$ >> pids; exit 3", retry={"attempts": 3, "wait": "60s", "max_wait": "60s"})
    process = running(seqsup_started, tmp_path, fails)
    wait_for(lambda: "attempt 2 in" in process.stderr)
    process.send(signal.SIGTERM)
    assert process.wait().code == 143
    assert len(lines(tmp_path / "pids")) == 1


def test_a_halt_ends_the_wait_for_the_hosts_memory(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", OK), memory={"host_floor": HUGE}, drain={"timeout": "60s"})
    process = seqsup_started("start", profile)
    wait_for(lambda: "started" in process.stderr)
    process.send(signal.SIGTERM)
    assert process.wait().code == 143


def test_ctrl_c_while_it_waits_for_the_hosts_memory_starts_nothing(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path
) -> None:
    profile = write(tmp_path, shell("a", OK), memory={"host_floor": HUGE}, drain={"timeout": "60s"})
    process = seqsup_started("start", profile)
    wait_for(lambda: "started" in process.stderr)
    process.send(signal.SIGINT)
    assert process.wait().code == 130
    assert started(parsed(seqsup("events").stdout)) == []


def test_a_plan_says_how_memory_is_measured_and_kept_where_that_is_unusual(seqsup: Seqsup, tmp_path: Path) -> None:
    usual, watched = shell("a", OK), shell("b", OK, memory={"measure": "rss", "enforce": "watch"})
    said = " ".join(seqsup("plan", write(tmp_path, usual, watched), "-v").stdout.split())
    assert said.count("measured") == said.count("hard enforced") == 1
    assert "measured as rss hard enforced by watching" in said


def test_force_ends_the_wait_for_a_drain_and_is_the_operators_doing(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path
) -> None:
    drain = {"threshold": "1KiB", "timeout": "60s", "on_timeout": "stop"}
    process = running(seqsup_started, tmp_path, shell("a", "echo $$ >> pids"), shell("b", OK), drain=drain)
    wait_for(lambda: "completed" in process.stderr)
    for times in (1, 2, 3):
        process.send(signal.SIGINT)
        halts(process, times)
    assert process.wait().code == 130


def test_stop_ends_after_the_agent_that_runs(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    gate = "echo $$ >> pids; while [ ! -e gate ]; do sleep 0.01; done"
    process = running(seqsup_started, tmp_path, shell("a", gate), shell("b", "touch ran"))
    told = seqsup("stop")
    assert told.code == 0
    assert "after a" in told.stderr
    halts(process, 1)
    assert process.process.poll() is None
    (tmp_path / "gate").touch()
    assert process.wait().code == 130
    assert not (tmp_path / "ran").exists()


def test_stop_now_stops_it_and_waits_for_the_end(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    process = running(seqsup_started, tmp_path, shell("a", waits(tmp_path / "pids")), shell("b", OK))
    assert seqsup("stop", "nightly", "--now").code == 0
    assert not alive(int(lines(tmp_path / "pids")[0]))
    assert process.wait().code == 143
    assert "no run is active" in seqsup("stop").stderr


def test_nohup_is_respected(tmp_path: Path, seqsup_started: Start) -> None:
    gate = "echo $$ >> pids; while [ ! -e gate ]; do sleep 0.01; done"
    profile = write(tmp_path, shell("a", gate))
    process = seqsup_started("start", profile, through=("nohup",))
    wait_for((tmp_path / "pids").exists)
    process.send(signal.SIGHUP)
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


# -- the machine's turn


def test_a_run_inside_an_agent_is_refused(seqsup: Seqsup, tmp_path: Path) -> None:
    inner = write(tmp_path, shell("inner", "touch ran"), name="inner")
    profile = write(tmp_path, agent("outer", [sys.executable, "-m", "seqsup", "start", inner]))
    result = seqsup("start", profile)
    assert result.code == 1
    assert "cannot start a run inside agent outer of r1" in seqsup("logs", "r1", "outer").stderr
    assert not (tmp_path / "ran").exists()


def test_second_start_waits_names_the_active_run_and_starts_after_it(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path
) -> None:
    gate = "echo $$ >> pids; while [ ! -e gate ]; do sleep 0.01; done; echo first >> order"
    first = running(seqsup_started, tmp_path, shell("a", gate))
    second = seqsup_started("start", write(tmp_path, shell("b", "echo second >> order"), name="other"))
    wait_for(lambda: f"waiting for nightly (pid {first.pid}" in second.stderr)
    refused = seqsup("start", "other.toml", "--no-wait")
    assert refused.code == 3
    assert f"nightly (pid {first.pid}" in refused.stderr
    (tmp_path / "gate").touch()
    assert (first.wait().code, second.wait().code) == (0, 0)
    assert lines(tmp_path / "order") == ["first", "second"]
    assert seqsup("start", "other.toml", "--no-wait").code == 0


def test_a_start_of_another_state_folder_waits_too(seqsup_started: Start, tmp_path: Path) -> None:
    first = running(seqsup_started, tmp_path, shell("a", waits(tmp_path / "pids")))
    apart = write(tmp_path, shell("b", OK), name="apart", run={"state_dir": "apart"})
    second = seqsup_started("start", apart)
    wait_for(lambda: "waiting for nightly" in second.stderr)
    first.send(signal.SIGTERM)
    assert (first.wait().code, second.wait().code) == (143, 0)


def test_a_second_start_takes_over_when_the_first_is_killed_and_puts_its_leavings_in_order(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path
) -> None:
    first = running(seqsup_started, tmp_path, shell("a", waits(tmp_path / "pids")))
    second = seqsup_started("start", write(tmp_path, shell("b", unless_alive(tmp_path)),
                                           name="other"))  # fmt: skip
    wait_for(lambda: "waiting for nightly" in second.stderr)
    first.send(signal.SIGKILL)
    assert second.wait().code == 0
    assert (tmp_path / "alone").exists(), "two agents were alive at the same time"
    assert "nightly was left by a dead supervisor while a ran" in second.stderr


def test_unkillable_process_of_a_run_is_not_reported_as_left_by_a_dead_supervisor(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    write(tmp_path, shell("a", OK))
    assert seqsup("start", "nightly.toml").code == 0
    (Path(os.environ["SEQSUP_STATE_DIR"]) / "runs/r1" / MEMBERS).touch()  # as it is kept for the next to look
    second = seqsup("start", "nightly.toml")
    assert "r1 nightly ended, but a process survived SIGKILL" in second.stderr
    third = seqsup("start", "nightly.toml")
    assert "SIGKILL" not in third.stderr


def test_the_leavings_of_a_run_of_another_state_folder_are_put_in_order_too(
    seqsup_started: Start, seqsup: Seqsup, tmp_path: Path
) -> None:
    first = running(
        seqsup_started, tmp_path, shell("a", "sleep 60 & echo $! >> pids; wait"),  # its leader dies with us
        run={"state_dir": "apart"}, memory={"enforce": "watch"},  # in a group its sentinel would leave nothing
    )  # fmt: skip
    first.send(signal.SIGKILL)
    first.process.wait()
    pid = int(lines(tmp_path / "pids")[0])
    assert alive(pid)
    result = seqsup("start", write(tmp_path, shell("b", unless_alive(tmp_path)), name="other"))
    assert result.code == 0
    assert (tmp_path / "alone").exists(), "two agents were alive at the same time"
    assert "another state folder" in result.stderr


def test_waiting_runs_start_in_their_order(seqsup_started: Start, tmp_path: Path) -> None:
    gate = "echo $$ >> pids; while [ ! -e gate ]; do sleep 0.01; done"
    all_of_them = [running(seqsup_started, tmp_path, shell("a", gate))]
    for number in range(3):
        profile = write(tmp_path, shell("b", f"echo {number} >> order; sleep 0.1"), name=f"waits{number}")
        all_of_them.append(seqsup_started("start", profile))
        wait_for(lambda: "waiting for nightly" in all_of_them[-1].stderr)
    assert "and 2 more in the queue" in all_of_them[-1].stderr
    (tmp_path / "gate").touch()
    assert [process.wait().code for process in all_of_them] == [0, 0, 0, 0]
    assert lines(tmp_path / "order") == ["0", "1", "2"]


def test_waiting_run_can_leave_the_queue(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    first = running(seqsup_started, tmp_path, shell("a", waits(tmp_path / "pids")))
    leaver = seqsup_started("start", write(tmp_path, shell("b", OK), name="leaver"))
    wait_for(lambda: "waiting for nightly" in leaver.stderr)
    stays = seqsup_started("start", write(tmp_path, shell("c", OK), name="stays"))
    wait_for(lambda: "1 more in the queue" in stays.stderr)
    leaver.send(signal.SIGINT)
    ended = leaver.wait()
    assert ended.code == 130
    assert "nothing was started" in ended.stderr
    killed = seqsup_started("start", write(tmp_path, shell("d", OK), name="killed"))
    wait_for(lambda: "waiting for nightly" in killed.stderr)
    killed.send(signal.SIGKILL)
    first.send(signal.SIGTERM)
    assert stays.wait().code == 0
    assert [row for row in seqsup("runs").stdout.splitlines() if "leaver" in row or "killed" in row] == []


def test_status_does_not_disturb_a_run_that_starts(seqsup_started: Start, seqsup: Seqsup, tmp_path: Path) -> None:
    """`watch seqsup status`: to ask for a lock must never be to hold it."""
    profile = write(tmp_path, shell("a", "echo a >> ran; [ -e mended ]"))
    assert seqsup("start", profile).code == 1
    looking = (
        "import sys, time\nfrom pathlib import Path\nfrom seqsup.state.run_folder import alive, run_folder\n"
        "ends = time.monotonic() + 60\nprint('ready', flush=True)\n"
        "while time.monotonic() < ends: alive(run_folder(Path(sys.argv[1]), 1))\n"
    )
    state_dir = os.environ["SEQSUP_STATE_DIR"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    with subprocess.Popen(
        [sys.executable, "-c", looking, state_dir], stdout=subprocess.PIPE, env=environment
    ) as looker:
        assert looker.stdout is not None
        looker.stdout.readline()
        try:
            for tries in range(2, 6):
                assert seqsup("start", profile, "--resume").code == 1
                assert len(lines(tmp_path / "ran")) == tries
        finally:
            looker.kill()


def test_a_run_that_begins_is_at_no_moment_taken_for_dead(seqsup_started: Start, tmp_path: Path) -> None:
    folder = Path(os.environ["SEQSUP_STATE_DIR"])
    process = seqsup_started("start", write(tmp_path, shell("a", "sleep 0.2")))
    journal = wait_for(lambda: opened(folder))
    [row] = wait_for(journal.runs)
    states = set()
    while process.process.poll() is None:
        states.add(state_of(Found(folder, journal, row))[0])
    journal.close()
    assert process.wait().code == 0
    assert states <= {"starting", "running", "completed"}


def opened(folder: Path) -> Journal | None:
    try:
        return Journal.open(folder)
    except JournalError:
        return None


def test_no_agent_is_called_like_a_file_of_the_runs_folder(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("one", "sleep 1.5"))).code == 0
    folder = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs" / "r1"
    files = [path.name for path in folder.iterdir() if path.is_file() or path.is_symlink()]
    assert "seqsup.log" in files
    for name in (*files, KILLED, MEMBERS, PAUSED, QUEUE):  # some are there only while it runs
        refused = seqsup("plan", write(tmp_path, shell(name, "true"), name="refused"))
        assert (refused.code, "is the name of a file in the run's folder" in refused.stderr) == (2, True), name


def test_a_supervisor_has_no_tls_in_its_memory(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    running = seqsup_started("start", write(tmp_path, shell("a", "echo $PPID > pid; sleep 60")))
    wait_for(lambda: (tmp_path / "pid").read_text().endswith("\n"))
    assert "libssl" not in Path(f"/proc/{running.pid}/maps").read_text()
    running.send(signal.SIGTERM)
    assert running.wait().code == 143


def test_a_supervisor_has_no_openssl_in_its_memory(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    """It takes 8 MiB, for as long as an agent runs, and nothing here needs it."""
    ran = tmp_path / "ran"
    started = seqsup_started("start", write(tmp_path, shell("a", f"touch {ran}; exec sleep 60")))
    wait_for(ran.exists)
    assert "libcrypto" not in Path(f"/proc/{started.pid}/maps").read_text()
