"""What an agent printed last."""

import os
from pathlib import Path

import pytest

from seqsup.view.last_line import LastLines, Said, last_line

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
