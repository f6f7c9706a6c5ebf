"""seqsup as on macOS, simulated: every step of an attempt, and reports of what cannot be promised."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.mac import beginning_on_mac, on_mac
from helpers.profiles import agent, of, proven, reasons, shell, write
from helpers.waiting import alive, wait_for

Stub = Callable[..., list[str]]


def test_without_what_only_linux_has_a_run_is_a_run(tmp_path: Path, stub: Stub) -> None:
    agents = [
        shell("well", "echo done", stdin="text"),
        agent("late", stub("deaf"), timeouts={"wall": "500ms", "grace": "200ms"}),
    ]
    ended = on_mac(tmp_path, "start", write(tmp_path, *agents, name="both"), "--json")
    assert reasons(proven(ended)) == {"well": "completed", "late": "timeout"}
    assert on_mac(tmp_path, "run", "--", "true").code == 0
    assert "not Linux" in on_mac(tmp_path, "doctor").stdout


def test_run_can_be_paused_resumed_and_stopped_and_a_waiting_one_refused(tmp_path: Path) -> None:
    holds = shell("holds", "touch began; exec sleep 60")
    first, second = write(tmp_path, holds, name="first"), write(tmp_path, shell("b", "true"), name="second")
    with beginning_on_mac(tmp_path, "start", first) as running:
        wait_for((tmp_path / "began").exists)
        with beginning_on_mac(tmp_path, "start", second) as waiting:
            told = waiting.stderr
            assert told is not None
            wait_for(lambda: "waiting for first" in told.readline())
            away = on_mac(tmp_path, "stop", "second")
            assert (away.code, "left the queue" in away.stderr) == (0, True), away.stderr
            assert waiting.wait(40) == 128 + signal.SIGTERM
        assert on_mac(tmp_path, "pause", "first").code == 0
        on = on_mac(tmp_path, "resume", "first")
        assert (on.code, "continues" in on.stderr) == (0, True), on.stderr
        ended = on_mac(tmp_path, "stop", "first", "--now")
        assert (ended.code, "ends now" in ended.stderr) == (0, True), ended.stderr
        assert running.wait(40) == 128 + signal.SIGTERM
    gone = on_mac(tmp_path, "stop", "first")
    assert (gone.code, "is not running" in gone.stderr) == (0, True)


def test_missing_guarantees_are_reported(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"))
    assert "psutil: not Linux: " in on_mac(tmp_path, "plan", profile, "-v").stdout
    checks = {check["what"]: check for check in json.loads(on_mac(tmp_path, "doctor", "--json").stdout)["checks"]}
    assert (checks["containment"]["level"], "subreaper" in checks) == ("warn", False)
    said = checks["containment"]["finding"]
    assert "experimental, we have not run it on a Mac" in said
    assert "need Linux" in said
    worse = [what for what, check in checks.items() if check["level"] != "ok"]
    assert worse == ["containment", *(["user"] if os.geteuid() == 0 else [])]
    events = proven(on_mac(tmp_path, "start", profile, "--json"))
    assert events[0]["containment"] == "psutil"
    assert of(events, "warned")[0]["message"].startswith("not Linux")
    refused = on_mac(tmp_path, "start", write(tmp_path, shell("a", "true"), memory={"enforce": "cgroup"}))
    assert (refused.code, "only Linux has cgroups" in refused.stderr) == (3, True)


@pytest.mark.parametrize(
    ("name", "args"),
    [("forks", [2, 2]), ("escapes", ["double-fork"]), ("escapes", ["setsid"]), ("detaches", ["--stay"])],
)
def test_leftovers_are_found_and_stopped(stub: Stub, tmp_path: Path, name: str, args: list[object]) -> None:
    """A process that stays in the session is found at any time. One that leaves it must have been seen below its
    parent.
    """
    profile = write(tmp_path, agent("a", stub(name, *args), timeouts={"grace": "500ms"}))
    with beginning_on_mac(tmp_path, "start", profile, "--json") as run:
        folder = Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1")
        output = folder / "a/1/stdout.log"
        said = wait_for(lambda: output.read_text().endswith("\n") and output.read_text().split())
        assert said[0] == "ready"
        if args in (["setsid"], ["--stay"]):
            wait_for(lambda: f"{said[1]} " in (folder / "members").read_text())
        run.send_signal(signal.SIGTERM)  # some have ended by themselves
        stdout, stderr = run.communicate(timeout=40)
    events = proven(Result(run.returncode, stdout, stderr))
    assert not any(alive(int(pid)) for pid in said[1:])
    assert of(events, "drained")[0]["reached"]


def test_run_in_background_is_found_measured_and_stopped(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("holds", "touch began; exec sleep 60"), name="back")
    began = on_mac(tmp_path, "start", profile, "--detach")
    assert (began.code, began.stdout) == (0, "r1\n"), began.stderr
    wait_for((tmp_path / "began").exists)
    assert "holds" in on_mac(tmp_path, "status", "back").stdout
    assert "sleep" in on_mac(tmp_path, "mem", "back").stdout
    assert on_mac(tmp_path, "stop", "back", "--now").code == 0
    wait_for(lambda: "runs now" not in (said := on_mac(tmp_path, "status", "back").stdout) and "stopped" in said)


def test_sweep_stops_what_killed_supervisor_left(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("holds", "echo $$ >pid.new; mv pid.new pid; exec sleep 60"))
    with beginning_on_mac(tmp_path, "start", profile) as run:
        wait_for((tmp_path / "pid").exists)
        pid = (tmp_path / "pid").read_text().strip()
        members = Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1/members")
        wait_for(lambda: pid in members.read_text().split())  # here nothing else leads to it after a kill
        run.kill()
    assert alive(int(pid))
    swept = on_mac(tmp_path, "sweep")
    assert (swept.code, "stopped sleep" in swept.stdout, alive(int(pid))) == (0, True, False), swept.stdout


def test_agent_gets_its_own_environment_and_limit_of_files(tmp_path: Path) -> None:
    """A variable whose name is no identifier is set with Python instead of a shell, and Python sets LC_CTYPE for
    itself.
    """
    told = "import os, resource; print(*os.environ, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    env = {"npm_config_//host/:_auth": "1", "LANG": "C", "LC_ALL": ""}
    agents = [agent("odd", [sys.executable, "-ISEX", "utf8=0", "-c", told], env=env), shell("plain", "ulimit -n")]
    proven(on_mac(tmp_path, "start", write(tmp_path, *agents, name="both"), "--json"))
    *names, files = on_mac(tmp_path, "logs", "both", "odd").stdout.split()
    assert "npm_config_//host/:_auth" in names
    assert (files, on_mac(tmp_path, "logs", "both", "plain").stdout) == ("256", "256\n")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_processes_say_their_heap_and_collect(tmp_path: Path) -> None:
    program = "require('fs').writeFileSync('began', ''); setTimeout(() => {}, 60000)"
    profile = write(tmp_path, agent("a", ["node", "-e", program]), name="node")
    with beginning_on_mac(tmp_path, "start", profile) as run:
        wait_for((tmp_path / "began").exists)
        told = on_mac(tmp_path, "mem", "node", "--gc")
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=40)
    assert (told.code, bool(re.search(r"heap", told.stdout))) == (0, True), told.stdout + told.stderr


@pytest.mark.memory
@pytest.mark.parametrize("whose", ["own", "child's"])
def test_leak_is_stopped_at_hard(tmp_path: Path, whose: str) -> None:
    program = (
        "import os, sys, time\n"
        "if sys.argv[1] != 'own' and os.fork(): os.wait(); sys.exit()\n"
        "held = []\n"
        "while True: held.append(b'x' * (1 << 20)); time.sleep(0.01)"
    )
    profile = write(tmp_path, agent("a", [sys.executable, "-c", program, whose]), memory={"hard": "100MiB"})
    events = proven(on_mac(tmp_path, "start", profile, "--json"))
    assert reasons(events) == {"a": "hard"}
    (stop,) = of(events, "stop_sent")
    assert not any(alive(process["pid"]) for process in stop["processes"])


@pytest.mark.memory
def test_a_tree_over_hard_is_killed_whole(tmp_path: Path) -> None:
    program = "import os,time\nfor _ in range(3):\n  if not os.fork(): break\nx = b'x' * (60 << 20)\ntime.sleep(60)"
    profile = write(tmp_path, agent("a", [sys.executable, "-c", program]), memory={"hard": "200MiB"})
    events = proven(on_mac(tmp_path, "start", profile, "--json"))
    assert reasons(events) == {"a": "hard"}
    (stop,) = of(events, "stop_sent")
    assert len(stop["processes"]) == 4
    assert [process["kind"] for process in stop["processes"]].count("agent") == 1
    assert not any(alive(process["pid"]) for process in stop["processes"])
