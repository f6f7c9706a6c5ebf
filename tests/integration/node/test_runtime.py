"""Runtimes: which one a command ends up in, what a Node takes, and that options really arrive. Real binaries."""

import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers import npm
from helpers.command_line import Result
from helpers.profiles import agent, write
from seqsup.model.plan import NodeStart
from seqsup.node import flags
from seqsup.node.binary import NoAnswer, node_options, own_options, probe
from seqsup.node.binary import _keep as keep
from seqsup.node.detect import detect
from seqsup.units import MIB

Cli = Callable[..., Result]

NODE = shutil.which("node") or ""
needs_node = pytest.mark.skipif(not NODE, reason="no node on PATH")
PATH = os.environ.get("PATH", os.defpath)


def program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def kind(command: list[str], cwd: Path, path: str = PATH) -> str:
    found = detect(command, str(cwd), path)
    return found.kind if found.executable else "missing"


# Which runtime


@needs_node
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#!/usr/bin/env node", "node"),
        ("#!/usr/bin/env -S node --no-warnings", "node"),
        ("#! /usr/bin/env -S NODE_ENV=test node", "node"),
        (f"#!{NODE} --no-warnings", "node"),
        ("#!/bin/sh", "native"),
        (f"#!{sys.executable}", "native"),
        ("#!/usr/bin/env no-such-program", "missing"),
        ("#!/no/such/interpreter", "missing"),
        ("no first line", "native"),
    ],
)
def test_a_script_runs_in_what_its_first_line_says(tmp_path: Path, line: str, expected: str) -> None:
    program(tmp_path / "agent", f"{line}\n1\n")
    assert kind(["./agent"], tmp_path) == expected
    assert kind(["agent"], tmp_path, f"{tmp_path}:{PATH}") == expected


@needs_node
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["node", "x.js"], "node"),
        ([NODE], "node"),
        (["env", "A=1", "-u", "B", "node", "x.js"], "node"),
        (["env", "-S", "node x.js"], "node"),
        (["env"], "native"),
        (["sh", "-c", "node x.js"], "node"),
        (["bash", "-lc", "exec node x.js"], "node"),
        (["sh", "-c", "cd /; A='b c' timeout 9 node x.js 2>&1 >log"], "node"),
        (["sh", "-c", "exec 'node' \"$(cat x)\""], "node"),
        (["sh", "-c", "node x.js | tee log"], "native"),
        (["sh", "-c", "echo node; true"], "native"),
        (["sh", "-c", "no-such-program"], "native"),
        (["sh", "-c", "'not ended"], "native"),
        (["sh", "-c"], "native"),
        (["sh", "node"], "native"),
        (["nice", "-n", "-5", "node", "x.js"], "node"),
        (["timeout", "-k", "5", "--signal=INT", "60", "node", "x.js"], "node"),
        (["nohup", "env", "-i", "stdbuf", "-oL", "node", "x.js"], "node"),
        (["timeout", "60", "no-such-program"], "missing"),
        (["nice"], "native"),
        ([sys.executable], "native"),
        (["no-such-program"], "missing"),
        (["./no-such-file"], "missing"),
    ],
)
def test_a_command_ends_up_in_its_runtime(tmp_path: Path, command: list[str], expected: str) -> None:
    assert kind(command, tmp_path) == expected


@pytest.mark.skipif(not shutil.which("npx"), reason="no npx on PATH")
def test_npx_is_node(tmp_path: Path) -> None:
    assert kind(["npx", "-y", "cowsay"], tmp_path) == "node"


@needs_node
def test_links_and_the_scripts_of_pnpm_lead_to_node(tmp_path: Path) -> None:
    program(tmp_path / "lib/cli.js", "#!/usr/bin/env node\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/agent").symlink_to("../lib/cli.js")
    (tmp_path / "bin/runtime").symlink_to(NODE)
    program(tmp_path / "bin/shim", '#!/bin/sh\nif true; then\n  exec node  "$basedir/x.js" "$@"\nfi\n')
    long = "# what a shim does about links and paths\n" * 150  # of pnpm 12 it is 4 KiB
    program(tmp_path / "bin/long", f'#!/bin/sh\n{long}exec node  "$basedir_abs"/\'../x.js\' "$@"\n')
    for name in ("agent", "runtime", "shim", "long"):
        assert kind([f"bin/{name}"], tmp_path) == "node"


def test_binary_compiled_by_bun_is_recognised_by_its_end(tmp_path: Path) -> None:
    program(tmp_path / "claude", "").write_bytes(b"\x7fELF" + bytes(9000) + b"\n---- Bun! ----\n" + bytes(8))
    program(tmp_path / "codex", "").write_bytes(b"\x7fELF" + bytes(9000))
    program(tmp_path / "torn", "").write_bytes(b"\x7fELF" + b"\xff" * 60)
    names = ("claude", "codex", "torn")
    assert [kind([name], tmp_path, str(tmp_path)) for name in names] == ["bun", "native", "native"]


