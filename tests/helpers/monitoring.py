"""Real Prometheus, promtool and Pushgateway for tests; where there are none, and apt gives none, a test is skipped."""

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.waiting import DEADLINE, wait_for, without

_HOME = Path.home()  # before a test's own


@cache
def _installed() -> str:
    """Install once for the machine; say why not, if not."""
    if all(shutil.which(name) for name in ("prometheus", "promtool", "prometheus-pushgateway")):
        return ""
    environment = {**os.environ, "HOME": str(_HOME), "XDG_CACHE_HOME": str(_HOME / ".cache")}
    done = subprocess.run(
        [ROOT / "tests" / "system" / "prometheus" / "install"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


def binary(name: str) -> str:
    """The path of a program, or the test is skipped; under CI it fails instead."""
    why_not = _installed()
    found = shutil.which(name) or shutil.which(name, path=str(_HOME / ".cache" / "seqsup-prometheus" / "bin"))
    if found is None:
        without(f"no {name}: {why_not or 'this Debian has it not as a package'}", "SEQSUP_NO_PROMETHEUS")
    return found


def promtool(*args: object, stdin: bytes = b"") -> str:
    """Run promtool; it must find nothing."""
    done = subprocess.run([binary("promtool"), *map(str, args)], input=stdin, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(url: str, timeout: float = DEADLINE) -> str:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        body: bytes = answer.read()
    return body.decode()


def up(url: str) -> bool:
    try:
        get(url)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
    return True


class Server:
    """A Prometheus to ask."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        parameters = {"query": expression} | ({"time": str(at)} if at is not None else {})
        return self._ask("query", parameters)

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        return self._ask("query_range", {"query": expression, "start": str(start), "end": str(end), "step": str(step)})

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The one value, if there is one."""
        found = self.query(expression, at)
        return float(found[0]["value"][1]) if found else None

    def _ask(self, what: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            answer = json.loads(get(url))
        except urllib.error.HTTPError as error:
            pytest.fail(f"{parameters['query']}: {error.read().decode()}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextmanager
def running(command: list[str], ready: str, folder: Path) -> Iterator[None]:
    """A server from when it answers at `ready` until the end of the block."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(lambda: up(ready) or process.poll() is not None)
        assert process.poll() is None, (folder / "server.log").read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def prometheus(folder: Path, config: str | None = None, *options: str) -> Iterator[Server]:
    """A Prometheus on a port of its own; without a config it only answers from `folder`/data."""
    port = free_port()
    file = folder / "prometheus.yml"
    file.write_text(config or "")
    command = [
        binary("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=1000d", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", *options,
    ]  # fmt: skip
    server = Server(port)
    with running(command, f"{server.url}/-/ready", folder):
        yield server
