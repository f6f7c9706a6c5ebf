"""The line to Node processes: real Nodes with the preload, and clients that do all that one should not."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.npm import each_node
from helpers.waiting import alive
from seqsup.node.binary import copy_preload, node_options, preload
from seqsup.node.channel import Channel
from seqsup.node.sockets import Sockets, discard
from seqsup.units import MIB

DEADLINE = 30.0  # seconds, on a loaded machine
IDLE = "setInterval(() => {}, 1000); console.log('ready')"
GARBAGE = """
let garbage = [];
for (let n = 0; n < 7e6; n++) garbage.push({ n, text: 'x' + n });
garbage = null;
setInterval(() => {}, 1000);
console.log('ready');
"""
SPINS = """
const fs = require('fs'), kept = [];
const waits = setInterval(() => {
  if (!fs.existsSync(process.env.GATE)) return;
  clearInterval(waits);
  console.log('ready');
  for (;;) {
    kept.push({ x: [1, 2, 3] });
    if (kept.length > 1e5) kept.length = 0;
  }
}, 20);
"""

Story = Callable[[Channel], Coroutine[Any, Any, None]]


def told(story: Story) -> None:
    async def main() -> None:
        sockets = Sockets()
        channel = Channel(sockets)
        try:
            async with asyncio.timeout(250):
                await story(channel)
        finally:
            channel.close()
            sockets.close()

    asyncio.run(main())


async def until(fact: Callable[[], object], deadline: float = DEADLINE) -> None:
    ends = time.monotonic() + deadline
    while not fact():
        assert time.monotonic() < ends, "not in time"
        await asyncio.sleep(0.005)


class Program:
    """A Node program with the preload."""

    def __init__(self, node: Path | str, text: str, channel: str, *words: str, **env: str) -> None:
        options = node_options(("--require", str(preload())), env.pop("NODE_OPTIONS", ""))
        self.process = subprocess.Popen(
            [str(node), *words, "-e", text],
            env={**os.environ, **env, "NODE_OPTIONS": options, "SEQSUP_CHANNEL": channel},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self.process.pid

    async def ready(self) -> None:
        assert self.process.stdout
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line == b"ready\n", self.process.stderr and self.process.stderr.read()

    def ended(self) -> tuple[int, bytes, bytes]:
        stdout, stderr = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, stdout, stderr

    def rss(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def programs() -> Iterator[Callable[..., Program]]:
    all_started: list[Program] = []

    def start(*args: Any, **env: str) -> Program:
        all_started.append(Program(*args, **env))
        return all_started[-1]

    yield start
    for program in all_started:
        program.end()


# -- what a Node process says and does


@each_node
def test_node_names_itself_and_answers(node: Path, programs: Callable[..., Program]) -> None:
    async def story(channel: Channel) -> None:
        program = programs(node, IDLE, str(channel.path))
        await until(lambda: program.pid in channel.nodes())
        hello = channel.nodes()[program.pid].hello
        assert hello.version.startswith("v")
        assert hello.limit > 100 * MIB
        answer = await channel.ask(program.pid, "mem", DEADLINE)
        assert answer is not None
        assert answer.after is not None
        assert answer.after.rss >= answer.after.total >= answer.after.used > MIB
        unknown = await channel.ask(program.pid, "nonsense", DEADLINE)
        assert unknown is not None
        assert unknown.error

    told(story)


@pytest.mark.memory
@each_node
def test_garbage_is_given_back_to_the_machine(node: Path, programs: Callable[..., Program]) -> None:
    async def story(channel: Channel) -> None:
        program = programs(node, GARBAGE, str(channel.path))
        await program.ready()
        await until(lambda: program.pid in channel.nodes())
        assert program.rss() > 400 * MIB
        answer = await channel.ask(program.pid, "gc", DEADLINE)
        assert answer is not None
        assert answer.after is not None
        assert answer.after.used < 20 * MIB
        await until(lambda: program.rss() < 120 * MIB)

    told(story)


@each_node
def test_a_blocked_loop_answers_by_way_of_the_watch(
    node: Path, programs: Callable[..., Program], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    async def story(channel: Channel) -> None:
        program = programs(node, SPINS, str(channel.path), GATE=str(gate))
        await until(lambda: program.pid in channel.nodes())
        for question in ("sample", "watch"):
            assert await channel.ask(program.pid, question, DEADLINE, interval=2048) is not None
        await until(lambda: "watch" in channel.nodes()[program.pid].lines)
        gate.touch()
        await program.ready()
        for question in ("mem", "gc", "sites", "mem", "sites"):
            answer = await channel.ask(program.pid, question, DEADLINE)
            assert answer is not None, question
            assert not answer.error
            assert answer.after is not None
        assert answer is not None
        assert any("[eval]" in frame for site in answer.sites for frame in site.frames)

    told(story)


@each_node
def test_watched_node_exits_by_itself_without_a_word(node: Path, programs: Callable[..., Program]) -> None:
    """Node says `Waiting for the debugger to disconnect...` where an inspector of its own is still connected."""

    async def story(channel: Channel) -> None:
        program = programs(node, "process.on('SIGTERM', () => process.exit(7)); " + IDLE, str(channel.path))
        await until(lambda: program.pid in channel.nodes())
        for question in ("sample", "watch"):
            assert await channel.ask(program.pid, question, DEADLINE, interval=2048) is not None
        await until(lambda: "watch" in channel.nodes()[program.pid].lines)
        assert await channel.ask(program.pid, "mem", DEADLINE) is not None
        program.process.terminate()
        code, _, stderr = await asyncio.to_thread(program.ended)
        assert (code, stderr) == (7, b"")

    told(story)


def test_without_a_watch_a_blocked_loop_is_not_waited_for(programs: Callable[..., Program], tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def story(channel: Channel) -> None:
        program = programs("node", SPINS, str(channel.path), GATE=str(gate))
        await until(lambda: program.pid in channel.nodes())
        gate.touch()
        await program.ready()
        assert await channel.ask(program.pid, "mem", 0.1) is None
        assert await channel.ask(1, "mem", DEADLINE) is None

    told(story)


WORKER = "const { Worker } = require('worker_threads'); new Worker('setTimeout(() => {}, 300)', { eval: true });"


@each_node
def test_workers_do_not_greet(node: Path, programs: Callable[..., Program]) -> None:
    async def story(channel: Channel) -> None:
        greeted: list[int] = []
        channel.greeted = lambda node: greeted.append(node.pid)
        program = programs(node, WORKER, str(channel.path))
        code, *_ = await asyncio.to_thread(program.ended)
        assert code == 0
        assert greeted == [program.pid]

    told(story)


ENDS = {
    "at once": ("1", 0),
    "after a while": ("setTimeout(() => {}, 300)", 0),
    "by its own code": ("setTimeout(() => process.exit(7), 200)", 7),
    "by an exception": ("setTimeout(() => { throw new Error('mine') }, 200)", 1),
    "by a signal": ("setTimeout(() => process.kill(process.pid, 'SIGTERM'), 200)", -signal.SIGTERM),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("supervisor", ["there", "absent", "no socket", "too long a path"])
def test_node_exits_as_without_the_preload(
    end: str, supervisor: str, tmp_path: Path, programs: Callable[..., Program]
) -> None:
    text, expected = ENDS[end]
    (tmp_path / "file").touch()
    paths = {"absent": str(tmp_path / "none"), "no socket": str(tmp_path / "file"), "too long a path": "/" + "x" * 200}

    async def story(channel: Channel) -> None:
        program = programs("node", text, paths.get(supervisor, str(channel.path)))
        code, stdout, stderr = await asyncio.to_thread(program.ended)
        assert (code, stdout) == (expected, b"")
        assert b"seqsup" not in stderr
        assert (stderr == b"") == (end != "by an exception")

    told(story)


def test_a_supervisor_that_dies_or_reads_nothing_is_no_trouble(programs: Callable[..., Program]) -> None:
    folder = os.environ["XDG_RUNTIME_DIR"]  # the test's own, and short
    path = f"{folder}/s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        text = "setTimeout(() => process.exit(3), 1500); console.log('ready')"
        dies, deaf, never = (programs("node", text, path) for _ in range(3))
        first, _ = listener.accept()
        second, _ = listener.accept()
        with first, second:
            first.close()
            with suppress(BrokenPipeError):  # it has ended since
                second.sendall(b"".join(b'{"id":%d,"ask":"mem"}\n' % number for number in range(1, 5000)))
            for program in (dies, deaf, never):
                assert program.ended() == (3, b"ready\n", b"")


def test_nonsense_from_a_stranger_is_no_trouble(programs: Callable[..., Program]) -> None:
    path = f"{os.environ['XDG_RUNTIME_DIR']}/s"
    said = (
        b"{\n",
        b"null\n",
        b"[]\n",
        b"\xff\xfe\n",
        b"x" * 100_000,
        b'{"id":1,"ask":"constructor"}\n',
        b'{"id":{}}\n',
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(len(said))
        all_started = [programs("node", "setTimeout(() => process.exit(3), 1000)", path) for _ in said]
        lines = []
        for text in said:
            lines.append(listener.accept()[0])
            with suppress(BrokenPipeError):  # it has ended since
                lines[-1].sendall(text)
        assert [program.ended() for program in all_started] == [(3, b"", b"")] * len(said)
        for line in lines:
            line.close()


@each_node
def test_gc_is_defined_for_programs_that_ask_for_it(node: Path, programs: Callable[..., Program]) -> None:
    text = """
    let held = new WeakRef({});
    setTimeout(() => {
      gc();
      console.log(typeof gc, held.deref() === undefined, Object.keys(globalThis).includes('gc'));
    }, 1)
    """
    without = "console.log(typeof globalThis.gc)"
    assert programs(node, text, "", SEQSUP_EXPOSE_GC="1").ended() == (0, b"function true false\n", b"")
    assert programs(node, without, "").ended() == (0, b"undefined\n", b"")


CLOSES = """
const fs = require('fs');
const waits = setInterval(() => {
  if (!fs.existsSync(process.env.GATE)) return;
  clearInterval(waits);
  for (const fd of sockets()) fs.closeSync(fd);
  setTimeout(() => process.exit(5), 400);
}, 20);
function sockets() {
  return fs.readdirSync('/proc/self/fd').filter((fd) => {
    try { return fs.readlinkSync('/proc/self/fd/' + fd).startsWith('socket:') } catch { return false }
  }).map(Number).filter((fd) => fd > 2);
}
"""


def test_agent_that_closes_descriptors_of_ours_continues(programs: Callable[..., Program], tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def story(channel: Channel) -> None:
        program = programs("node", CLOSES, str(channel.path), GATE=str(gate))
        await until(lambda: program.pid in channel.nodes())
        assert await channel.ask(program.pid, "mem", DEADLINE)  # libuv aborts if it does not listen yet
        gate.touch()
        code, _, stderr = await asyncio.to_thread(program.ended)
        assert (code, stderr) == (5, b"")
        await until(lambda: program.pid not in channel.nodes())

    told(story)


def test_paths_with_spaces_and_quotes(tmp_path: Path, programs: Callable[..., Program]) -> None:
    odd = tmp_path / 'it\'s "odd" \\ here'
    odd.mkdir()
    copy_preload(odd)
    options = node_options(("--require", str(preload(odd))), "")
    ended = subprocess.run(
        ["node", "-p", "1"], env={**os.environ, "NODE_OPTIONS": options}, capture_output=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"1\n", b"")


# -- clients that misbehave


def connected(channel: Channel) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    client.connect(str(channel.path))
    return client


async def dropped(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE):
        try:
            while await loop.sock_recv(client, 65536):
                pass
        except ConnectionResetError:
            pass


async def still_answers(channel: Channel, program: Program) -> None:
    answer = await channel.ask(program.pid, "mem", DEADLINE)
    assert answer is not None
    assert answer.after is not None


BAD = {
    "no JSON": b"hello\n",
    "cut short": b'{"hello":"no\n',
    "of another type": b'{"hello":7}\n',
    "negative": b'{"hello":"node","limit":-1}\n',
    "huge number": b'{"hello":"node","limit":' + b"9" * 400 + b"}\n",
    "huge text": b'{"hello":"' + b"x" * 5000 + b'"}\n',
    "never a line": b"x" * 70_000,
    "deep": b"[" * 60_000 + b"\n",
    "no UTF-8": b'{"hello":"\xff\xfe"}\n',
    "half a surrogate": b'{"hello":"node","script":"\\ud800"}\n{"id":1}\n',
    "null": b"null\n",
    "of nobody": b'{"hello":"prince"}\n',
    "a watch of nobody": b'{"hello":"watch"}\n',
    "an answer to nothing": b'{"hello":"node"}\n{"id":1}\n',
    "twice": b'{"hello":"node"}\n{"hello":"node"}\n',
}


def test_misbehaving_client_is_dropped_and_no_other_notices(programs: Callable[..., Program]) -> None:
    async def story(channel: Channel) -> None:
        program = programs("node", IDLE, str(channel.path))
        await until(lambda: program.pid in channel.nodes())
        for text in BAD.values():
            client = connected(channel)
            await asyncio.get_running_loop().sock_sendall(client, text)
            await dropped(client)
            client.close()
            await still_answers(channel, program)

    told(story)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=200) | st.sampled_from([b"\n", b'{"hello":"node"}\n', b'{"id":1}\n', b"{"]), max_size=8)
)
def test_any_bytes_at_all(pieces: list[bytes]) -> None:
    async def story(channel: Channel) -> None:
        client = connected(channel)
        loop = asyncio.get_running_loop()
        try:
            for piece in pieces:
                await loop.sock_sendall(client, piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        client.close()
        other = connected(channel)
        await loop.sock_sendall(other, b'{"hello":"node","version":"v1"}\n')
        await until(lambda: any(node.hello.version == "v1" for node in channel.nodes().values()))
        other.close()
        await until(lambda: not channel.nodes())

    told(story)


FLOOD = """
import socket, sys
path, number = sys.argv[1], int(sys.argv[2])
for _ in range(number):
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(path)
        client.send(b'{"hello":"node"')
    except OSError:
        pass
