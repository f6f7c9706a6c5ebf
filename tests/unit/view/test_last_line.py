"""What an agent printed last."""

import os
from pathlib import Path

import pytest

from helpers.told import Told
from seqsup.cli.commands.status import _figures
from seqsup.model.history import fold
from seqsup.model.run_view import Now
from seqsup.units import GIB, MIB
from seqsup.view.last_line import LastLines, Said, last_line, results

CLAUDE = '{"type":"assistant","message":{"role":"assistant","content":[%s]}}\n'


@pytest.mark.parametrize(("output", "told"), [
    (b"", ""),
    (b"one\ntwo\n", "two"),
    (b"one\ntwo\n\n  \n", "two"),
    (b"one\nhalf a li", "half a li"),
    (b"10 %\r20 %\r30 %", "30 %"),
    (b"one\r\ntwo\r\n", "two"),
    (b"\x1b[32mgreen\x1b[0m \x1b[2J\x1b]0;title\x07done\n", "green done"),
    (b"a\tb\n", "a b"),
    ("größer\n".encode(), "größer"),
    (b"\xff\xfe odd\n", "\ufffd\ufffd odd"),
    ((CLAUDE % '{"type":"text","text":"I will mend it.\\nThen test."}').encode(), "I will mend it."),
    ((CLAUDE % '{"type":"tool_use","id":"1","name":"Edit","input":{"file_path":"src/a.ts","x":1}}').encode(),
     "Edit src/a.ts"),
    ((CLAUDE % '{"type":"text","text":"before"}' + '{"type":"user","message":{"role":"user","content":[]}}\n').encode(),
     "before"),
    (b'{"type":"result","subtype":"success","result":"All done"}\n', "All done"),
    (b'{"type":"item.started","item":{"type":"command_execution","command":"bash -lc ls"}}\n', "$ bash -lc ls"),
    (b'{"type":"item.completed","item":{"type":"agent_message","text":"Found two"}}\n', "Found two"),
    (b'{"type":"tool_use","tool_name":"read_file","parameters":{"path":"a.md"}}\n', "read_file a.md"),
    (b'{"type":"message","role":"assistant","content":"Hello"}\n', "Hello"),
    (b'{"type":"system","subtype":"init","n":1}\n', '{"type":"system","subtype":"init","n":1}'),
    (b'{"half": "a li', '{"half": "a li'),
    (b"FATAL ERROR: Reached heap limit\n----- Native stack trace -----\n\n"
     b" 1: 0xb9c310 node::OOMErrorHandler(char const*) [node]\n11: 0x1cca476  [/usr/bin/node]\n",
     "FATAL ERROR: Reached heap limit"),
    (b'{"a": ' * 5000, '{"a": ' * 100),
])  # fmt: skip
def test_last_line_says_what_was_printed_last(output: bytes, told: str) -> None:
    assert last_line(output).startswith(told)
    assert bool(last_line(output)) is bool(told)


def test_newer_stream_is_shown_with_its_time(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "1"
    folder.mkdir(parents=True)
    lines = LastLines(tmp_path)
    assert lines.of("a/1") is None
    for name, text, at in (("stdout.log", "working\n", 100), ("stderr.log", "trouble\n", 200)):
        (folder / name).write_text(text)
        os.utime(folder / name, (at, at))
    assert lines.of("a/1") == Said("trouble", 200)
    with (folder / "stdout.log").open("a") as file:
        file.write("working again\n")
    os.utime(folder / "stdout.log", (300, 300))
    assert lines.of("a/1") == Said("working again", 300)


def test_pipe_or_link_in_place_of_output_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "stdout.log")
    (tmp_path / "secret").write_text("secret\n")
    (folder / "stderr.log").symlink_to(tmp_path / "secret")
    assert LastLines(tmp_path).of("a/1") is None


def test_result_is_the_first_line_of_a_summary_or_else_the_last_of_the_output(tmp_path: Path) -> None:
    told = Told().run("a", "b", "silent", "fails")
    for agent in ("a", "b", "silent"):
        told.attempt(agent).agent_ended(agent)
        (tmp_path / agent / "1" / "artifacts").mkdir(parents=True)
        (tmp_path / agent / "1" / "stdout.log").write_text("one\ntwo\n" if agent != "silent" else "")
    (tmp_path / "a" / "1" / "artifacts" / "summary.md").write_text("\nThree issues.\nMore of them.\n")
    assert results(fold(told.events), tmp_path) == {"a": "Three issues.", "b": "two"}


def test_status_says_what_a_running_agent_uses_and_printed_last(tmp_path: Path) -> None:
    view = fold(Told().run("a").attempt_started("a", hard=GIB).spawned("a").events)
    sample = '{"event":"memory_sampled","at":1.0,"agent":"a","attempt":%d,"used":%d,"peak":%d,"processes":1,'
    sample += '"host_available":1,"programs":{},"heap":null,"around":null,"companions":{},"mono":1.0}\n'
    used = ((1, 300, 400), (1, 256, 260), (2, 900, 900))
    lines = [sample % (attempt, now * MIB, peak * MIB) for attempt, now, peak in used]
    (tmp_path / "memory.ndjson").write_text("".join(lines))
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / "1" / "stdout.log").write_text("Editing file5.ts\n")
    os.utime(tmp_path / "a" / "1" / "stdout.log", (100, 100))
    began = view.agents["a"].began or 0.0
    assert _figures(view, tmp_path, Now(202.0, began + 9)) == [
        "  a uses 256 MiB of 1 GiB (25 %), peak 400 MiB",
        "  a said, 1 min 42 s ago: Editing file5.ts",
    ]
    assert view.agents["a"].seconds == 9
