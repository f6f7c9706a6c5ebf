"""`seqsup mem` and seqsup.memory: figures of the active run for programs, and requests to it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import agent, parsed, shell, write
from helpers.waiting import wait_for
from seqsup import memory
from seqsup.units import GIB, MIB

Cli = Callable[..., Result]
Start = Callable[..., Started]

HOARDS = """
const kept = [];
setTimeout(() => {
  for (let n = 0; n < 1_500_000; n++) kept.push({ n, text: `message ${n}` });
  kept.length = 0;
  console.log("ready");
}, 300);
setInterval(() => {}, 1000);
"""
WAITS = "console.log('ready'); setInterval(() => {}, 1000)"


def going(start: Start, folder: Path, script: str, **keys: Any) -> Started:
    """Start a run whose agent is connected and has said that it is ready."""
    (folder / "agent.mjs").write_text(script)
    keys = {"memory": {"soft": "2GiB", "hard": "3GiB", "host_floor": "none"}, **keys}
    started = start("start", write(folder, agent("a", ["node", "agent.mjs"], **keys)))
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    wait_for(lambda: [log for log in state.glob("runs/r1/a/1/stdout.log") if "ready" in log.read_text()], 60)
    return started


@pytest.mark.memory
def test_gc_is_requested_of_the_active_run(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    started = going(seqsup_started, tmp_path, HOARDS)
    wait_for(lambda: "GC available: yes" in seqsup("mem", "--gc").stdout, 60)
    said = seqsup("mem", "--gc")
    before, available, freed, after, what, *_ = said.stdout.splitlines()
    assert before.startswith("[Before] RSS ")
    assert "heap " in before
    assert "external " in before
    assert available == "GC available: yes (1 Node process)"
    assert re.fullmatch(r"Freed: .* of .* RSS", freed)
    assert after.startswith("[After]  RSS ")
    assert what.endswith("RSS includes shared pages; limits count the memory below.")
    assert "node agent.mjs" in said.stdout
    fields = json.loads(seqsup("mem", "--json", "--gc", "--threshold", "1MiB").stdout)
    assert fields["gc"]["available"] is True
    assert fields["high"] is True
    assert fields["processes"][0]["heap"]["used"] < 50 * MIB
    started.end()
    kinds = [event["event"] for event in parsed(seqsup("events").stdout)]
    assert kinds.count("gc_done") >= 3
    assert "gc_requested" not in kinds


@pytest.mark.parametrize("option", [(), ("--gc",)])
def test_a_supervisor_that_is_suspended_is_not_waited_for(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path, option: tuple[str, ...]
) -> None:
    started = going(seqsup_started, tmp_path, WAITS)
    wait_for(lambda: "n/a" not in seqsup("mem").stdout, 60)
    started.send(signal.SIGSTOP)
    wait_for(lambda: "SUSPENDED" in seqsup("status").stdout)
    said = seqsup("mem", *option, deadline=10)
    started.send(signal.SIGCONT)
    assert said.code == 0
    assert f"is suspended and watches nothing: continue it with `kill -CONT {started.pid}`" in said.stdout + said.stderr
    assert "node agent.mjs" in said.stdout


BUSY = """
import { existsSync } from 'fs';
console.log('ready');
setInterval(() => {
  if (!existsSync('gate')) return;
  console.log('busy');
  while (!existsSync('over')) {}
}, 20);
"""


@pytest.mark.parametrize(
    ("option", "said"), [((), "its last figures are .* old"), (("--gc",), r"GC available: no \(Node process \d+ did")]
)
def test_process_with_a_busy_loop_is_waited_for_only_shortly(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path, option: tuple[str, ...], said: str
) -> None:
    going(seqsup_started, tmp_path, BUSY)
    wait_for(lambda: "n/a" not in seqsup("mem").stdout, 60)
    (tmp_path / "gate").touch()
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    wait_for(lambda: "busy" in (state / "runs/r1/a/1/stdout.log").read_text())
    told = seqsup("mem", *option, deadline=8)
    (tmp_path / "over").touch()
    text = " ".join((told.stdout + told.stderr).split())
    assert told.code == 0
    assert re.search(said, text), text
    assert "did not answer within 1 s: JavaScript keeps its event loop busy, or it is stopped" in text
    assert "node.telemetry" not in text


def test_end_of_agent_while_it_is_asked_is_reported(tmp_path: Path) -> None:
    import socket
    import threading

    from seqsup.state.run_folder import hold

    folder = tmp_path / "r1"
    (folder / "a" / "1").mkdir(parents=True)
    lock = hold(folder)
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "1"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        (folder / "a" / "1" / "channel").symlink_to(path)
        ends = threading.Thread(target=lambda: listener.accept()[0].close())
        ends.start()
        assert memory.force_gc(folder).why == memory.ENDED
        ends.join()
    os.close(lock)


def test_memory_and_threshold_of_the_active_run(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    started = going(seqsup_started, tmp_path, WAITS)
    wait_for(lambda: "n/a" not in seqsup("mem").stdout, 60)
    said = seqsup("mem")
    assert said.code == 0
    assert "node agent.mjs" in said.stdout
    assert "together, 1 process" in said.stdout
    assert said.stdout.splitlines()[-1].startswith("host: ")
    assert seqsup("mem", "--threshold", "10GiB").code == 0
    assert seqsup("mem", "--threshold", "1MiB").code == 1
    refused = seqsup("mem", "--gc", str(started.pid))
    assert (refused.code, "leave out the PIDs" in refused.stderr) == (2, True)
    fields = json.loads(seqsup("mem", "--json").stdout)
    assert fields["schema"] == "seqsup.mem/1"
    assert fields["used"] >= fields["processes"][0]["heap"]["used"] > MIB
    pid = fields["processes"][0]["pid"]
    by_pid = json.loads(seqsup("mem", "--json", str(pid)).stdout)
    assert by_pid["processes"][0]["heap"] is not None


def test_run_is_named_as_elsewhere_and_each_process_with_its_owner(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    (tmp_path / "agent.mjs").write_text(WAITS)
    beside = {"name": "api", "command": ["sleep", "600"], "ready": {"delay": "10ms"}}
    profile = write(tmp_path, agent("a", ["node", "agent.mjs"]), companions=[beside])
    started = seqsup_started("start", profile)
    wait_for(lambda: "n/a" in (said := seqsup("mem", "r1").stdout) and "agent.mjs" in said, 60)
    fields = json.loads(seqsup("mem", profile, "--json").stdout)
    assert {each["owner"] for each in fields["processes"] if each["name"] != "seqsup-keeper"} >= {"a", "api"}
    titles = seqsup("mem", "r1").stdout.splitlines()[0].split()
    assert "owner" in titles
    assert seqsup("mem", "r1", "--gc").code == 0
    for words, why in [(("r2",), "r2"), (("r1", "7"), "r1 is no PID"), (("0",), "0 is no PID")]:
        wrong = seqsup("mem", *words)
        assert (wrong.code, why in wrong.stderr) == (2, True), wrong
    started.end()
    over = seqsup("mem", "r1")
    assert (over.code, over.stderr) == (2, "seqsup: r1 is not running\n")


def test_companions_are_asked_too(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    (tmp_path / "agent.mjs").write_text(WAITS)
    beside = {"command": ["node", "agent.mjs"], "memory": {"hard": "2GiB"}, "ready": {"log": "ready"}}
    companions = [{"name": name, **beside} for name in ("api", "db")]
    started = seqsup_started("start", write(tmp_path, agent("a", ["node", "agent.mjs"]), companions=companions))
    wait_for(lambda: len(found := heaps(seqsup)) == 3 and all(found.values()))
    freed = json.loads(seqsup("mem", "--gc", "--json").stdout)["gc"]
    assert (freed["collection"]["asked"], freed["collection"]["answered"]) == (3, 3)
    assert freed["collection"]["before"]["used"] > 3 * MIB
    started.end()


def heaps(seqsup: Cli) -> dict[str, Any]:
    said = json.loads(seqsup("mem", "--json").stdout)
    return {each["owner"]: each["heap"] for each in said["processes"] if each["name"] != "seqsup-keeper"}


def test_process_that_lost_its_environment_belongs_to_the_owner_of_its_parent(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    """MCP clients hand their servers six variables."""
    starts = "spawn('sh', ['-c', 'sleep 600; :'], { env: {} })"
    going(seqsup_started, tmp_path, f"import {{ spawn }} from 'child_process'; {starts}; {WAITS}")
    wait_for(lambda: "sleep" in seqsup("mem").stdout, 60)
    fields = json.loads(seqsup("mem", "--json").stdout)
    assert {(each["name"], each["owner"]) for each in fields["processes"]} >= {("sh", "a"), ("sleep", "a")}
    assert sorted(each["kind"] for each in fields["processes"]) == ["agent", "other", "shell"]


def test_without_a_run_there_is_only_the_host(seqsup: Cli) -> None:
    said = seqsup("mem", "--threshold", "1MiB")
    assert said.code == 0
    assert said.stdout.startswith("no run is running\n")
    assert re.fullmatch(r"host: .* available of .*, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said.stdout.splitlines()[-1])
    asked = seqsup("mem", "--gc")
    assert asked.code == 0
    assert "GC available: no (no run is running)" in asked.stdout
    assert json.loads(seqsup("mem", "--json").stdout)["heap_unknown"] == "no run is running"


def test_without_a_run_the_agents_outside_of_seqsup_are_named(seqsup: Cli, tmp_path: Path) -> None:
    claude = tmp_path / "claude"
    claude.symlink_to(sys.executable)
    with subprocess.Popen([claude, "-c", "input()"], stdin=subprocess.PIPE) as agent:
        wait_for(lambda: "claude" in Path(f"/proc/{agent.pid}/cmdline").read_text(), 20)
        said = seqsup("mem", env={"COLUMNS": "300"}).stdout
        agent.kill()
    assert re.search(r"^outside of seqsup, agent CLIs use [\d.]+ MiB: .*claude .*\(agent\)", said, re.M)


def test_log_gets_a_line_with_the_time_for_each_call(seqsup: Cli, tmp_path: Path) -> None:
    """A log may be in a folder that other users write to: no link is followed, no pipe is opened."""
    log = tmp_path / "memory.ndjson"
    assert [seqsup("mem", "--log", log).stdout for _ in range(2)] == ["", ""]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    before, after = (datetime.fromisoformat(line["time"]) for line in lines)
    assert before < after <= datetime.now(UTC)
    assert all(line["host"]["total"] > line["host"]["available"] > 0 for line in lines)
    assert log.stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(log)
    (tmp_path / "second").hardlink_to(log)
    os.mkfifo(tmp_path / "pipe")
    for wrong, why in (("link", "no link"), ("second", "one name"), ("pipe", "regular file"), ("no/x", "create it")):
        refused = seqsup("mem", "--log", tmp_path / wrong)
        assert (refused.code, why in refused.stderr) == (2, True), refused.stderr
    assert len(log.read_text().splitlines()) == 2


def test_log_starts_a_new_line_after_a_line_that_was_cut(seqsup: Cli, tmp_path: Path) -> None:
    """A full disk or a crash may have cut it."""
    log = tmp_path / "memory.ndjson"
    log.write_text('{"schema": "seqsup.m')
    assert seqsup("mem", "--log", log).code == 0
    assert seqsup("mem", "--log", log).code == 0
    cut, *lines = log.read_text().splitlines()
    assert cut == '{"schema": "seqsup.m'
    assert [json.loads(line)["schema"] for line in lines] == ["seqsup.mem/1"] * 2


def test_log_without_room_for_a_line_is_an_error(seqsup: Cli, tmp_path: Path) -> None:
    log = tmp_path / "memory.ndjson"
    log.write_text("x" * 1000 + "\n")
    words = [sys.executable, "-m", "seqsup", "mem", "--log", str(log)]
    ended = subprocess.run(["prlimit", "--fsize=1010", "--", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert f"{log}:" in ended.stderr
    assert "No space left on device" in ended.stderr


def test_any_process_can_be_weighed_and_is_not_touched(seqsup: Cli, stub: Callable[..., list[str]]) -> None:
    program = subprocess.Popen(["node", "-e", WAITS], stdout=subprocess.PIPE)
    try:
        assert program.stdout
        program.stdout.readline()
        said = seqsup("mem", program.pid)
        assert said.code == 0
        assert f"{program.pid}" in said.stdout
        assert "n/a" in said.stdout
        assert seqsup("mem", program.pid, "--threshold", "1MiB").code == 1
        assert program.poll() is None
    finally:
        program.kill()
        program.communicate()
    gone = seqsup("mem", program.pid)
    assert (gone.code, "does not exist" in gone.stderr) == (2, True)
    never = seqsup("mem", 10**30)
    assert (never.code, never.stderr.splitlines()[0]) == (2, f"seqsup: {10**30} is no PID: give one run, or PIDs")
    assert seqsup("mem", "--threshold", "plenty").code == 2


def test_an_agent_that_is_no_node_program_cannot_collect(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path, stub: Callable[..., list[str]]
) -> None:
    seqsup_started("start", write(tmp_path, shell("a", "sleep 60")))
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    wait_for(lambda: list(state.glob("runs/r1/a/1/stdout.log")), 60)
    said = wait_for(lambda: "sleep" in (each := seqsup("mem", "--gc")).stdout and each, 60)
    assert "GC available: no (no Node process answers" in said.stdout
    assert "RSS" not in said.stdout
    assert "[Before] memory" in said.stdout
    assert "heap n/a" in said.stdout


# -- for programs


@pytest.mark.memory
def test_the_five_functions(seqsup_started: Start, tmp_path: Path) -> None:
    going(seqsup_started, tmp_path, HOARDS)
    wait_for(lambda: memory.memory_usage().nodes, 60)
    usage = memory.memory_usage()
    assert usage.used > 10 * MIB
    assert usage.nodes[0].heap.limit > 100 * MIB
    assert 0 < usage.available < usage.total
    assert memory.is_memory_high(MIB)
    assert not memory.is_memory_high()
    freed = memory.force_gc()
    assert freed.collection is not None
    assert freed.why == ""
    assert freed.bytes >= 0
    assert freed.after.nodes[0].heap.used < 50 * MIB
    assert memory.wait_for_memory_cleanup(GIB, timeout=10, interval=0.01)
    assert not memory.wait_for_memory_cleanup(MIB, timeout=0.05, interval=0.01)
    cleaned = memory.cleanup_between_agents(GIB)
    assert cleaned.reached
    assert cleaned.after.used < GIB
    assert not memory.cleanup_between_agents(MIB, timeout=0.0).reached


def test_nothing_is_shown_without_an_active_run() -> None:
    assert memory.memory_usage().used == 0
    assert memory.force_gc().why == "no run is running"
    assert not memory.is_memory_high(0)
    assert memory.cleanup_between_agents().reached


def test_sizes_and_times_may_have_units() -> None:
    assert not memory.is_memory_high("6GiB")
    assert memory.wait_for_memory_cleanup("4GiB", "2h", "1s")
    assert memory.cleanup_between_agents("4GiB", "250ms", "10ms").reached


def test_label_is_logged_with_time_and_figures(capfd: pytest.CaptureFixture[str]) -> None:
    usage = memory.log_memory_usage("Before Agent 1\x1b[2J")
    out, err = capfd.readouterr()
    assert out == ""
    when, said = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", r"memory [\d.]+ [MG]iB, heap n/a, external n/a"
    assert re.fullmatch(rf"{when} \[Before Agent 1[^\x1b]*\] {said}\n", err), err
    assert [process.pid for process in usage.processes] == [os.getpid()]
    memory.log_memory_usage()
    assert re.fullmatch(rf"{when} {said}\n", capfd.readouterr().err)


def test_agent_logs_its_own_memory(seqsup: Cli, tmp_path: Path) -> None:
    code = "from seqsup.memory import log_memory_usage\nlog_memory_usage('Before')"
    assert seqsup("start", write(tmp_path, agent("a", [sys.executable, "-c", code]))).code == 0
    assert "[Before] memory " in seqsup("logs", "a").stderr


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: memory.memory_of([7, 0]), "a pid is at least 1, not 0"),
        (lambda: memory.is_memory_high(-1), "threshold is at least 0, not -1"),
        (lambda: memory.wait_for_memory_cleanup(timeout=-1.0), "timeout is at least 0, not -1.0"),
        (lambda: memory.wait_for_memory_cleanup(timeout=nan), "timeout is at least 0, not nan"),
        (lambda: memory.cleanup_between_agents(interval=0), "interval is at least 0.001, not 0"),
        (lambda: memory.is_memory_high(6144), 'write "6144MiB" or 6144 * 2**20'),
        (lambda: memory.is_memory_high("6144"), "threshold: 6144 has no unit: write 6144MiB or 6144KiB"),
        (lambda: memory.wait_for_memory_cleanup(4096, 30000, 1000), 'write "4096MiB" or 4096 * 2**20'),
        (lambda: memory.wait_for_memory_cleanup("4GiB", 30000), '30000 are 8 h 20 min: write "30s" or "30000s"'),
        (lambda: memory.cleanup_between_agents("4GiB", 30, 1000), '1000 are 16 min 40 s: write "1s" or "1000s"'),
        (lambda: memory.cleanup_between_agents("4GiB", "half an hour"), "timeout: expected a duration such as"),
    ],
)
def test_impossible_request_is_an_error(call: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        call()


AMOUNT = "is a number or text with a unit"
untyped: Any = memory


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: untyped.log_memory_usage(5), "label is text, not int"),
        (lambda: untyped.is_memory_high(None), f"threshold {AMOUNT}, not NoneType"),
        (lambda: untyped.is_memory_high([1]), f"threshold {AMOUNT}, not list"),
        (lambda: untyped.wait_for_memory_cleanup(timeout=b"30s"), f"timeout {AMOUNT}, not bytes"),
        (lambda: untyped.cleanup_between_agents(interval=None), f"interval {AMOUNT}, not NoneType"),
        (lambda: untyped.memory_of(["5"]), "a pid is a whole number, not str"),
        (lambda: untyped.memory_of([5.0]), "a pid is a whole number, not float"),
    ],
)
def test_value_of_a_wrong_type_is_named(call: Callable[[], object], why: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(why)}$"):
        call()


def test_wait_may_have_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    high = iter([True, False])
    monkeypatch.setattr(memory, "is_memory_high", lambda *_: next(high))
    monkeypatch.setattr(time, "sleep", lambda seconds: seconds <= threading.TIMEOUT_MAX or pytest.fail(str(seconds)))
    assert memory.wait_for_memory_cleanup(timeout=inf, interval=inf)


def test_an_agent_can_ask_for_itself(seqsup: Cli, tmp_path: Path) -> None:
    code = (
        "import time; from seqsup.memory import *\n"
        "ends = time.monotonic() + 40\n"
        "while (why := force_gc().why) and time.monotonic() < ends: time.sleep(0.05)\n"  # until its Node is on the line
        "print(memory_usage().used > 0, repr(why))"
    )
    (tmp_path / "agent.mjs").write_text(f"""
        import {{ spawn }} from "node:child_process";
        spawn({json.dumps(sys.executable)}, ["-c", {json.dumps(code)}], {{ stdio: "inherit" }});
    """)
    env = {"PYTHONPATH": str(ROOT / "supervisor"), "SEQSUP_STATE_DIR": str(tmp_path / "elsewhere")}
    result = seqsup("start", write(tmp_path, agent("a", ["node", "agent.mjs"], env=env)))
    assert result.code == 0, result.stderr
    assert seqsup("logs", "r1", "a").stdout == "True ''\n"


def test_supervisor_that_does_not_answer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PATIENCE", {"mem": 0.1, "gc": 0.1})
    from seqsup.state.run_folder import hold

    folder = tmp_path / "r1"
    (folder / "a" / "1").mkdir(parents=True)
    lock = hold(folder)
    try:
        (folder / "deaf").touch()
        (folder / "a" / "1" / "channel").symlink_to(folder / "deaf")
        assert "does not answer" in memory.memory_usage(folder).why
        began = time.monotonic()
        assert memory.force_gc(folder).collection is None
        assert time.monotonic() - began < 30
    finally:
        os.close(lock)


def test_importing_it_costs_no_loop() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import seqsup.memory, sys; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"asyncio", "loguru", "seqsup.node.channel"} & set(ended.stdout.split())
