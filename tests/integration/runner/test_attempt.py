"""One attempt on real processes: every reason it can end with, and what it leaves behind."""

import errno
import os
import resource
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.paths import STUBS
from helpers.supervised import Tried, step, tried, wish
from helpers.waiting import DEADLINE, alive, wait_for
from seqsup.host.machine import Host
from seqsup.model.enums import Halt, ProcessKind
from seqsup.model.events import AnyEvent, AttemptEnded, AttemptStarted, MemoryWarned, Spawned, StopSent, Unkillable
from seqsup.model.outcome import Exit
from seqsup.model.plan import NodeStart
from seqsup.model.process_names import how_many
from seqsup.model.profile import Rlimits
from seqsup.model.reason import Reason
from seqsup.node.stand_in import FOLDER
from seqsup.runner.stop_request import StopRequest
from seqsup.state.journal_schema import JournalLost
from seqsup.units import MIB

Stub = Callable[..., list[str]]
NODE = NodeStart(executable="node", version="v20", options=(), heap=64 * MIB, heap_ceiling=256 * MIB)
LEAKS = """const held = []; for (;;) held.push(new Array(1000).fill({}).map(() => ({})))"""


@pytest.fixture
def run(tmp_path: Path, stub: Stub) -> Callable[..., Tried]:
    """Make one attempt at a stub, or at a command given as a list."""

    def once(command: str | list[str], *args: object, **changes: object) -> Tried:
        words = stub(command, *args) if isinstance(command, str) else command
        own = {key: changes.pop(key) for key in ("heap", "meanwhile") if key in changes}
        made = tried(step(*words, cwd=tmp_path, **changes), tmp_path / "run", **own)  # type: ignore[arg-type]
        assert made.names[0] == "AttemptStarted"
        assert made.names[-1] == "AttemptEnded"
        return made

    return once


Run = Callable[..., Tried]
UNDISTURBED = ["AttemptStarted", "Spawned", "AttemptEnded"]
STOPPED = ["AttemptStarted", "Spawned", "StopSent", "AttemptEnded"]
DEAF = ["sh", "-c", "trap '' TERM; exec sleep 60"]  # at once, which a Python is not
KILLED_LATE = ["AttemptStarted", "Spawned", "StopSent", "StopSent", "AttemptEnded"]


# -- every reason


def test_completed(run: Run) -> None:
    made = run("exits", 0)
    assert (made.reason, made.outcome.why, made.outcome.exit) == (Reason.COMPLETED, "", Exit(code=0, signal=None))
    assert made.names == UNDISTURBED
    assert made.stdout == "ready\n"


def test_no_process_is_started_unless_its_start_is_on_disk(node: Path, tmp_path: Path) -> None:
    def fails(event: AnyEvent, stop_request: StopRequest) -> None:
        raise JournalLost("no room")

    start = NodeStart(executable=str(node), version="", options=(), heap=None, heap_ceiling=None, telemetry=True)
    with pytest.raises(JournalLost):
        tried(step("touch", "started", cwd=tmp_path, node=start), tmp_path / "run", meanwhile=fails)
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "run/agent/1" / FOLDER).exists()


def test_failed(run: Run) -> None:
    made = run("exits", 3)
    assert (made.reason, made.outcome.exit) == (Reason.FAILED, Exit(code=3, signal=None))
    assert made.outcome.why == "exit 3: ready"
    assert made.names == UNDISTURBED


def test_failure_is_reported_with_the_last_output(run: Run) -> None:
    says = "printf '\\033[31mno credentials\\033[0m\\n\\n' >&2; echo bye; "
    assert run(["sh", "-c", says + "exit 41"]).outcome.why == "exit 41: no credentials"
    assert run(["sh", "-c", says + "kill -SEGV $$"]).outcome.why == "killed by SIGSEGV"


def test_crashed(run: Run) -> None:
    made = run("crashes", "SEGV")
    assert (made.reason, made.outcome.exit) == (Reason.CRASHED, Exit(code=None, signal=11))
    assert "SIGSEGV" in made.outcome.why


@pytest.mark.memory
@pytest.mark.parametrize("launcher", [[], ["sh", "-c", '"$@"; exit $?', "sh"]], ids=["direct", "through sh"])
def test_heap_oom(run: Run, launcher: list[str]) -> None:
    made = run([*launcher, "node", "-e", LEAKS], node=NODE, heap=64 * MIB)
    assert made.reason is Reason.HEAP_OOM
    assert "JavaScript heap out of memory" in made.outcome.why
    assert made.names == UNDISTURBED


