"""What stands around a run, examined: agent CLIs, ports, the line to Node; and a run's own proof."""

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from seqsup.doctor.finding import Finding, Level
from seqsup.host.trust import user_name
from seqsup.metrics.endpoint import NO_HOST
from seqsup.model.events import AttemptEnded, AttemptLost, ChainEnded, Drained, HookEnded, Recorded, RunStarted
from seqsup.model.history import fold
from seqsup.model.plan import CompanionStart, Hooks, Metrics
from seqsup.model.preset import prompt_presets
from seqsup.node.binary import NoAnswer, preload, probe
from seqsup.node.channel import Channel
from seqsup.node.detect import detect, find
from seqsup.node.sockets import Sockets
from seqsup.runner.readiness import address, taken
from seqsup.text import counted
from seqsup.units import format_duration

_HELLO = 10.0  # seconds; it takes 0.1


def clis(path: str) -> Iterator[Finding]:
    """Which agent CLIs are here, and what they run in."""
    found = False
    for name in prompt_presets():
        if (file := find(name, "/", path)) is None:
            continue
        found = True
        runtime = detect([name], "/", path)
        if runtime.executable is None:
            yield Finding(Level.FAIL, name, f"{file}: {runtime.why}", f"install {name} again")
        elif not runtime.windows:
            yield Finding(Level.OK, name, f"{file}: {_runtime(runtime.kind, runtime.executable)}")
    if not found:
        yield Finding(Level.OK, "agent CLIs", f"none of {', '.join(prompt_presets())} is on PATH")


def _runtime(kind: str, executable: str) -> str:
    if kind != "node":
        return f"{'compiled by Bun' if kind == 'bun' else 'a program of its own'}: memory.* alone holds it"
    try:
        return f"Node {probe(executable).version}"
    except NoAnswer as error:
        return str(error)


def metrics_port(metrics: Metrics) -> Iterator[Finding]:
    """Whether figures can be served where they are to be."""
    if not metrics.listen:
        return
    host, _, port = metrics.listen.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as error:
        level = Level.FAIL if metrics.required else Level.WARN
        why = error.strerror if isinstance(error, OSError) else NO_HOST
        told = f"{metrics.listen}: {why}{_holder(int(port))}; metrics are served once it is free"
        yield Finding(level, "metrics port", told, 'set metrics.listen to another, or "none"')
    else:
        yield Finding(Level.OK, "metrics port", f"{metrics.listen} is free")


def companion_ports(companions: Iterable[CompanionStart]) -> Iterator[Finding]:
    """Check that no program answers yet on the companions' ports."""
    for companion in companions:
        if asyncio.run(taken(companion.ready)):
            port = companion.ready.port or address(companion.ready.http or "")[1]
            told = f"{companion.name}: port {port} is taken{_holder(port)}, and would be mistaken for the companion"
            yield Finding(Level.WARN, "companion port", told, f"ss -ltnp 'sport = :{port}'")
        elif companion.ready.http is not None or companion.ready.port is not None:
            yield Finding(Level.OK, "companion port", f"that of {companion.name} is free")


def _holder(port: int) -> str:
    """Name the process that listens on a port of this machine, if this user may know it."""
    import psutil

    try:
        sockets = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        pid = next((each.pid for each in sockets if each.pid and each.laddr and each.laddr.port == port), None)
        return f" by {psutil.Process(pid).name()} (pid {pid})" if pid else ""
    except (psutil.Error, OSError):
        return ""


def hooks(hooks: Hooks, past: Iterable[Recorded], runs: Path) -> Iterator[Finding]:
    """Say which hooks there are, and how each ended in a past run; what cannot be started the plan has refused.

    `runs` is the folder with the folders of all runs.
    """
    if not hooks.commands:
        return
    told = ", ".join(f"{point} {counted(len(of), 'command')}" for point, of in hooks.commands.items())
    user = hooks.account.name if hooks.account is not None else user_name(os.geteuid())
    yield Finding(Level.OK, "hooks", f"{told}: found and executable; they run as {user}")
    ends = {
        (each.body.point, each.body.command): (each.run, each.body) for each in past if isinstance(each.body, HookEnded)
    }
    for point, commands in hooks.commands.items():
        for run, end in (ends[key] for command in dict.fromkeys(commands) if (key := (point, command)) in ends):
            told = f"{point} {end.command}: {end.why or 'exit 0'} after {format_duration(end.seconds)}, in {run}"
            if end.ok:
                yield Finding(Level.OK, "hooks", told)
            else:
                output = f": {end.output}" if end.output else ""
                yield Finding(Level.WARN, "hooks", told + output, f"its output is in {runs / run / end.folder}")