def test_binary_compiled_by_bun_is_recognised_by_its_section(tmp_path: Path) -> None:
    """Sections linked in later may follow the mark: 46 KB in one CLI."""
    names = b"\0.text\0.bun\0.shstrtab\0"
    header = struct.pack("<4s36xQ10xHHH", b"\x7fELF", 64, 64, 2, 1)
    sections = bytes(64) + struct.pack("<24xQQ24x", 64 + 128, len(names))
    program(tmp_path / "opencode", "").write_bytes(header + sections + names + bytes(9000))
    assert kind(["./opencode"], tmp_path) == "bun"


@pytest.mark.long
def test_real_bun_binary_is_recognised_too(tmp_path: Path) -> None:
    compiled = npm.package("opencode-linux-x64", "1.18.34") / "bin" / "opencode"
    assert kind([str(compiled)], tmp_path) == "bun"


def test_first_line_with_a_nul_names_no_program(tmp_path: Path) -> None:
    """To the kernel it ends there: a shell runs the script."""
    program(tmp_path / "x.sh", "").write_bytes(b"#!\0/bin/sh\ntrue\n")
    assert detect(["./x.sh"], str(tmp_path), PATH).why.endswith("is a script of the shell")


def test_first_line_that_ends_in_cr_is_reported_with_its_remedy(tmp_path: Path) -> None:
    program(tmp_path / "it's.sh", "").write_bytes(b"#!/bin/sh\r\ntrue\r\n")
    found = detect(["./it's.sh"], str(tmp_path), PATH)
    assert found.executable is None
    mended = f"sed -i 's/\\r$//' {shlex.quote(f'{tmp_path}/it{chr(39)}s.sh')}"
    assert found.why.endswith(f"its first line ends in CR; fix it with: {mended}")


def test_a_script_that_names_itself_as_interpreter_ends_the_search(tmp_path: Path) -> None:
    file = program(tmp_path / "loop", "")
    file.write_text(f"#!{file}\n")
    assert kind(["./loop"], tmp_path) == "native"


def test_missing_program_is_reported_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "it's").write_text("x")
    (tmp_path / "folder").mkdir()
    whys = [detect([word], str(tmp_path), PATH).why for word in ("./it's", "./folder", "./nothing", "nothing")]
    assert whys[0].endswith(f"""is not executable; fix it with: chmod +x '{tmp_path}/it'"'"'s'""")
    assert whys[1:] == [
        f"{tmp_path}/folder is a folder", f"there is no {tmp_path}/nothing",
        "no program nothing on PATH: install it, or give its path",
    ]  # fmt: skip


# What a Node takes


@needs_node
def test_a_node_is_asked_once_and_then_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = program(tmp_path / "node", f'#!/bin/sh\necho x >> "{tmp_path}/asked"\nexec "{NODE}" "$@"\n')
    first = probe(NODE)
    assert first.version.startswith("v")
    assert "--max-old-space-size" in first.allowed
    [kept] = (tmp_path / "cache/seqsup").iterdir()
    assert probe(NODE) == first
    kept.write_text(kept.read_text().replace(first.version, "v0.0.1"))
    assert probe(NODE).version == "v0.0.1"
    for torn in ('{"executable": "x"', "", "[]", "\x00"):
        kept.write_text(torn)
        assert probe(NODE) == first
    # the target of a version manager's shim may change while the shim does not
    assert [probe(str(asked)).version for _ in range(2)] == [first.version] * 2
    assert (tmp_path / "asked").read_text() == "x\nx\n"


@needs_node
def test_the_users_own_node_options_do_not_disturb_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--trace-gc")
    assert probe(NODE).allowed


@needs_node
def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert probe(NODE).allowed


@pytest.mark.parametrize("text", ["#!/bin/sh\necho wrong >&2; exit 3\n", "#!/bin/sh\necho hello\n", "#!/no/such\n"])
def test_program_that_does_not_answer_as_node_is_named(tmp_path: Path, text: str) -> None:
    file = program(tmp_path / "node", text)
    with pytest.raises(NoAnswer, match=r"does not answer as Node: .") as caught:
        probe(str(file))
    assert str(file) in str(caught.value)


# NODE_OPTIONS


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_words_are_split_as_they_were_joined(words: list[str]) -> None:
    assert flags.split(flags.join(words)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  --a   --b=1 ", ["--a", "--b=1"]),
        ('--require "/with space/x.cjs"', ["--require", "/with space/x.cjs"]),
        ('--require="/a b"', ["--require=/a b"]),
        ('"a\\"b\\\\c"', ['a"b\\c']),
        ("a\\ b", ["a\\", "b"]),
        ('"open', ["open"]),
    ],
)
def test_node_options_are_split_as_node_does(text: str, words: list[str]) -> None:
    assert flags.split(text) == words