@pytest.mark.memory
def test_soft(run: Run) -> None:
    made = run("grows", 80, limits={"warn": 20 * MIB, "soft": 40 * MIB})
    assert made.reason is Reason.SOFT
    assert made.outcome.exit == Exit(code=None, signal=15)
    above_soft = ["MemoryHigh", "StopSent", "AttemptEnded"]
    assert [name for name in made.names if name != "MemoryWarned"] == ["AttemptStarted", "Spawned", *above_soft]
    assert made.names[-3:] == above_soft  # between two looks it may pass both limits; then nothing warns
    (stop,) = [event for event in made.events if isinstance(event, StopSent)]
    assert (stop.signal, stop.reason) == ("SIGTERM", Reason.SOFT)
    assert [process.pid for process in stop.processes] == [spawned(made).pid]
    assert stop.processes[0].bytes > 40 * MIB
    assert made.outcome.processes == stop.processes
    assert made.outcome.left_over == ()


@pytest.mark.memory
def test_hard(run: Run) -> None:
    made = run("grows", 500, "--rate", 300, limits={"hard": 100 * MIB})
    assert made.reason is Reason.HARD
    assert made.outcome.exit == Exit(code=None, signal=9)
    assert made.names == STOPPED
    assert 100 * MIB <= made.outcome.peak < 200 * MIB
    assert "100 MiB" in made.outcome.why


@pytest.mark.memory
def test_hard_counts_the_whole_tree(run: Run) -> None:
    program = "import os,time\nfor _ in range(3):\n  if not os.fork(): break\nx = b'x' * (40 << 20)\ntime.sleep(60)"
    made = run([sys.executable, "-c", program], limits={"hard": 120 * MIB})
    assert made.reason is Reason.HARD
    assert len(made.outcome.processes) == 4


def test_host_floor(run: Run) -> None:
    host = Host()
    floor = host.available() * 2
    host.close()
    made = run("silent", limits={"host_floor": floor})
    assert made.reason is Reason.HOST_FLOOR
    assert made.names == STOPPED


def test_timeout(run: Run) -> None:
    made = run("silent", timeouts={"wall": 0.3})
    assert (made.reason, made.outcome.exit) == (Reason.TIMEOUT, Exit(code=None, signal=15))
    assert made.names == STOPPED


def test_timeout_of_the_deaf_comes_to_kill(run: Run) -> None:
    made = run(DEAF, timeouts={"wall": 2.0, "grace": 0.2})
    assert (made.reason, made.outcome.exit) == (Reason.TIMEOUT, Exit(code=None, signal=9))
    assert made.names == KILLED_LATE
    assert [event.signal for event in made.events if isinstance(event, StopSent)] == ["SIGTERM", "SIGKILL"]


def test_timeout_of_one_that_stopped_itself(run: Run) -> None:
    made = run(["sh", "-c", "kill -STOP $$"], timeouts={"wall": 0.3})
    assert (made.reason, made.outcome.exit) == (Reason.TIMEOUT, Exit(code=None, signal=15))


def test_agent_that_exits_with_zero_after_a_stop_was_stopped(run: Run) -> None:
    made = run(["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done"], timeouts={"wall": 2.0})
    assert (made.reason, made.outcome.exit) == (Reason.TIMEOUT, Exit(code=0, signal=None))


def test_a_tree_of_too_many_processes_is_killed(run: Run) -> None:
    made = run("swarm", "sleepers", 40, rlimits=Rlimits(processes=30))
    assert made.reason is Reason.PROCESSES
    assert made.outcome.why.endswith("processes, more than rlimits.processes 30")
    assert [event.signal for event in made.events if isinstance(event, StopSent)] == ["SIGKILL"]


def test_thousands_of_zombies_are_no_survivors(run: Run) -> None:
    made = run("swarm", "zombies", 2000, timeouts={"wall": 4.0, "grace": 0.5})
    assert made.reason is Reason.TIMEOUT
    assert not [event for event in made.events if isinstance(event, Unkillable)]
    assert how_many(made.outcome.processes) < 1000


@pytest.mark.parametrize("kind", ["bomb", "unreaped"])
def test_timeout_beside_forking_processes(run: Run, kind: str) -> None:
    """Not before the time limit is over, and long before they would end by themselves."""
    made = run("swarm", kind, 100, timeouts={"wall": 3.0, "grace": 0.5})
    assert made.reason is Reason.TIMEOUT
    assert 3 <= made.outcome.seconds < DEADLINE


