"""Notifications, sent to services that run here: what arrives, what a slow or dead service costs, what leaks."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.command_line import Result, Started, environment
from helpers.profiles import of, proven, shell, write
from helpers.waiting import wait_for
from seqsup.host import notification, notification_main, users
from seqsup.host.installation import command_to_add

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
SECRET = "canary-5e2b9c17"


class Service(ThreadingHTTPServer):
    """Takes what is sent by HTTP: to a path below /refuses it says 401, and below /hangs it says nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.over = threading.Event()

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for _, message in self.taken]


class _Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, json.loads(body)))
        if self.path.startswith("/hangs"):
            self.server.over.wait(60)
            return
        self.send_response(401 if self.path.startswith("/refuses") else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def notify(*to: str, **keys: Any) -> dict[str, Any]:
    return {"notify": {"to": list(to), **keys}}


def warnings(result: Result) -> list[str]:
    return [event["message"] for event in of(proven(result), "warned") if "notification" in event["message"]]


def test_end_of_a_run_reaches_every_kind_of_service(seqsup: Seqsup, tmp_path: Path, service: Service) -> None:
    to = (
        f"json://{service.at}/a",
        f"ntfy://{service.at}/topic",
        f"http://{service.at}/plain?key=a%20b&id=7",
        "$ELSEWHERE",
    )
    profile = write(tmp_path, shell("a", "true"), **notify(*to))
    result = seqsup("start", profile, "--json", env={"ELSEWHERE": f"json://{service.at}/by-variable"})
    assert (result.code, warnings(result)) == (0, [])
    assert service.titles == ["seqsup nightly r1: done"] * 4
    assert sorted(path for path, _ in service.taken) == ["/", "/a", "/by-variable", "/plain?key=a+b&id=7"]
    ntfy = next(message for path, message in service.taken if path == "/")
    assert (ntfy["topic"], ntfy["message"].splitlines()[-1]) == ("topic", "next: seqsup report r1")


class _Mail(socketserver.StreamRequestHandler):
    """A mail server that takes one mail: `server.mail`."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.server.mail = b"".join(iter(self.rfile.readline, b".\r\n")).decode()  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


def test_mail_is_sent_by_smtp(seqsup: Seqsup, tmp_path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Mail) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        to = f"mailto://127.0.0.1:{port}?from=seqsup@example.org&to=me@example.org"
        result = seqsup("start", write(tmp_path, shell("a", "exit 3"), **notify(to)), "--json")
        server.shutdown()
        thread.join()
    assert (result.code, warnings(result)) == (1, [])
    assert "Subject: seqsup nightly r1: failed" in server.mail  # type: ignore[attr-defined]


def test_command_gets_the_message(seqsup: Seqsup, tmp_path: Path) -> None:
    script = 'cat >mail; echo "$SEQSUP_NOTICE $SEQSUP_RUN $SEQSUP_TITLE" >env'
    profile = write(tmp_path, shell("a", "true"), notify={"command": ["sh", "-c", script]})
    assert warnings(seqsup("start", profile, "--json")) == []
    assert (tmp_path / "env").read_text() == "done r1 seqsup nightly r1: done\n"
    title, blank, *_, last = (tmp_path / "mail").read_text().splitlines()
    assert (title, blank, last) == ("seqsup nightly r1: done", "", "next: seqsup report r1")


def test_command_that_fails_is_reported(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), notify={"command": ["sh", "-c", "echo no route >&2; exit 4"]})
    result = seqsup("start", profile, "--json")
    assert (result.code, warnings(result)) == (0, ["notification (done) by notify.command not sent: exit 4: no route"])


def test_services_that_refuse_hang_or_are_away_are_named_without_their_secrets(
    seqsup: Seqsup, tmp_path: Path, service: Service
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = f"127.0.0.1:{closed.getsockname()[1]}"
    to = (
        f"json://me:{SECRET}@{service.at}/refuses/{SECRET}", f"json://{service.at}/hangs/{SECRET}",
        f"json://{away}/{SECRET}", f"json://{service.at}/takes/{SECRET}",
    )  # fmt: skip
    profile = write(tmp_path, shell("a", "true"), **notify(*to))
    began = time.monotonic()
    result = seqsup("start", profile, "--json")
    assert time.monotonic() - began < 40  # the sender is stopped long before; this is for a busy machine
    assert result.code == 0
    told = warnings(result)
    assert len(told) == 3
    assert all(re.match(r"notification \(done\) to json://… \(. of .\) not sent: ", each) for each in told)
    assert any("401" in each for each in told)
    assert "/takes/" + SECRET in [path for path, _ in service.taken]


def test_no_secret_stands_where_others_look(seqsup: Seqsup, tmp_path: Path, service: Service) -> None:
    to = (f"json://{service.at}/{SECRET}", f"json://{service.at}/refuses/{SECRET}", "$HELD")
    profile = write(tmp_path, shell("a", "env"), **notify(*to))
    env = {"HELD": f"json://{service.at}/by-{SECRET}"}
    said = [seqsup(*line, env=env) for line in (("plan", profile), ("plan", profile, "--json"), ("start", profile))]
    said += [seqsup("notify", "--test", profile, env=env), seqsup("events", "r1"), seqsup("status", "r1")]
    assert {f"/{SECRET}", f"/by-{SECRET}"} <= {path for path, _ in service.taken}
    assert "notify json://… (1 of 2), json://… (2 of 2), $HELD; on done, failed" in said[0].stdout
    for result in said:
        assert SECRET not in result.stdout + result.stderr
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    assert [path for path in state.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_no_process_has_a_secret_among_its_arguments(seqsup_started: Start, tmp_path: Path, service: Service) -> None:
    profile = write(tmp_path, shell("a", "true"), **notify(f"json://{service.at}/hangs/{SECRET}"))
    started = seqsup_started("start", profile, "--json")
    wait_for(lambda: service.taken)
    lines = [" ".join(each.cmdline()) for each in psutil.Process(started.pid).children(recursive=True)]
    assert any(notification.SENDER in line for line in lines)
    assert not any(SECRET in line for line in lines)
    started.send(signal.SIGINT)  # the run waits no longer for it
    result = started.wait()
    assert warnings(result) == ["notification (done) to json://… not sent: stopped by the user"]


def test_ctrl_c_that_ends_the_wait_for_messages_leaves_the_exit_code(
    seqsup_started: Start, tmp_path: Path, service: Service
) -> None:
    profile = write(tmp_path, shell("a", "exit 3"), **notify(f"json://{service.at}/hangs"))
    started = seqsup_started("start", profile, "--json")
    wait_for(lambda: service.taken)
    started.send(signal.SIGINT)
    result = started.wait()
    assert (result.code, proven(result)[-1]["exit_code"]) == (1, 1)


@pytest.mark.parametrize("wrong", ["to", "command"])
def test_sender_that_never_ends_is_stopped_and_delays_no_agent(
    seqsup: Seqsup, tmp_path: Path, service: Service, wrong: str
) -> None:
    keys = {"to": [f"json://{service.at}/hangs?rto=50"]} if wrong == "to" else {"command": ["sleep", "300"]}
    agents = [shell("a", "exit 3"), *(shell(name, "true") for name in "bcd")]
    profile = write(tmp_path, *agents, run={"on_failure": "continue"}, notify={**keys, "on": ["failed"]})
    result = seqsup("start", profile, "--json")
    events = proven(result)
    ended = {event["event"]: event["ts"] for event in events}
    assert ended["agent_ended"] < of(events, "warned")[-1]["ts"]  # d's end did not wait for it
    assert len(warnings(result)) == 2  # of a, and of the run
    assert all("no answer in" in each for each in warnings(result))
    assert 5 < events[-1]["seconds"] < 40


def test_failed_agent_is_told_at_once_where_the_run_continues(seqsup: Seqsup, tmp_path: Path, service: Service) -> None:
    agents = [shell("a", "exit 3"), shell("b", "exit 4"), shell("c", "true")]
    profile = write(tmp_path, *agents, run={"on_failure": "continue"}, **notify(f"json://{service.at}/x"))
    assert seqsup("start", profile).code == 1
    told = {message["title"]: message["message"] for _, message in service.taken}  # two senders: either may be first
    assert sorted(service.titles) == ["seqsup nightly r1: a failed", "seqsup nightly r1: failed"]
    assert "1 × failed" in told["seqsup nightly r1: failed"]


def test_run_that_the_user_stops_sends_nothing(seqsup_started: Start, tmp_path: Path, service: Service) -> None:
    profile = write(tmp_path, shell("a", "sleep 60"), **notify(f"json://{service.at}/x"))
    started = seqsup_started("start", profile, "--json")
    wait_for(lambda: '"spawned"' in started.stdout)
    started.send(signal.SIGTERM)
    assert (started.wait().code, service.taken) == (143, [])


def test_resumed_run_tells_its_end_and_no_pause_twice(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, service: Service
) -> None:
    script = '[ -e met ] && exit 0; touch met; echo "Claude AI usage limit reached|$(($(date +%s) + 5))"; exit 1'
    agent = shell("a", script, preset="claude", usage={"on_limit": "wait"})
    profile = write(tmp_path, agent, **notify(f"json://{service.at}/x"))
    started = seqsup_started("start", profile, "--json")
    wait_for(lambda: service.taken)
    started.process.kill()
    started.process.wait()
    assert seqsup("start", profile, "--resume").code == 0
    assert service.titles == ["seqsup nightly r1: a is at a usage limit", "seqsup nightly r1: done"]


FAULT = """
import sys
from seqsup.cli.app import main
from seqsup.runner.run import Run

async def fail(self):
    raise RuntimeError("no such thing")

Run._run_agents = fail
sys.exit(main(sys.argv[1:]))
"""


def test_internal_error_is_told(tmp_path: Path, service: Service) -> None:
    profile = write(tmp_path, shell("a", "true"), **notify(f"json://{service.at}/x"))
    command = [sys.executable, "-c", FAULT, "start", str(profile)]
    ended = subprocess.run(command, env=environment({}), capture_output=True, check=False)
    assert (ended.returncode, service.titles) == (70, ["seqsup nightly r1: failed"])
    assert "no such thing" in service.taken[0][1]["message"]


def test_run_in_the_background_notifies(seqsup: Seqsup, tmp_path: Path, service: Service) -> None:
    profile = write(tmp_path, shell("a", "true"), **notify(f"json://{service.at}/x"))
    assert seqsup("start", profile, "--detach").code == 0
    wait_for(lambda: service.taken)
    wait_for(lambda: "run_ended" in seqsup("events", "r1").stdout)


# -- refused before anything starts


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"to": ["nosuch://x"]}, "notify.to[0]: Apprise knows no service nosuch://"),
        ({"to": ["desktop", f"slack://{SECRET}"]}, "notify.to[1]: Apprise cannot read this slack:// address"),
        ({"to": ["$SEQSUP_NO_SUCH"]}, "notify.to[0]: SEQSUP_NO_SUCH is not set in the environment"),
        ({"to": [SECRET]}, 'notify.to[0]: expected "desktop", an address such as "ntfy://my-topic", or a variable'),
        ({"to": f"ntfy://{SECRET}"}, "notify.to: expected a list in brackets"),
        ({"to": ["desktop"], "on": ["finished"]}, "notify.on[0]: expected one of done, failed, usage-limit, stuck"),
        ({"to": ["desktop"], "on": []}, "notify.on: empty: nothing would be sent"),
        ({"on": ["done"]}, "notify: nothing would be sent"),
        ({"command": ["nosuch-mailer"]}, "notify.command: "),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_line(
    seqsup: Seqsup, tmp_path: Path, table: dict[str, Any], expected: str
) -> None:
    profile = write(tmp_path, shell("a", "touch ran"), notify=table)
    result = seqsup("start", profile)
    assert result.code == 2
    assert expected in result.stderr
    assert re.search(rf"{re.escape(str(profile))}:[0-9:]+: notify", result.stderr)
    assert SECRET not in result.stderr
    assert not (tmp_path / "ran").exists()


def test_without_apprise_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(notification, "find_spec", lambda _: None)
    (tmp_path / "notify-send").symlink_to("/bin/true")
    found = notification.unfit(["desktop", "ntfy://x", "slack://y"], {}, None)
    assert found == {1: f"needs Apprise, which is not installed: {command_to_add('apprise')}"}
    assert notification.unfit(["desktop"], {"PATH": str(tmp_path)}, None) == {}


def test_desktop_without_a_session_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 999_999)
    assert notification_main._on_desktop("title", "body", urgent=False) == (
        "no desktop session: DBUS_SESSION_BUS_ADDRESS is not set, and /run/user/999999/bus does not exist"
    )


def test_desktop_gets_title_and_body_without_markup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "notify-send"
    write_down = f"open({str(tmp_path / 'said')!r}, 'w').write('|'.join(sys.argv[1:]))"
    tool.write_text(f"#!{sys.executable}\nimport sys\n{write_down}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    assert notification_main._on_desktop("title", "a <b> & c", urgent=True) == "ok"
    assert (tmp_path / "said").read_text() == "--app-name=seqsup|--urgency=critical|--|title|a &lt;b&gt; &amp; c"


# -- seqsup notify


def test_test_message_says_of_each_recipient_what_came_of_it(seqsup: Seqsup, tmp_path: Path, service: Service) -> None:
    to = (f"json://{service.at}/takes", f"json://{service.at}/refuses")
    profile = write(tmp_path, shell("a", "true"), **notify(*to, command=["sh", "-c", "cat >mail"]))
    result = seqsup("notify", "--test", profile)
    assert result.code == 1
    first, second, third = result.stdout.splitlines()
    assert (first, third) == ("json://… (1 of 2)  sent", "sh  sent")
    assert second.startswith("json://… (2 of 2)  not sent: ")
    assert service.titles == ["seqsup nightly: test"] * 2
    assert (tmp_path / "mail").read_text().startswith("seqsup nightly: test\n\n")


def test_test_message_needs_recipients_and_the_option(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"))
    result = seqsup("notify", "--test", profile)
    assert (result.code, "has no notifications: add [notify]" in result.stderr) == (2, True)
    result = seqsup("notify", profile)
    assert (result.code, "give --test" in result.stderr) == (2, True)


# -- another user


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can change the user")
def test_command_runs_as_the_agents_user(seqsup: Seqsup, tmp_path: Path) -> None:
    for each in (tmp_path, *tmp_path.parents):
        with contextlib.suppress(PermissionError):
            each.chmod(each.stat().st_mode | 0o011)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    run = {"user": "nobody", "state_dir": str(tmp_path / "state")}
    command = ["sh", "-c", f"id -un >{out}/who"]
    profile = write(tmp_path, shell("a", "true"), run=run, notify={"command": command})
    result = seqsup("start", profile, "--json")
    assert (result.code, warnings(result)) == (0, [])
    assert (out / "who").read_text() == "nobody\n"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can change the user")
def test_sender_that_the_user_cannot_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = tmp_path / "python"
    closed.write_text("")
    monkeypatch.setattr(notification, "COMMAND", (str(closed),))
    found = notification.unfit(["desktop"], os.environ, users.look_up("nobody"))
    assert "nobody must be able to read the installation of seqsup" in found[0]
