"""Companions, real ones in Node: ready in time, restarted for every reason, at no agent's cost, gone at the end."""

import asyncio
import http.server
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from helpers import npm
from helpers.command_line import Result, Started
from helpers.profiles import Event, agent, of, parsed, proven, shell, write
from helpers.waiting import alive, wait_for
from seqsup.model.profile import Readiness
from seqsup.runner.readiness import missing, taken
from seqsup.units import MIB

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
Stub = Callable[..., list[str]]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def profile(tmp_path: Path, stub: Stub, port: int) -> Callable[..., Path]:
    """A profile with these agents and one companion; `flags` are its stub's."""

    def written(*agents: dict[str, Any], flags: str = "", tables: dict[str, Any] | None = None, **keys: Any) -> Path:
        ready = keys.pop("ready", {"http": f"http://127.0.0.1:{port}/"})
        command = [*stub("companion", port), *flags.split()]
        companion = {"name": "files-mcp", "command": command, "ready": {"timeout": "30s", **ready}, **keys}
        return write(tmp_path, *agents, companions=[companion], **(tables or {}))

    return written


URL = "process.env.SEQSUP_COMPANION_FILES_MCP_URL"
ASK = f"node -e 'fetch({URL}).then(r=>r.text()).then(t=>console.log(t.trim()))' >>asked"


def answers(port: int) -> str:
    """Shell that waits until it does."""
    return f"until node -e 'fetch(\"http://127.0.0.1:{port}/\").catch(()=>process.exit(1))'; do sleep 0.1; done"


def asked(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "asked").read_text().split()]


