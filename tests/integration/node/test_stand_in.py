"""The stand-in for node on PATH: what it gives, which node it becomes, and that it never finds itself."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import npm
from helpers.command_line import Result
from helpers.paths import STUBS
from helpers.profiles import agent, of, proven, write
from helpers.supervised import step, tried
from seqsup.model.events import AttemptStarted
from seqsup.model.plan import NodeStart
from seqsup.node import stand_in
from seqsup.node.binary import probe
from seqsup.units import MIB

SHELLS = [shell for name in ("dash", "bash", "busybox") if (shell := shutil.which(name))]
OURS = ("--expose-gc", "--max-old-space-size=300")
SAFE = "--max-old-space-size=300"


def fake(folder: Path, said: str) -> Path:
    """A node that says which one it is, and what it was given."""
    folder.mkdir(parents=True)
    file = folder / "node"
    file.write_text(f'#!/bin/sh\necho "{said}|$SEQSUP_COOKIE|$NODE_OPTIONS|$*"\n')
    file.chmod(0o755)
    return file


def given(place: Path, node: Path, env: dict[str, str] | None = None, ours: tuple[str, ...] = OURS) -> str:
    """The PATH that begins with a stand-in in `place`."""
    place.mkdir(parents=True, exist_ok=True)
    whole = {"PATH": "", "SEQSUP_COOKIE": "c", **(env or {})}
    stand_in.write(place, str(node), ours, whole, None)
    return stand_in.path_behind(place, whole)


def asked(path: str, *words: str, cwd: Path | None = None, **env: str) -> str:
    ended = subprocess.run(
        ["/usr/bin/env", "node", *words], env={"PATH": path, **env}, cwd=cwd, capture_output=True, text=True, timeout=40
    )
    return ended.stdout.strip() + ended.stderr.strip()


def test_stand_in_restores_lost_variables_and_runs_the_node_that_path_would_give(tmp_path: Path) -> None:
    first, second = fake(tmp_path / 'it\'s a "folder"', "first"), fake(tmp_path / "2", "second")
    path = given(tmp_path / "a place", first) + f"{first.parent}:{second.parent}"
    assert asked(path, "x y", "--z") == "first|c|--expose-gc --max-old-space-size=300|x y --z"


def test_another_node_than_the_one_that_was_asked_gets_what_all_take(tmp_path: Path) -> None:
    first, second = fake(tmp_path / "1", "first"), fake(tmp_path / "2", "second")
    path = given(tmp_path / "place", first) + f"{second.parent}:{first.parent}"
    assert asked(path) == f"second|c|{SAFE}|"
    full = "--expose-gc --max-old-space-size=300"
    assert asked(path, NODE_OPTIONS=f"{full} --no-warnings") == f"second|c|{SAFE} --no-warnings|"


@pytest.mark.parametrize("theirs", ["", "--no-warnings"])
def test_variable_that_is_set_is_kept_and_not_doubled(tmp_path: Path, theirs: str) -> None:
    node = fake(tmp_path / "1", "first")
    path = given(tmp_path / "place", node) + str(node.parent)
    whole = f"--expose-gc --max-old-space-size=300 {theirs}".strip()
    for options in (theirs, whole):
        assert asked(path, NODE_OPTIONS=options) == f"first|c|{whole}|"


def test_stand_in_of_one_agent_does_not_find_that_of_another(tmp_path: Path) -> None:
    node = fake(tmp_path / "1", "first")
    one, two = given(tmp_path / "one", node), given(tmp_path / "two", node, {"SEQSUP_COOKIE": "d"})
    for path in (one + two + one + two, two + one + two + one, f"{one}{one}"):
        assert asked(f"{path}{node.parent}").startswith("first|")
        assert asked(path).startswith("first|")  # nowhere else on it: the one that was called


def test_places_on_the_path_may_be_relative_or_empty(tmp_path: Path) -> None:
    node = fake(tmp_path / "1", "first")
    path = given(tmp_path / "place", tmp_path / "none")
    assert asked(f"{path}nothing:1", cwd=tmp_path).startswith("first|")
    assert asked(f"{path}nothing::2", cwd=node.parent).startswith("first|")


def test_values_arrive_as_they_are(tmp_path: Path) -> None:
    node = fake(tmp_path / "1", "first")
    odd = 'it\'s\n"$(id)" `id` \\ {x} é'
    path = given(tmp_path / "place", node, {"SEQSUP_COOKIE": odd, "SECRET": "kept out"}) + str(node.parent)
    assert odd in asked(path)
    assert "kept out" not in (tmp_path / "place" / stand_in.FOLDER / "node").read_text()


@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_will_do(tmp_path: Path, shell: str) -> None:
    node = fake(tmp_path / "1", "first")
    path = given(tmp_path / "place", node) + str(node.parent)
    script = str(tmp_path / "place" / stand_in.FOLDER / "node")
    words = [shell, *(["sh"] if Path(shell).name == "busybox" else []), script, "x y"]
    told = subprocess.run(words, env={"PATH": path, "IFS": "1"}, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "first|c|--expose-gc --max-old-space-size=300|x y"


def test_removed_it_leaves_the_real_one(tmp_path: Path) -> None:
    node = fake(tmp_path / "1", "first")
    path = given(tmp_path / "place", node) + str(node.parent)
    stand_in.remove(tmp_path / "place")
    assert asked(path) == "first|||"
    assert list((tmp_path / "place").iterdir()) == []


def test_stand_in_is_passed_on_but_no_file_that_an_agent_added(tmp_path: Path) -> None:
    node = fake(tmp_path / "1", "first")
    places = [tmp_path / "run" / "agent" / number for number in ("1", "2", "3")]
    run = tmp_path / "run"
    first = given(places[0], node)
    kept = [path.stat().st_ino for path in (places[0] / stand_in.FOLDER, places[0] / stand_in.FOLDER / "node")]
    stand_in.remove(places[0], run)
    assert list(places[0].iterdir()) == []
    places[1].mkdir()
    stand_in.write(places[1], str(node), OURS, {"PATH": "", "SEQSUP_COOKIE": "second"}, None, run)
    folder = places[1] / stand_in.FOLDER
    assert [folder.stat().st_ino, (folder / "node").stat().st_ino] == kept
    assert list(run.glob(".*")) == []
    assert asked(stand_in.path_behind(places[1], {"PATH": str(node.parent)})).startswith("first|second|")
    assert not Path(first.partition(":")[0]).exists()
    (folder / "tool").touch()
    stand_in.remove(places[1], run)
    assert list(run.glob(".*")) == []
    assert [path.name for path in folder.iterdir()] == ["tool"]


def by_a_link(script: Path, file: Path) -> None:
    script.unlink()
    script.symlink_to(file)


def by_a_second_name(script: Path, file: Path) -> None:
    file.unlink()
    file.hardlink_to(script)


@pytest.mark.parametrize("replace", [by_a_link, by_a_second_name])
def test_file_that_an_agent_put_in_its_place_is_not_written_to(
    tmp_path: Path, replace: Callable[[Path, Path], None]
) -> None:
    node = fake(tmp_path / "1", "first")
    places = [tmp_path / "run" / "agent" / number for number in ("1", "2")]
    given(places[0], node)
    (file := tmp_path / "file").touch()
    replace(places[0] / stand_in.FOLDER / "node", file)
    before = file.read_text()
    stand_in.remove(places[0], tmp_path / "run")
    places[1].mkdir()
    stand_in.write(places[1], str(node), OURS, {"PATH": "", "SEQSUP_COOKIE": "second"}, None, tmp_path / "run")
    assert file.read_text() == before
    assert "second" in (places[1] / stand_in.FOLDER / "node").read_text()


def test_a_shorter_one_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    node, run = fake(tmp_path / "1", "first"), tmp_path / "run"
    places = [run / "agent" / number for number in ("1", "2")]
    for place, cookie in zip(places, ("long" * 100, "short"), strict=True):
        place.mkdir(parents=True)
        stand_in.write(place, str(node), OURS, {"PATH": "", "SEQSUP_COOKIE": cookie}, None, run)
        assert asked(stand_in.path_behind(place, {"PATH": str(node.parent)})).startswith(f"first|{cookie}|")
        stand_in.remove(place, run)


# With the official client of MCP


def node_start(node: Path) -> NodeStart:
    found = probe(str(node))
    options = ("--expose-gc",) if "--expose-gc" in found.allowed else ()
    return NodeStart(
        executable=found.executable, version=found.version, options=options, heap=300 * MIB, heap_ceiling=None
    )


def with_client(tmp_path: Path, stub: Callable[..., list[str]], node: Path, *server: str) -> dict[str, Any]:
    """Run the stub with a server, both by `node`, and return its output."""
    sdk = npm.package("@modelcontextprotocol/sdk")
    _, script, *words = stub("mcp_client", sdk, "close", *server)
    env = {"PATH": f"{node.parent}:{os.environ['PATH']}"}
    attempt = tried(
        step("node", script, *words, cwd=tmp_path, env=env, runtime="node", node=node_start(node)),
        tmp_path / "run folder", heap=300 * MIB,
    )  # fmt: skip
    assert attempt.outcome.reason == "completed", (attempt.folder / "stderr.log").read_text()
    [begun] = [event for event in attempt.events if isinstance(event, AttemptStarted)]
    assert (begun.runtime, begun.options[-1]) == (f"node {probe(str(node)).version}", "--max-old-space-size=300")
    assert [path.name for path in attempt.folder.iterdir() if path.name == stand_in.FOLDER] == []
    told: dict[str, Any] = json.loads(attempt.stdout)
    return told


@npm.each_node
def test_a_server_behind_the_official_client_has_marks_and_options(
    tmp_path: Path, stub: Callable[..., list[str]], node: Path
) -> None:
    told = with_client(tmp_path, stub, node, "node", str(npm.mcp_server("everything")))
    [server] = told["processes"]
    assert Path(f"{server['command'][0]}").resolve() == node.resolve()
    assert "--max-old-space-size=300" in server["env"]["NODE_OPTIONS"]
    assert server["env"]["SEQSUP_AGENT"] == "agent"
    assert server["env"]["SEQSUP_COOKIE"]
    assert "echo" in told["tools"]


@pytest.mark.long
@pytest.mark.parametrize("name", npm.MCP_SERVERS)
def test_so_has_every_process_of_a_server_behind_npx(
    tmp_path: Path, stub: Callable[..., list[str]], node: Path, name: str
) -> None:
    home = npm.package(f"@modelcontextprotocol/server-{name}").parents[2]
    arguments = [str(tmp_path)] if name == "filesystem" else []
    told = with_client(tmp_path, stub, node, "npx", "--prefix", str(home), f"mcp-server-{name}", *arguments)
    assert len(told["processes"]) == 3
    for process in told["processes"]:
        assert process["env"]["SEQSUP_COOKIE"]
        assert "--max-old-space-size=300" in process["env"]["NODE_OPTIONS"]


@pytest.mark.memory
def test_the_server_of_an_agent_that_is_no_node_program_is_asked_and_its_leak_is_named(
    tmp_path: Path, stub: Callable[..., list[str]], node: Path, seqsup: Callable[..., Result]
) -> None:
    server = STUBS / "mcp_server.mjs"
    memory = {"warn": "none", "soft": "200MiB", "hard": "800MiB", "sustain": "300ms", "settle": "2s"}
    file = write(tmp_path, agent("native", stub("asks_server", "node", server, "leaks", 700), memory=memory))
    events = proven(seqsup("start", file, "--json"))
    [begun], [ended] = of(events, "attempt_started"), of(events, "attempt_ended")
    assert begun["runtime"] == "native"
    assert "--max-old-space-size=600" in begun["options"]
    assert ended["reason"] == "soft"
    assert "buffer-leak" in ended["why"]
    assert "mcp_server.mjs:" in ended["why"]
    [done] = of(events, "gc_done")
    assert (done["asked"], done["answered"], done["verdict"]) == (1, 1, "buffer-leak")
