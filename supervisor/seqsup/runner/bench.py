"""What becomes of agents that run at once, one after another, beside leftover processes, and under seqsup."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from seqsup.containment.cgroup.tiers import Chosen
from seqsup.errors import SeqsupError
from seqsup.model.plan import Plan, Step
from seqsup.plan.secrets import secrets_of
from seqsup.profile.placeholders import SECRET, finish
from seqsup.runner import bench_agent_main
from seqsup.runner.bench_box import TICK, Box
from seqsup.state.run_folder import tail
from seqsup.units import MIB

AT_ONCE, ONE_BY_ONE, WITH_LEFTOVERS, SUPERVISED = WAYS = (
    "all at once", "one after another", "with leftovers", "under seqsup"
)  # fmt: skip
_SIZE, _LEFTOVER = 600 / 1024, 256 / 1024  # of the limit: beside two leftover processes, an agent does not fit
_HOLD = 0.2  # seconds
_WALL = 60.0  # seconds
_LATELY = 4096  # bytes of stderr that may hold the last words


class BenchJob(Struct, frozen=True, kw_only=True):
    """One agent, as a shell script would run it."""

    command: tuple[str, ...]
    cwd: str
    env: dict[str, str] = {}
    stdin: bytes = b""
    codes: tuple[int, ...] = (0,)  # other exit codes are a crash
    wall: float | None = _WALL  # seconds


class Bench(Struct, frozen=True, kw_only=True):
    """The agents of a benchmark."""

    plain: tuple[BenchJob, ...]
    leaving: tuple[BenchJob, ...]  # the same, each with its leftover processes
    profile: str  # of the latter
    task: str = ""


class Row(Struct, frozen=True, kw_only=True):
    """Result of one way to run the agents."""

    way: str
    agents: int
    crashed: int
    peak: int | None  # bytes of all together
    seconds: float
    why: str = ""  # the last words of one that crashed


def stub_size(limit: int) -> int:
    """Return the memory of a test agent in bytes: of two of them, one crashes."""
    return int(limit * _SIZE) // MIB * MIB


def of_stubs(count: int, limit: int, folder: Path) -> Bench:
    """Return as many test agents, for a limit in bytes. Their profile is written to `folder`."""
    size = stub_size(limit) // MIB
    program = (sys.executable, "-S", "-E", bench_agent_main.__file__, str(size), str(_HOLD))
    plain, leaving = (
        BenchJob(command=words, cwd=str(folder)) for words in (program, (*program, str(int(limit * _LEFTOVER) // MIB)))
    )
    lines = [
        'name = "bench"', "[run]", 'on_failure = "continue"', "[retry]", "attempts = 1",
        "[memory]", f'hard = "{size * 7 // 6}MiB"', f'host_floor = "{limit // 32}"',
        "[drain]", f'available = "{limit // 16}"',
    ]  # fmt: skip
    for number in range(1, count + 1):
        lines += ["[[agents]]", f'name = "a{number}"', f"command = {json.dumps(leaving.command)}"]
    profile = folder / "bench.toml"
    profile.write_text("\n".join(lines) + "\n")
    return Bench(plain=(plain,) * count, leaving=(leaving,) * count, profile=str(profile))


def of_plan(plan: Plan, folder: Path) -> Bench:
    """Return a profile's own agents. {artifacts} is `folder`, and summaries are empty.

    SeqsupError: an agent runs as another user.
    """
    assert plan.profile is not None
    if step := next((step for step in plan.steps if step.account is not None), None):
        raise SeqsupError(f"{step.name} runs as another user (run.user), which bench cannot do: leave run.user out")
    secrets = secrets_of(plan)
    jobs = tuple(_job(step, folder, secrets) for step in plan.steps)
    return Bench(plain=jobs, leaving=jobs, profile=plan.profile, task=plan.task)


def _job(step: Step, folder: Path, secrets: Mapping[str, str]) -> BenchJob:
    def value(name: str, argument: str | None) -> str:
        return secrets[argument or ""] if name == SECRET else str(folder) if name == "artifacts" else ""

    def final(text: str) -> str:
        return finish(text, value)

    stdin = final(step.stdin or "").encode() if step.stdin_file is None else Path(step.stdin_file).read_bytes()
    return BenchJob(
        command=tuple(map(final, step.command)), cwd=step.cwd, stdin=stdin, codes=step.success.codes,
        env={name: final(value) for name, value in step.env.items()}, wall=step.timeouts.wall,
    )  # fmt: skip


def measure(bench: Bench, chosen: Chosen, limit: int, folder: Path) -> Iterator[Row]:
    """Run the agents in each way, all of them below a limit in bytes, and yield its row.

    When the generator is closed, no process of it is left. SeqsupError: seqsup refused the profile. OSError: an agent
    cannot be started.
    """
    for number, way in enumerate(WAYS):
        with closing(Box(chosen, f"bench-{number}", limit)) as box:
            run = _Run(box, folder)
            began = time.monotonic()
            crashed = run.supervised(bench) if way == SUPERVISED else run.by_script(way, bench)
            seconds = time.monotonic() - began
            yield Row(
                way=way, agents=len(bench.plain), crashed=crashed, peak=box.peak, seconds=seconds,
                why=run.last_words() if crashed else "",
            )  # fmt: skip


class _Run:
    """One way, in one box. Every program gets a session of its own, so that a Ctrl-C reaches this process alone."""

    def __init__(self, box: Box, folder: Path) -> None:
        self._box, self._folder = box, folder
        self._stderr = folder / "stderr"
        self._stderr.write_bytes(b"")

    def by_script(self, way: str, bench: Bench) -> int:
        """Run the agents as a script would. Return how many crashed."""
        if way == AT_ONCE:
            return self._crashed(bench.plain)
        crashed = 0
        for job in bench.leaving if way == WITH_LEFTOVERS else bench.plain:
            crashed += self._crashed([job])
            if way == ONE_BY_ONE:
                self._box.stop()
        return crashed

    def _crashed(self, jobs: Sequence[BenchJob]) -> int:
        began = time.monotonic()
        running = [self._start(job.command, job.cwd, {**os.environ, **job.env}, job.stdin) for job in jobs]
        while any(process.poll() is None for process in running):
            self._box.look()
            for job, process in zip(jobs, running, strict=True):
                if job.wall is not None and time.monotonic() - began > job.wall:
                    process.kill()
            time.sleep(TICK)
        return sum(process.returncode not in job.codes for job, process in zip(jobs, running, strict=True))

    def supervised(self, bench: Bench) -> int:
        """Run the profile by `seqsup start`, with a state folder of its own. Return how many did not complete."""
        env = {**os.environ, "SEQSUP_STATE_DIR": str(self._folder / "state"), "SEQSUP_METRICS_LISTEN": "none"}
        task = ("--task", bench.task) if bench.task else ()
        command = (sys.executable, "-m", "seqsup", "start", "--json", *task, bench.profile)
        events = self._folder / "events"
        process = self._start(command, str(Path.cwd()), env, b"", stdout=events)
        while process.poll() is None:
            self._box.look()
            time.sleep(TICK)
        told = [json.loads(line) for line in events.read_text().splitlines()]
        if not any(event["event"] == "run_started" for event in told):
            words = tail(self._stderr, _LATELY).decode(errors="replace").strip().replace("seqsup: ", "")
            raise SeqsupError(f"seqsup start exited with {process.returncode}:\n{words}")
        completed = [event for event in told if event["event"] == "agent_ended" and event["ok"]]
        return len(bench.plain) - len(completed)

    def _start(
        self, command: Sequence[str], cwd: str, env: dict[str, str], stdin: bytes, stdout: Path = Path(os.devnull)
    ) -> "subprocess.Popen[bytes]":
        given = self._folder / "stdin"
        given.unlink(missing_ok=True)  # an agent at once with this one may still read its own
        given.write_bytes(stdin)
        words = self._box.enter(command, tuple(env))
        with given.open("rb") as read, stdout.open("wb") as out, self._stderr.open("ab") as errors:
            return subprocess.Popen(
                words, cwd=cwd, env=env, stdin=read, stdout=out, stderr=errors, start_new_session=True
            )

    def last_words(self) -> str:
        return next(iter(tail(self._stderr, _LATELY).decode(errors="replace").strip().splitlines()[-1:]), "")