def test_stalled(run: Run) -> None:
    made = run("silent", timeouts={"stall": 1.0})
    assert made.reason is Reason.STALLED
    assert made.names == STOPPED


def test_output_on_either_stream_is_a_sign_of_life(run: Run) -> None:
    talk = "for n in $(seq 12); do echo $n; sleep 0.2; echo $n >&2; sleep 0.2; done"
    assert run(["sh", "-c", talk], timeouts={"stall": 4.0}).reason is Reason.COMPLETED


@pytest.mark.parametrize(
    ("success", "said"), [({"file": "review.md"}, "review.md"), ({"output": "^approved"}, "approved")]
)
def test_no_result(run: Run, success: dict[str, str], said: str) -> None:
    made = run("exits", 0, success=success)
    assert made.reason is Reason.NO_RESULT
    assert said in made.outcome.why


@pytest.mark.parametrize("success", [{"file": "review.md"}, {"output": "^approved$"}, {"codes": (0, 5)}])
def test_a_result(run: Run, success: dict[str, str]) -> None:
    code = 5 if "codes" in success else 0
    made = run(["sh", "-c", f"echo well; echo approved; touch review.md; exit {code}"], success=success)
    assert made.reason is Reason.COMPLETED


def test_regular_expression_that_never_ends_does_not_delay_the_run(run: Run) -> None:
    made = run(["sh", "-c", "printf '%060db' 0"], success={"output": "(0|00)+$"})
    assert made.reason is Reason.NO_RESULT
    assert "printed nothing like '(0|00)+$': the search took longer than 5 s" in made.outcome.why


@pytest.mark.parametrize(
    ("command", "changes", "said"),
    [
        (["/nonexistent/agent"], {}, ["/nonexistent/agent", "No such file"]),
        ([str(STUBS)], {}, [str(STUBS), "Permission denied"]),
        (["true"], {"stdin_file": "notes.txt"}, ["notes.txt", "No such file"]),
        (["true"], {"stdin_file": "pipe"}, ["pipe", "no regular file"]),
        (["echo", "x" * 131072], {}, ["echo could not be started", "128 KiB", "stdin"]),
    ],
)
def test_spawn_failed(run: Run, tmp_path: Path, command: list[str], changes: dict[str, str], said: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it to read waits for a writer
    made = run(command, **changes)
    assert (made.reason, made.outcome.exit) == (Reason.SPAWN_FAILED, None)
    assert made.names == ["AttemptStarted", "AttemptEnded"]
    assert all(words in made.outcome.why for words in said)


def test_lack_of_processes_is_spawn_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "posix_spawnp", full)
    why = run(["true"], drain={"timeout": 0.1}).outcome.why
    assert "too many processes for 0.1" in why
    assert "raise `ulimit -u`" in why


def test_spawn_failed_for_its_folder(tmp_path: Path) -> None:
    made = tried(step("true", cwd=tmp_path / "gone"), tmp_path / "run")
    assert made.reason is Reason.SPAWN_FAILED
    assert f"{tmp_path / 'gone'}" in made.outcome.why


def test_a_program_on_a_part_of_the_path_that_counts_from_the_agents_folder_is_started(tmp_path: Path) -> None:
    (program := tmp_path / "bin/hello").parent.mkdir()
    program.write_text("#!/bin/sh\necho $0\n")
    program.chmod(0o755)
    made = tried(step("hello", cwd=tmp_path, env={"PATH": f"bin:{os.environ['PATH']}"}), tmp_path / "run")
    assert made.reason is Reason.COMPLETED, made.outcome.why


def test_misconfigured(run: Run) -> None:
    made = run(["node", "-e", "0"], env={"NODE_OPTIONS": "--no-such-option"})
    assert made.reason is Reason.MISCONFIGURED


@pytest.mark.parametrize(
    ("halt", "name", "signum"), [(Halt.NOW, "silent", 15), (Halt.KILL, "silent", 9), (Halt.KILL, "deaf", 9)]
)
def test_halted(run: Run, halt: Halt, name: str, signum: int) -> None:
    made = run(name, meanwhile=wish(halt))
    assert (made.reason, made.outcome.exit) == (Reason.HALTED, Exit(code=None, signal=signum))


def test_a_wish_to_end_after_the_agent_lets_it_end(run: Run) -> None:
    assert run("exits", 0, 0.5, meanwhile=wish(Halt.AFTER_AGENT)).reason is Reason.COMPLETED


# -- the numbers


def said(folder: Path, words: str) -> Callable[[], bool]:
    """The fact that the agent has printed them."""
    output = folder / "run" / "agent" / "1" / "stdout.log"
    return lambda: words in output.read_text()