def stamp(event: Event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def restarts(events: list[Event]) -> list[str]:
    return [event["reason"] for event in of(events, "companion_restarted")]


@pytest.mark.parametrize(
    ("ready", "flags"),
    [
        ({}, "--late 300"),
        ({"http": None, "port": ...}, "--late 300"),
        ({"http": None, "log": "listening"}, "--late 300"),
        ({"http": None, "delay": "300ms"}, ""),
        ({"http": None}, ""),
    ],
    ids=["http", "port", "log", "delay", "at-once"],
)
def test_companion_is_ready_before_the_first_agent_and_gone_after_the_last(
    seqsup: Seqsup, profile: Callable[..., Path], port: int, ready: dict[str, Any], flags: str
) -> None:
    given = {
        key: port if value is ... else value for key, value in {"http": f"http://127.0.0.1:{port}/", **ready}.items()
    }
    events = proven(
        seqsup("start", profile(shell("a", "true"), ready={k: v for k, v in given.items() if v}, flags=flags), "--json")
    )
    kinds = [event["event"] for event in events]
    assert kinds.index("companion_started") < kinds.index("companion_ready") < kinds.index("attempt_started")
    assert kinds.index("agent_ended") < kinds.index("companion_stopped") < kinds.index("run_ended")
    assert of(events, "companion_stopped")[0]["reason"] == "run-ended"
    assert not alive(of(events, "companion_started")[0]["pid"])


def test_agents_and_hooks_find_it(seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path, port: int) -> None:
    hook = "sh -c 'echo $SEQSUP_COMPANION_FILES_MCP_PORT >port'"
    path = profile(shell("a", ASK), tables={"hooks": {"after_agent": [hook]}})
    events = proven(seqsup("start", path, "--json"))
    assert asked(tmp_path) == [of(events, "companion_started")[0]["pid"]]
    assert (tmp_path / "port").read_text() == f"{port}\n"
    told = seqsup("plan", path, "-v").stdout
    assert "files-mcp" in told
    assert f"SEQSUP_COMPANION_FILES_MCP_URL=http://127.0.0.1:{port}" in " ".join(told.split())


def test_a_real_mcp_server_is_ready_at_its_own_address_and_its_log_is_shown(
    seqsup: Seqsup, tmp_path: Path, port: int
) -> None:
    """It answers a plain GET with 400; the agent speaks to it as a client does."""
    mcp = {
        "name": "everything", "command": ["node", str(npm.mcp_server("everything")), "streamableHttp"],
        "env": {"PORT": str(port)}, "ready": {"http": f"http://127.0.0.1:{port}/mcp", "timeout": "60s"},
        "restart_every": 1,
    }  # fmt: skip
    (tmp_path / "asks.mjs").write_text(
        """
        const params = { protocolVersion: "2025-03-26", capabilities: {}, clientInfo: { name: "test", version: "1" } };
        const answer = await fetch(`${process.env.SEQSUP_COMPANION_EVERYTHING_URL}/mcp`, {
          method: "POST",
          headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
          body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params }),
        });
        console.log(await answer.text());
        """
    )
    agents = [agent(name, ["node", "asks.mjs"]) for name in "ab"]
    proven(seqsup("start", write(tmp_path, *agents, companions=[mcp]), "--json"))
    assert "serverInfo" in seqsup("logs", "b").stdout
    for words in (("r1", "everything"), ("everything",), ("everything", "--attempt", "1")):
        shown = seqsup("logs", *words)
        assert (shown.code, f"listening on port {port}" in shown.stdout + shown.stderr) == (0, True), shown
    assert "has no start 9 yet" in seqsup("logs", "everything", "--attempt", "9").stderr
    assert "did you mean everything" in seqsup("logs", "r1", "everythin").stderr


def test_companion_is_restarted_after_every_n_agents(
    seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path
) -> None:
    path = profile(*(shell(name, ASK) for name in "abcde"), restart_every=2, flags="--child")
    events = proven(seqsup("start", path, "--json"))
    pids = [event["pid"] for event in of(events, "companion_started")]
    first, second, third = pids
    assert asked(tmp_path) == [first, first, second, second, third]
    assert restarts(events) == ["every-n", "every-n"]
    stopped = of(events, "companion_stopped")
    assert [event["reason"] for event in stopped] == ["every-n", "every-n", "run-ended"]
    assert all(any("sleep" in process["command"] for process in event["processes"]) for event in stopped)
    assert not any(map(alive, pids))


def test_companion_that_ignores_term_is_killed(seqsup: Seqsup, profile: Callable[..., Path]) -> None:
    path = profile(shell("a", "true"), flags="--deaf", tables={"timeouts": {"grace": "200ms"}})
    events = proven(seqsup("start", path, "--json"))
    assert of(events, "companion_stopped")[0]["seconds"] >= 0.2
    assert not alive(of(events, "companion_started")[0]["pid"])


@pytest.mark.parametrize("ready", ["up", "never"])
def test_the_operators_third_wish_waits_for_no_grace(seqsup_started: Start, tmp_path: Path, ready: str) -> None:
    script = "trap '' TERM; echo up; touch began; while :; do sleep 0.05; done"
    companion = {"name": "deaf", "command": ["sh", "-c", script], "ready": {"log": ready, "timeout": "10m"}}
    profile = write(tmp_path, shell("a", "sleep 60"), companions=[companion], timeouts={"grace": "10m"})
    run = seqsup_started("start", profile, "--json")
    wait_for((tmp_path / "began").exists)
    for times in (1, 2, 3):
        run.send(signal.SIGINT)
        wait_for(lambda: len(of(parsed(run.stdout.rpartition("\n")[0]), "halt_requested")) == times)
    assert run.wait().code == 130


def test_crash_of_a_companion_is_reported_and_it_restarts_while_the_agent_runs(
    seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path, port: int
) -> None:
    crash = f"node -e 'fetch(\"http://127.0.0.1:{port}/crash\").catch(()=>0)'"
    script = f"{crash}; {answers(port)}; {ASK}"
    events = proven(seqsup("start", profile(shell("a", script), shell("b", ASK)), "--json"))
    gone = of(events, "companion_exited")[0]
    assert (gone["exit_code"], gone["why"]) == (7, "exit 7")
    assert "listening" in gone["output"]
    assert restarts(events) == ["crashed"]
    pids = [event["pid"] for event in of(events, "companion_started")]
    assert asked(tmp_path) == [pids[1], pids[1]]
    assert [event["attempts"] for event in of(events, "agent_ended")] == [1, 1]


def test_companion_that_keeps_crashing_stops_the_run_with_the_reason(
    seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path
) -> None:
    result = seqsup("start", profile(shell("a", "touch ran"), flags="--crash-after 0"), "--json", deadline=120)
    events = proven(result)
    assert result.code == 4
    assert len(of(events, "companion_exited")) == 5
    assert "no further agent starts" in of(events, "warned")[-1]["message"]
    assert events[-1]["why"] == "the companion files-mcp crashed 5 times in a row; last time: exit 7"
    assert "next: seqsup logs r1 files-mcp · seqsup start nightly.toml --resume" in seqsup("status").stdout
    assert not (tmp_path / "ran").exists()


def test_companion_that_becomes_a_daemon_is_told_to_stay_in_the_foreground(
    seqsup_started: Start, tmp_path: Path
) -> None:
    companion = {"name": "daemon", "command": ["sh", "-c", "sleep 600 & exit 0"], "ready": {"delay": "60s"}}
    run = seqsup_started("start", write(tmp_path, shell("a", "true"), companions=[companion]), "--json")
    told = wait_for(lambda: of(parsed(run.stdout.rpartition("\n")[0]), "companion_exited"), 60)
    assert told[0]["why"] == "exit 0; a companion must stay in the foreground"
    run.send(signal.SIGTERM)
    assert run.wait().code == 143


def test_companion_that_is_never_ready_is_reported_with_what_is_missing(
    seqsup_started: Start, profile: Callable[..., Path]
) -> None:
    path = profile(shell("a", "true"), ready={"log": "never said", "timeout": "300ms"})
    run = seqsup_started("start", path, "--json")
    told = wait_for(lambda: of(parsed(run.stdout.rpartition("\n")[0]), "companion_exited"), 60)
    assert told[0]["why"] == "it was not ready after 0.3 s: it has not printed 'never said'"
    run.send(signal.SIGTERM)
    assert run.wait().code == 143


def test_a_stranger_at_its_port_is_not_taken_for_it(
    seqsup_started: Start, profile: Callable[..., Path], port: int
) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        run = seqsup_started("start", profile(shell("a", "true")), "--json")
        told = wait_for(lambda: of(parsed(run.stdout.rpartition("\n")[0]), "companion_exited"), 60)
        assert told[0]["why"] == f"127.0.0.1:{port} is taken by another process"
    events = proven(run.wait())
    assert restarts(events) == ["crashed"]


@pytest.mark.memory
@pytest.mark.parametrize(("mib", "at_once"), [(120, False), (300, True)])
def test_companion_is_restarted_between_agents_at_its_limit_and_at_once_far_above_it(
    seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path, port: int, mib: int, at_once: bool
) -> None:
    grow = f"{ASK}; node -e 'fetch(\"http://127.0.0.1:{port}/hold/{mib}\").catch(()=>0)'"
    if at_once:
        grow = f"{grow}; while kill -0 $(cat asked); do sleep 0.1; done; {answers(port)}"
    path = profile(shell("a", grow), shell("b", ASK), memory={"hard": "120MiB"})
    events = proven(seqsup("start", path, "--json"))
    assert restarts(events) == ["memory"]
    ended = next(event["seq"] for event in of(events, "agent_ended"))
    again = of(events, "companion_started")[1]
    assert (again["seq"] < ended) is at_once
    assert asked(tmp_path) == [of(events, "companion_started")[0]["pid"], again["pid"]]
    if at_once:
        assert "far above memory.hard 120 MiB" in of(events, "companion_exited")[0]["why"]


@pytest.mark.memory
def test_agent_that_fails_while_its_companion_is_killed_says_so(
    seqsup: Seqsup, profile: Callable[..., Path], port: int
) -> None:
    fails = f"{ASK}; node -e 'fetch(\"http://127.0.0.1:{port}/hold/300\")'"
    path = profile(shell("a", fails, retry={"attempts": 1}), memory={"hard": "120MiB"})
    events = parsed(seqsup("start", path, "--json").stdout)
    [ended] = of(events, "agent_ended")
    assert ended["reason"] == "failed"
    assert "; companion files-mcp failed meanwhile: killed " in ended["why"]
    assert "far above memory.hard 120 MiB" in ended["why"]


@pytest.mark.memory
def test_companion_at_its_limit_is_asked_for_a_gc_before_a_restart(
    seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path, port: int
) -> None:
    drop = f"node -e 'fetch(\"http://127.0.0.1:{port}/drop/110\").catch(()=>0)'"
    path = profile(shell("a", drop), shell("b", ASK), memory={"hard": "110MiB"})
    events = proven(seqsup("start", path, "--json"))
    asked_for, done = of(events, "companion_gc_requested", "companion_gc_done")
    assert (asked_for["companion"], asked_for["hard"], asked_for["processes"]) == ("files-mcp", 110 * MIB, 1)
    assert asked_for["used"] >= 110 * MIB > done["used"]
    assert (done["answered"], done["verdict"]) == (1, "garbage")
    assert restarts(events) == []
    assert asked(tmp_path) == [of(events, "companion_started")[0]["pid"]]


@pytest.mark.parametrize(("mode", "gap", "times"), [("high", "1s", 0), ("between", "10ms", 2), ("between", "1m", 1)])
def test_companions_are_asked_for_a_gc_after_each_agent(
    seqsup: Seqsup, profile: Callable[..., Path], mode: str, gap: str, times: int
) -> None:
    """The seed's row 18."""
    agents = (shell(name, ASK) for name in "abc")
    events = proven(seqsup("start", profile(*agents, tables={"gc": {"mode": mode, "gap": gap}}), "--json"))
    asked_for, done = of(events, "companion_gc_requested"), of(events, "companion_gc_done")
    assert [event["hard"] for event in asked_for] == [None] * times
    assert [event["answered"] for event in done] == [1] * times
    assert restarts(events) == []


def test_companion_that_does_not_answer_delays_the_run_once(seqsup: Seqsup, profile: Callable[..., Path]) -> None:
    """Its loop and its watch thread are stopped by SIGSTOP."""
    stops = f"{ASK}; pid=$(tail -n1 asked); kill -STOP $pid"
    tables = {"gc": {"mode": "between", "gap": "10ms"}}
    path = profile(shell("a", stops), shell("b", "true"), shell("c", "kill -CONT $(tail -n1 asked)"), tables=tables)
    events = proven(seqsup("start", path, "--json"))
    requested, started_at = of(events, "companion_gc_requested"), of(events, "attempt_started")
    assert len(requested) == 1
    waited = [stamp(later) - stamp(earlier) for earlier, later in itertools.pairwise(started_at)]
    assert 9 < waited[0] < 20 > waited[1]


@pytest.mark.memory
def test_companion_that_is_large_after_a_gc_is_diagnosed(
    seqsup: Seqsup, profile: Callable[..., Path], port: int
) -> None:
    hold = f"node -e 'fetch(\"http://127.0.0.1:{port}/hold/110\").catch(()=>0)'"
    events = proven(seqsup("start", profile(shell("a", hold), shell("b", ASK), memory={"hard": "110MiB"}), "--json"))
    again = of(events, "companion_restarted")[0]
    assert of(events, "companion_gc_done")[0]["seq"] < again["seq"]
    assert "after a GC that freed" in again["why"]
    assert "buffer-leak" in again["why"]


@pytest.mark.memory
def test_companion_that_is_above_its_limit_while_idle_is_reported_once_and_not_restarted(
    seqsup: Seqsup, profile: Callable[..., Path], tmp_path: Path
) -> None:
    path = profile(*(shell(name, ASK) for name in "abc"), flags="--hold 110", memory={"hard": "110MiB"})
    events = proven(seqsup("start", path, "--json"))
    assert restarts(events) == []
    assert len(set(asked(tmp_path))) == 1
    (told,) = [event["message"] for event in of(events, "warned") if "files-mcp" in event["message"]]
    assert "while idle, more than its memory.hard of 110 MiB" in told
    assert "memory.hard of 110 MiB" in told


@pytest.mark.memory
def test_when_memory_does_not_drain_companions_are_restarted_and_then_the_run_stops(
    seqsup: Seqsup, profile: Callable[..., Path], port: int
) -> None:
    grow = f"node -e 'fetch(\"http://127.0.0.1:{port}/hold/400\")'"
    drain = {"drain": {"threshold": "250MiB", "timeout": "500ms"}}
    events = proven(seqsup("start", profile(shell("a", grow), shell("b", "true"), tables=drain), "--json"))
    assert [event["reached"] for event in of(events, "drained")] == [False, True, True]
    assert restarts(events) == ["drain"]
    result = seqsup("start", profile(shell("a", "true"), flags="--hold 400", tables=drain), "--json")
    events = proven(result)
    drained = [(event["reached"], event["on_timeout"]) for event in of(events, "drained")]
    assert drained == [(False, "restart-companions"), (False, "stop")]
    assert result.code == 4
    assert "memory did not drain" in events[-1]["why"]


@pytest.mark.parametrize("target", ["supervisor", "companion", "keeper"])
def test_no_process_is_left_after_any_kill(
    seqsup: Seqsup, seqsup_started: Start, profile: Callable[..., Path], tmp_path: Path, target: str
) -> None:
    wait = "touch running; while [ ! -e go ]; do sleep 0.05; done"
    path = profile(shell("a", wait), flags="--child")
    run = seqsup_started("start", path, "--json")
    wait_for(lambda: (tmp_path / "running").exists())
    pid = of(parsed(run.stdout.rpartition("\n")[0]), "companion_started")[0]["pid"]
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill({"supervisor": run.pid, "companion": pid, "keeper": keeper}[target], signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    if target == "supervisor":
        wait_for(lambda: not alive(keeper))
        assert seqsup("sweep").code == 0
        (tmp_path / "go").touch()
        events = proven(seqsup("start", path, "--resume", "--json"))
    else:
        wait_for(lambda: of(parsed(run.stdout.rpartition("\n")[0]), "companion_restarted"), 60)
        status = json.loads(seqsup("status", "--json").stdout)
        assert status["companions"]["files-mcp"]["state"] == "ready"
        assert "files-mcp (ready, pid" in seqsup("status").stdout
        (tmp_path / "go").touch()
        events = proven(run.wait())
        assert restarts(events) == ["crashed"]
        assert [event["attempts"] for event in of(events, "agent_ended")] == [1]
    assert not any(alive(event["pid"]) for event in of(events, "companion_started"))


@pytest.mark.parametrize(
    ("companion", "wrong"),
    [
        ('name = "x"\ncommand = ["no-such-program"]', "companion x: command[0]: no program no-such-program on PATH"),
        ('name = "x"\ncommand = ["true"]\ncwd = "nowhere"', "companion x: cwd: "),
        ('name = "x"\ncommand = ["true"]\nready = { http = "3000" }', "begins with http:// or https://"),
        ('name = "x"\ncommand = ["true"]\nready = { http = "http://x y" }', "has no blank"),
        ('name = "x"\ncommand = ["true"]\nready = { http = "http://127.0.0.1:99999/" }', "ready.http: "),
        ('name = "x"\ncommand = ["true"]\nready = { http = "http://127.0.0.1:abc/" }', "up to 65535"),
        ('name = "x"\ncommand = ["true"]\nready = { http = "http://[::1/" }', "ready.http: "),
    ],
)
def test_companion_that_cannot_work_is_refused_with_its_line(
    seqsup: Seqsup, tmp_path: Path, companion: str, wrong: str
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f'[[companions]]\n{companion}\n[[agents]]\nname = "a"\ncommand = ["true"]\n')
    refused = seqsup("start", path)
    assert refused.code == 2
    assert wrong in refused.stderr
    assert f"{path}:" in refused.stderr


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_https_is_asked_as_well_and_its_certificate_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True,
    )  # fmt: skip
    server = http.server.HTTPServer(("127.0.0.1", 0), Odd)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}"

    try:
        assert "certificate" in lacks(url)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        assert lacks(url) == ""
        assert "answers 404" in lacks(f"{url}/no-such")
        assert "answers nonsense" in lacks(f"{url}/odd")
    finally:
        server.shutdown()
        server.server_close()


class Odd(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/odd":
            self.wfile.write(b"hello\n")
        else:
            super().do_GET()


def lacks(http: str | None = None, port: int | None = None) -> str:
    return asyncio.run(missing(rule(http, port), b"", 0))


def rule(http: str | None = None, port: int | None = None) -> Readiness:
    return Readiness(http=http, port=port, log=None, delay=0, timeout=5)


def test_a_host_that_none_can_be_does_not_answer() -> None:
    assert asyncio.run(taken(rule("http://a..b:3000/"))) == ""
    assert "does not answer" in lacks("http://a..b:3000/")


def test_companion_that_listens_on_another_address_is_reported() -> None:
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        server.listen()
        port = server.getsockname()[1]
        assert f"it listens on [::1]:{port} only" in lacks(port=port)


def test_companion_that_accepts_a_connection_and_does_not_answer_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert lacks(http=url) == f"{url} does not answer: nothing came within 2 s"