def start(*options: str) -> NodeStart:
    return NodeStart(executable=NODE, version="v20", options=options, heap=None, heap_ceiling=None)


@pytest.mark.parametrize(
    ("options", "heap", "user", "expected"),
    [
        ((), None, "", ""),
        (("--expose-gc",), 300 * MIB, "", "--expose-gc --max-old-space-size=300"),
        ((), 300 * MIB, " --no-warnings ", "--max-old-space-size=300 --no-warnings"),
        ((), 300 * MIB, "--max-old-space-size=99", "--max-old-space-size=99"),
        ((), 300 * MIB, "--max_old_space_size=99", "--max_old_space_size=99"),
        (("--require=/a b.cjs",), None, "", '"--require=/a b.cjs"'),
    ],
)
def test_ours_come_first_so_that_the_users_win(
    options: tuple[str, ...], heap: int | None, user: str, expected: str
) -> None:
    assert node_options(own_options(start(*options), heap, user), user) == expected


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("--max-old-space-size=99", "--max-old-space-size=300"),
        ('--title="a b" --max_old_space_size=99 -r x', '--max-old-space-size=300 "--title=a b" -r x'),
        (" --trace-warnings ", "--max-old-space-size=300 --trace-warnings"),
    ],
)
def test_heap_limit_of_the_profile_replaces_that_of_the_shell(user: str, expected: str) -> None:
    begun = replace(start(), heap_set=True)
    assert node_options(own_options(begun, 300 * MIB, user), user) == expected


@needs_node
def test_heap_limit_of_the_profile_wins_in_every_node_of_an_agent(seqsup: Cli, tmp_path: Path) -> None:
    """The seed's row 17, with the seed's own line in the shell."""
    ask = "require('child_process').execFileSync('node', ['-p', 'v8.getHeapStatistics().heap_size_limit >> 20'])"
    script = f"console.log(String({ask}).trim(), v8.getHeapStatistics().heap_size_limit >> 20)"
    given = {"memory": {"hard": "1GiB"}, "node": {"max_old_space_size": "300MiB"}}
    profile = write(tmp_path, agent("a", ["node", "-e", script], **given), agent("b", ["node", "-e", script]))
    assert seqsup("start", profile, env={"NODE_OPTIONS": "--max-old-space-size=700"}).code == 0
    limits = [[*map(int, seqsup("logs", "r1", name).stdout.split())] for name in ("a", "b")]
    assert all(300 <= limit < 500 for limit in limits[0]), limits
    assert all(700 <= limit < 900 for limit in limits[1]), limits


@needs_node
def test_heap_limit_gc_and_a_preload_with_a_space_arrive_in_a_real_node(tmp_path: Path) -> None:
    allowed = probe(NODE).allowed
    options = [] if flags.refused(["--expose-gc"], allowed) else ["--expose-gc"]
    program(tmp_path / 'with "quote/pre load.cjs', "globalThis.preloaded = 1")
    begun = start(*options, f'--require={tmp_path}/with "quote/pre load.cjs')
    written = node_options(own_options(begun, 300 * MIB, ""), "--stack-trace-limit=7")
    question = "JSON.stringify([typeof gc, v8.getHeapStatistics().heap_size_limit, preloaded, Error.stackTraceLimit])"
    answer = subprocess.run(
        [NODE, "-p", question], env={**os.environ, "NODE_OPTIONS": written}, capture_output=True, check=True
    )
    gc, heap, preloaded, depth = json.loads(answer.stdout)
    assert gc == ("function" if options else "undefined")
    assert 300 * MIB <= heap <= 500 * MIB
    assert (preloaded, depth) == (1, 7)


@needs_node
@pytest.mark.parametrize(
    "option",
    ["--expose-gc", "--expose_gc", "--trace-gc", "--bogus", "--no-warnings", "--max-old-space-size=99",
     "--stack-size=9",
     "--max_old_space_size=99", "--no-deprecation", "--title=x", "--unhandled-rejections=warn", "--eval=1", "-r=fs"],
)  # fmt: skip
def test_an_option_is_refused_exactly_when_this_node_refuses_it(option: str) -> None:
    ended = subprocess.run([NODE, "-e", "0"], env={**os.environ, "NODE_OPTIONS": option}, capture_output=True)
    assert bool(flags.refused([option], probe(NODE).allowed)) == (ended.returncode == 9)


def test_a_cache_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    """With a full disk each start left an empty file there."""
    (file := tmp_path / "cache" / "node-x.json").mkdir(parents=True)
    keep(file, b"x")
    assert list(file.parent.iterdir()) == [file]