def test_warning_is_reported_once(run: Run, tmp_path: Path) -> None:
    grown = said(tmp_path, "ready")
    made = run("grows", 40, "--rate", 100, limits={"warn": 20 * MIB}, meanwhile=wish(Halt.NOW, grown, after=1.5))
    (warned,) = [event for event in made.events if isinstance(event, MemoryWarned)]
    assert warned.used >= warned.warn == 20 * MIB


@pytest.mark.memory
def test_the_peak_is_of_the_whole_tree(run: Run, tmp_path: Path) -> None:
    made = run("grows", 60, meanwhile=wish(Halt.NOW, said(tmp_path, "ready"), after=1.5))
    assert 60 * MIB <= made.outcome.peak < 90 * MIB


def test_its_time_is_its_own_and_not_its_leftovers(run: Run) -> None:
    made = run("orphans", 1)
    assert made.outcome.seconds < 30
    (ended,) = [event for event in made.events if isinstance(event, AttemptEnded)]
    assert ended.outcome.seconds == made.outcome.seconds


def spawned(made: Tried) -> Spawned:
    (event,) = [event for event in made.events if isinstance(event, Spawned)]
    return event


def test_stop_is_reported_with_its_reason(run: Run, tmp_path: Path) -> None:
    server = tmp_path / "node_modules" / "@modelcontextprotocol" / "server-x" / "dist" / "index.js"
    server.parent.mkdir(parents=True)
    server.write_text("console.log('ready'); setTimeout(() => {}, 60000)")
    script = f"node {server} & bash -c 'sleep 60; :' & wait"
    made = run(["sh", "-c", script], meanwhile=wish(Halt.NOW, said(tmp_path, "ready"), after=1.0))
    assert made.reason is Reason.HALTED
    assert made.stdout == "ready\n"
    (stop,) = [event for event in made.events if isinstance(event, StopSent)]
    kinds = {process.name: process.kind for process in stop.processes}
    kinds["node"] = kinds.pop("MainThread", kinds.get("node", ProcessKind.OTHER))  # newer ones name their first thread
    assert kinds == {
        "sh": ProcessKind.AGENT,
        "node": ProcessKind.MCP_SERVER,
        "bash": ProcessKind.SHELL,
        "sleep": ProcessKind.OTHER,
    }
    assert made.outcome.processes == stop.processes


# -- leftovers


@pytest.mark.parametrize(("name", "count"), [("orphans", 3), ("detaches", 1), ("env_cleared", 1)])
def test_leftovers_are_stopped_and_named(run: Run, name: str, count: int) -> None:
    made = run(name, *([count] if name == "orphans" else []))
    assert made.reason is Reason.COMPLETED
    named = [int(word) for word in made.stdout.split()[1:]]
    assert sorted(process.pid for process in made.outcome.left_over) == sorted(named)
    assert made.outcome.processes == ()
    assert not any(map(alive, named))
    (stop,) = [event for event in made.events if isinstance(event, StopSent)]
    assert (stop.signal, stop.reason) == ("SIGTERM", None)


def test_a_deaf_leftover_is_killed(run: Run) -> None:
    made = run(["sh", "-c", "trap '' TERM; sleep 60 & exit 0"])
    assert made.reason is Reason.COMPLETED
    assert len(made.outcome.left_over) == 1
    assert made.names == [*KILLED_LATE[:2], "LeaderEnded", *KILLED_LATE[2:]]


def test_leftovers_that_go_by_themselves_are_none(run: Run) -> None:
    made = run(["sh", "-c", "mkfifo line; cat line & exec 3>line"])  # it ends when its leader hangs up
    assert [name for name in made.names if name != "LeaderEnded"] == UNDISTURBED
    assert made.outcome.left_over == ()