def handshake(node: str) -> Finding:
    """Start a Node with our preload, and wait for it to say hello."""
    return asyncio.run(_handshake(node))


async def _handshake(node: str) -> Finding:
    with ExitStack() as closing:
        closing.callback((sockets := Sockets()).close)
        try:
            channel = Channel(sockets)
        except OSError as error:
            told = f"cannot create a socket for Node processes: {error}. Heap figures and GC are unavailable"
            return Finding(Level.WARN, "preload", told, "set XDG_RUNTIME_DIR to a folder of yours with a short path")
        closing.callback(channel.close)
        return await _greeting(node, channel)


async def _greeting(node: str, channel: Channel) -> Finding:
    env = {**os.environ, "NODE_OPTIONS": f'--require "{preload()}"', "SEQSUP_CHANNEL": str(channel.path)}
    process = await asyncio.create_subprocess_exec(
        node, "-e", "setTimeout(() => {}, 60000)", env=env,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    greeted = asyncio.Event()
    channel.greeted = lambda _: greeted.set()
    ended = asyncio.create_task(process.wait())
    hello = asyncio.create_task(greeted.wait())
    try:
        await asyncio.wait({ended, hello}, timeout=_HELLO, return_when=asyncio.FIRST_COMPLETED)
        if greeted.is_set():
            return Finding(Level.OK, "preload", f"{node} answers: heap figures and GC on request work")
        why = f"no answer within {format_duration(_HELLO)}"
        if ended.done() and process.stderr is not None:
            said = (await process.stderr.read(500)).decode(errors="replace").strip()
            why = f"it ended with exit {process.returncode}: {said.splitlines()[-1] if said else 'without a word'}"
        told = f"{node} does not answer: {why}"
        return Finding(Level.WARN, "preload", told, "node.telemetry = false turns this off")
    finally:
        if not ended.done():
            process.kill()
        await ended
        hello.cancel()


def proof(label: str, events: Iterable[Recorded]) -> Iterator[Finding]:
    """What a past run proves: one at a time, each started when the memory of the one before was back."""
    told = list(events)
    pairs = fold(told).sequence_violations
    over = [each.body for each in told if isinstance(each.body, (AttemptEnded, AttemptLost))]
    tried = counted(len(over), "attempt")
    lanes = max((each.body.concurrency for each in told if isinstance(each.body, RunStarted)), default=1)
    if pairs:
        wrong = f"{label}: {counted(pairs, 'pair')} of {tried} ran at the same time: internal error"
        yield Finding(Level.FAIL, "one at a time", wrong, "please report it, with `seqsup events`")
    elif lanes > 1:
        beside = f"{label}: {tried}, up to {lanes} at the same time, and no two in one lane"
        yield Finding(Level.WARN, "one at a time", beside, "run.concurrency = 1 is one at a time")
    else:
        yield Finding(Level.OK, "one at a time", f"{label}: {tried}, no two at the same time")
    yield from _drained(label, told, [f"{body.agent}/{body.attempt}" for body in over])


def _drained(label: str, told: Iterable[Recorded], attempts: Iterable[str]) -> Iterator[Finding]:
    """Prove that memory was back after each attempt and chain. A second drain, after companions restarted, counts."""
    waits: dict[str, Drained | ChainEnded] = {}
    starts = 0
    for each in told:
        match each.body:
            case RunStarted():
                starts += 1
            case Drained(agent=agent, attempt=attempt):
                waits[f"{agent}/{attempt}"] = each.body
            case ChainEnded(chain=chain):
                waits[f"{starts} chain {chain}"] = each.body
    missed = [_after(wait) + f" ({wait.why})" for wait in waits.values() if not wait.reached]
    ends = list(dict.fromkeys(attempts))
    unknown = [name.rpartition("/")[0] for name in ends if name not in waits]
    chains = sum(isinstance(wait, ChainEnded) for wait in waits.values())
    checked = f"{len(ends) - len(unknown)} of {counted(len(ends), 'attempt')}"
    checked += f" and {counted(chains, 'chain')}" if chains else ""
    if missed:
        text = f"{label}: memory was not back after {', '.join(missed)}"
        yield Finding(Level.FAIL, "drained", text, "raise drain.timeout")
    elif unknown:
        text = f"{label}: {checked}; not checked after {', '.join(dict.fromkeys(unknown))}"
        yield Finding(Level.WARN, "drained", text)
    elif waits:
        longest = max(wait.seconds for wait in waits.values())
        yield Finding(Level.OK, "drained", f"{label}: {checked}, the slowest in {format_duration(longest)}")


def _after(wait: Drained | ChainEnded) -> str:
    return wait.agent if isinstance(wait, Drained) else f"chain {wait.chain}"