print("ready", flush=True)
clients = []
try:
    while True:
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].connect(path)
except OSError:
    pass
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        ({"hello": "client", "protocol": 2, "ask": "usage"}, "version 1 of the channel, and this program version 2"),
        ({"hello": "node", "protocol": 9}, "install the same version of seqsup for both"),
        ({"hello": "client", "ask": "mem"}, "unknown question 'mem': ask usage or gc"),
        ({"hello": "operator", "ask": "usage"}, "unknown question 'usage': ask mem or gc"),
    ],
)
def test_hello_of_another_version_and_unknown_question_get_an_error(hello: dict[str, Any], error: str) -> None:
    async def story(channel: Channel) -> None:
        reader, writer = await asyncio.open_unix_connection(channel.path)
        writer.write(json.dumps(hello).encode() + b"\n" + b'{"hello":"node"}\n')
        answer = json.loads(await reader.read())
        assert answer["protocol"] == 1
        assert error in answer["error"]
        assert not channel.nodes()
        writer.close()
        await writer.wait_closed()

    told(story)


def test_thousands_of_connections_leave_room_for_others(programs: Callable[..., Program]) -> None:
    async def story(channel: Channel) -> None:
        program = programs("node", IDLE, str(channel.path))
        await until(lambda: program.pid in channel.nodes())
        flood = subprocess.Popen(
            [sys.executable, "-c", FLOOD, str(channel.path), "3000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert flood.stdout
            line = asyncio.create_task(asyncio.to_thread(flood.stdout.readline))
            while not line.done():
                await still_answers(channel, program)
            later = programs("node", IDLE, str(channel.path))
            flood.kill()
            flood.wait()
            await until(lambda: later.pid in channel.nodes())
        finally:
            flood.kill()
            flood.communicate()

    told(story)


def test_client_that_never_reads_or_never_writes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqsup.node.channel._SILENCE", 2.0)

    async def story(channel: Channel) -> None:
        silent, deaf = connected(channel), connected(channel)
        await asyncio.get_running_loop().sock_sendall(deaf, b'{"hello":"node"}\n')
        await until(lambda: os.getpid() in channel.nodes())
        await dropped(silent)
        for _ in range(20_000):
            if os.getpid() not in channel.nodes():
                break
            await channel.ask(os.getpid(), "mem", 0.0)
        assert os.getpid() not in channel.nodes()
        silent.close()
        deaf.close()

    told(story)


def test_channel_keeps_its_connections_after_its_socket_is_removed(programs: Callable[..., Program]) -> None:
    async def story(channel: Channel) -> None:
        program = programs("node", IDLE, str(channel.path))
        await until(lambda: program.pid in channel.nodes())
        channel.path.unlink()
        await still_answers(channel, program)

    told(story)


def test_other_user_may_not_connect() -> None:
    async def story(channel: Channel) -> None:
        assert channel.path.parent.stat().st_mode & 0o777 == 0o700
        assert channel.path.stat().st_mode & 0o777 == 0o600
        assert len(os.fsencode(channel.path)) < 108

    told(story)


OTHER_USER = """
import os, socket, sys
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
try:
    client.sendall(b'{"hello":"node"}\\n')
    sys.exit(1 if client.recv(1) else 0)
except (BrokenPipeError, ConnectionResetError):
    pass
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_another_user_is_shut_out_even_where_the_socket_would_let_him() -> None:
    async def story(channel: Channel) -> None:
        for path in (channel.path.parent.parent, channel.path.parent, channel.path):
            path.chmod(0o777)
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", OTHER_USER, str(channel.path)], timeout=DEADLINE, check=False
        )
        assert ended.returncode == 0
        assert channel.nodes() == {}

    told(story)


def test_socket_of_a_killed_supervisor_is_removed(tmp_path: Path) -> None:
    base = Path(os.environ["XDG_RUNTIME_DIR"])
    left, young, foreign = base / "seqsup-node-left", base / "seqsup-node-young", base / "seqsup-mine"
    for folder in (left, young, foreign):
        folder.mkdir()
    os.utime(left, (1, 1))

    async def story(channel: Channel) -> None:
        assert not left.exists()
        assert young.exists()
        assert foreign.exists()
        os.utime(channel.path.parent, (1, 1))
        others = Sockets()
        listener, path = others.listen()
        assert path.parent != channel.path.parent
        discard(listener, path)
        others.close()
        assert channel.path.exists(), "it listens"

    told(story)
    assert sorted(path.name for path in base.iterdir()) == ["seqsup-mine", "seqsup-node-young"]


def test_the_preload_survives_what_a_program_does_to_the_world(programs: Callable[..., Program]) -> None:
    path = f"{os.environ['XDG_RUNTIME_DIR']}/s"
    done = (
        "require('net').connect = () => { throw new Error('mine') }",
        "require('net').Socket.prototype.write = null",
        "require('v8').getHeapStatistics = null",
        "JSON.stringify = () => { throw new Error('mine') }",
        "String.prototype.slice = null",
        "process.argv = process.execArgv = null",
        "Object.freeze(process.report)",
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(len(done))
        after = "; globalThis.setTimeout(() => process.exit(4), 500)"
        all_started = [programs("node", text + after, path, SEQSUP_REPORTS="/nowhere") for text in done]
        assert [program.ended() for program in all_started] == [(4, b"", b"")] * len(done)


def test_node_answers_with_json_lines_that_fit(programs: Callable[..., Program]) -> None:
    path = f"{os.environ['XDG_RUNTIME_DIR']}/s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        program = programs("node", IDLE, path)
        line, _ = listener.accept()
        with line, line.makefile("rw") as file:
            hello = json.loads(file.readline())
            assert (hello["hello"], hello["pid"]) == ("node", program.pid)
            file.write('{"id":1,"ask":"mem"}\n{"id":2,"ask":"gc"}\n{"id":2,"ask":"gc"}\n{"id":3,"ask":"mem"}\n')
            file.flush()
            assert [json.loads(file.readline())["id"] for _ in range(3)] == [1, 2, 3], "none is answered twice"
        assert alive(program.pid)