@pytest.mark.parametrize(
    "drain",
    [
        {"allow": ("orphans.py",)},
        {"allow": ("nothing like it", "orphans")},
        {"allow": ("python*orphans.p[xy] ?*",)},
        {"sweep": False},
    ],
)
def test_leftovers_may_stay_where_the_profile_says_so(run: Run, drain: dict[str, object]) -> None:
    made = run("orphans", 2, drain=drain)
    assert (made.reason, made.outcome.left_over) == (Reason.COMPLETED, ())
    assert made.names == UNDISTURBED
    named = [int(word) for word in made.stdout.split()[1:]]
    assert all(map(alive, named))
    for pid in named:
        os.kill(pid, 9)
        wait_for(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_no_process_of_a_stopped_agent_stays(run: Run, stub: Stub, tmp_path: Path) -> None:
    """A pattern is for servers that an agent leaves when it ended well, not for a tree that ran away."""
    made = run(
        ["sh", "-c", '"$@"; sleep 60', "sh", *stub("orphans", 1)], meanwhile=wish(Halt.NOW, said(tmp_path, "ready")),
        drain={"allow": ("orphans",)},
    )  # fmt: skip
    assert made.reason is Reason.HALTED
    assert not alive(int(made.stdout.split()[1]))


# -- what it is given


def test_events_tell_what_was_started(run: Run, tmp_path: Path) -> None:
    made = run("exits", 0)
    (started,) = [event for event in made.events if isinstance(event, AttemptStarted)]
    assert started.command[-1] == "0"
    assert (started.agent, started.attempt, started.content, started.folder) == ("agent", 1, "content", "agent/1")
    assert spawned(made).start_time > 0
    first = (tmp_path / "run" / "members").read_text().splitlines()[0]
    assert first == f"{spawned(made).pid} {spawned(made).start_time}"


def test_folders_and_output_are_private(run: Run) -> None:
    old = os.umask(0)
    try:
        made = run("exits", 0)
    finally:
        os.umask(old)
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    for name in ("stdout.log", "stderr.log"):
        assert stat.S_IMODE((made.folder / name).stat().st_mode) == 0o600


def test_stdin_is_empty_where_nothing_is_given(run: Run) -> None:
    assert run(["cat"]).stdout == ""


@pytest.mark.parametrize("text", ["", "do this\n", "ä" * 300_000])
def test_stdin_text(run: Run, text: str) -> None:
    assert run(["cat"], stdin=text).stdout == text


def test_stdin_text_without_a_reader_does_no_harm(run: Run) -> None:
    assert run(["true"], stdin="x" * 1_000_000).reason is Reason.COMPLETED


def test_stdin_file_relative_to_its_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the notes")
    assert run(["cat"], stdin_file="notes.txt").stdout == "the notes"


def test_its_environment_is_ours_with_the_profiles_and_the_marks(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_THE_USER", "1")
    monkeypatch.setenv("OVERRIDDEN", "1")
    monkeypatch.chdir("/")
    made = run(["env"], env={"OVERRIDDEN": "2"})
    found = dict(line.split("=", 1) for line in made.stdout.splitlines() if "=" in line)
    assert (found["FROM_THE_USER"], found["OVERRIDDEN"]) == ("1", "2")
    assert (found["SEQSUP_AGENT"], found["SEQSUP_ATTEMPT"]) == ("agent", "1")
    assert found["SEQSUP_FOLDER"] == str(tmp_path / "run")
    assert found["SEQSUP_ARTIFACTS"] == str(made.folder / "artifacts")
    assert len(found["SEQSUP_COOKIE"]) == 16
    assert found["PWD"] == str(tmp_path)


def test_node_options_are_merged_with_the_users(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    made = run(["node", "-p", "process.env.NODE_OPTIONS"], node=NODE, heap=96 * MIB)
    assert made.stdout == "--max-old-space-size=96 --no-warnings\n"


def test_a_native_agent_gets_no_node_options(run: Run) -> None:
    assert "NODE_OPTIONS" not in run(["env"], heap=96 * MIB).stdout


def test_agent_leads_its_session_is_the_first_oom_victim_and_has_the_users_limit_of_files(run: Run) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, hard, 512)
    program = (
        "import os, resource, time\n"
        "from pathlib import Path\n"
        "ends = time.monotonic() + 40\n"
        "first = Path('/proc/self/oom_score_adj')\n"
        "while time.monotonic() < ends and first.read_text().strip() != '1000': time.sleep(0.02)\n"
        "print(os.getsid(0) == os.getpid(), os.isatty(0), first.read_text().strip(),"
        " *resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir('/proc/self/fd')))\n"
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        made = run([sys.executable, "-c", program])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made.stdout.split() == ["True", "False", "1000", str(lower), str(hard), "4"]


def test_output_is_kept_apart_and_in_order(run: Run) -> None:
    made = run(["sh", "-c", "echo one; echo two >&2; echo three"])
    assert made.stdout == "one\nthree\n"
    assert (made.folder / "stderr.log").read_text() == "two\n"


def test_no_descriptor_is_left_open(run: Run) -> None:
    run("exits", 0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    run("orphans", 2)
    run("forks", 2, 2, timeouts={"wall": 1.0})
    run(["/nonexistent"])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
