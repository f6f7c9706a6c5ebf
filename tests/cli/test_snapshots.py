"""Whole sessions of the real command line as a person reads them, compared with tests/snapshots.

SEQSUP_SNAPSHOTS=write renews them; the change is then seen in `git diff`.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from helpers.paths import NO_NODE, ROOT
from helpers.told import Told, process
from helpers.written import Written
from seqsup.model.reason import Reason
from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import JobResult, NewJob, Order
from seqsup.units import MIB

SNAPSHOTS = ROOT / "tests" / "snapshots"
HERE = "/home/maria/projects"  # as long as the folder that it replaces, or lines would break elsewhere
PROFILE = """\
[memory]
hard = "1GiB"
host_floor = "none"
[drain]
available = "none"
threshold = "1GiB"
[retry]
attempts = 2
wait = "50ms"
[run]
on_failure = "continue"

[[agents]]
name = "triage"
command = ["sh", "-c", "echo three issues; sleep 0.3"]
[[agents]]
name = "embed"
command = ["sh", "-c", "echo trouble >&2; sleep 0.3; exit 3"]
[[agents]]
name = "publish"
command = ["true"]
needs = ["embed"]
[[agents]]
name = "servers"
command = ["sh", "-c", "sleep 1000 & sleep 0.3; echo done"]
"""


def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="seqsup-", dir="/tmp") as name:
        assert len(name) == len(HERE)
        yield Path(name)


here = pytest.fixture(_folder)


class Session:
    """A terminal of which all is kept: commands, what they print, their exit codes."""

    def __init__(self, here: Path, env: Mapping[str, str]) -> None:
        self.here = here
        self._env = env
        self._told: list[str] = []

    def printed(self, line: str, **env: str) -> str:
        """Return what a command prints, its stderr behind its stdout."""
        ended = self._ended(line, env)
        return ended.stdout + ended.stderr

    def _ended(self, line: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seqsup", *shlex.split(line)], cwd=self.here, env={**self._env, **env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def type(self, line: str, **env: str) -> None:
        ended = self._ended(line, env)
        told = [f"$ {' '.join((*(f'{name}={value}' for name, value in env.items()), 'seqsup', line))}"]
        told += ended.stdout.splitlines() + [f"2| {text}" for text in ended.stderr.splitlines()]
        told += [f"[exit {ended.returncode}]"] if ended.returncode else []
        self._told.append("\n".join(told) + "\n")

    def text(self, normal: Callable[[str], str]) -> str:
        return normal("\n".join(self._told).replace(str(self.here), HERE))


def dated(text: str) -> str:
    """Without what the clock and the processes of the day add."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2026-11-25 02:00", text)
    text = re.sub(r"[\d.:]+( ms| s)? ago", "5 s ago", text)
    text = re.sub(r"(?<=running  ) +[\d.]+ m?s(?=  )", "       5 s", text)
    return re.sub(r"(?<=, for )[\d.]+ m?s|(?<=completed · )[\d.]+ m?s(?= · highest)", "5 s", text)


def measured(text: str) -> str:
    """Without what a run takes: times, sizes, pids, and the columns that these make; nor other programs' agents."""
    text = re.sub(r"(?s)\n(no agent CLI|outside of seqsup,).*?(?=\n(<dim>)?host:)", "\nagents elsewhere", text)
    text = re.sub(r"\d\d:\d\d:\d\d", "02:00:00", dated(text))
    text = re.sub(r"\b[\d.]+ m?s\b", "1 s", text)
    text = re.sub(r"\b[\d.]+ ([KMG]i)?B\b", "1 MiB", text)
    text = re.sub(r"(?<=pid )\d+", "4711", re.sub(r"\d+ %", "1 %", text))
    return re.sub(r"(?<=\S)  +", "  ", re.sub(r"  peak 1 MiB of 1 MiB", "", text))


def clocked(text: str) -> str:
    """Without the times of jobs."""
    text = re.sub(r"\b\d\d:\d\d\b", "02:00", dated(text))
    return re.sub(r"(?<=  ) *[\d.]+ m?s(?=  )", "5 s", text)


@pytest.fixture
def session(here: Path, test_id: str) -> Session:
    (here / "bin").mkdir()
    for name in ("sh", "sleep", "true"):
        (here / "bin" / name).symlink_to(f"/bin/{name}")
    env = {
        "PATH": f"{here}/bin", "PYTHONPATH": f"{NO_NODE}:{ROOT / 'supervisor'}", "HOME": str(here), "TZ": "UTC",
        "LC_ALL": "C.UTF-8", "COLUMNS": "80", "SEQSUP_STATE_DIR": str(here / "state"), "SEQSUP_TIER": "subreaper",
        "SEQSUP_METRICS_LISTEN": "none", "SEQSUP_TEST": test_id, "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"],
    }  # fmt: skip
    return Session(here, env)


def hold_to(name: str, text: str) -> None:
    """Require that the text equals its snapshot exactly."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("SEQSUP_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == (path.read_text() if path.exists() else ""), f"SEQSUP_SNAPSHOTS=write renews {path.name}"


# -- what runs have left


def failed() -> Told:
    told = Told().run("triage", "embed", "publish", "servers")
    told.attempt("triage", peak=374 * MIB, hard=1024 * MIB, seconds=445).drained("triage", seconds=0.4).agent_ended(
        "triage"
    )
    why = "its tree was over 768 MiB for 3 s (memory.soft)"
    held = (process(4712, "node embed.js", 589 * MIB), process(4713, "chrome", 237 * MIB))
    for number in (1, 2):
        told.attempt(
            "embed", Reason.SOFT, number=number, why=why, peak=1031 * MIB, hard=1024 * MIB, seconds=424, processes=held
        )
        told.drained("embed", number, seconds=1.2)
        if number == 1:
            told.retry("embed")
    told.agent_ended("embed", Reason.SOFT, why=why, attempts=2).skipped(
        "publish", "it needs embed, which did not complete"
    )
    told.attempt(
        "servers", peak=46 * MIB, hard=1024 * MIB, seconds=0.6, left_over=(process(4720, "server-files", 30 * MIB),)
    )
    return told.drained("servers").agent_ended("servers").run_ended(1)


def completed() -> Told:
    told = Told("weekly").run("triage", "report", profile="weekly.toml")
    for agent in ("triage", "report"):
        told.attempt(agent, peak=374 * MIB, hard=1024 * MIB, seconds=445).drained(agent).agent_ended(agent)
    return told.run_ended(0)


LOOKS = (
    "status", "status weekly", "runs", "logs", "logs embed --attempt 1", "artifacts list", "artifacts show",
    "artifacts summary triage", "doctor --run nightly", "stop", "pause", "resume",
)  # fmt: skip


@pytest.fixture
def past(session: Session) -> Iterator[Written]:
    written = Written(session.here / "state")
    written.run(completed(), profile=str(session.here / "weekly.toml"))
    nightly = written.run(failed(), profile=str(session.here / "nightly.toml"))
    written.printed(nightly, "triage/1", "three issues\n")
    written.printed(nightly, "servers/1", "done\n")
    for number in (1, 2):
        written.printed(nightly, f"embed/{number}", "embedding …\n", f"trouble {number}\n")
    yield written
    written.close()


@pytest.mark.parametrize(
    ("name", "env"), [("past", {}), ("past-narrow", {"COLUMNS": "40"}), ("past-ascii", {"LC_ALL": "C"})]
)
def test_snapshot_of_past_runs(session: Session, past: Written, name: str, env: dict[str, str]) -> None:
    for line in LOOKS:
        session.type(line, **env)
    hold_to(name, session.text(dated))


# -- every command on terminals of three widths, with and without colour


WEEKLY = """\
[memory]
hard = "1GiB"
[[agents]]
name = "triage"
command = ["sh", "-c", "echo triaged"]
[[agents]]
name = "report"
command = ["sh", "-c", "echo {task}"]
needs = ["triage"]
[[agents]]
name = "file"
for_each = ["a.md", "b.md", "c.md"]
command = ["sh", "-c", "echo {item}"]
"""
SHOWN = {
    "status": ("status nightly", "status r9"), "runs": ("runs",), "logs": ("logs nightly",), "mem": ("mem",),
    "plan": ("plan weekly.toml --task x",), "doctor": ("doctor --run nightly", "doctor no.toml --run r1"),
    "tune": ("tune weekly.toml",), "sweep": ("sweep --dry-run",),
    "artifacts": ("artifacts list nightly", "artifacts show nightly"),
    "stop": ("stop", "stop nightly", "pause", "resume"), "events": ("events r9",), "report": ("report r9",),
    "start": ("start no.toml", "start weekly.toml", "start weekly.toml --resume r9"),
    "run": ("run -- no-such-program", "run --hard 4 -- true"), "notify": ("notify --test weekly.toml",),
    "init": ("init --example", "init weekly.toml", "init --example demmo"), "help": ("-h", "start -h", "ps"),
    "queue": ("queue", "queue -h"), "add": ("add no.toml", "add --at soon -- true", "status '#2'", "stop j9"),
    "grafana": ("grafana nightly.toml",), "schema": ("schema extra",), "completion": ("completion tcsh",),
}  # fmt: skip
MARKS = {"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "0": "/"}


def readable(text: str) -> str:
    """With `<red>hard</>` for an escape sequence that colours; any other stays."""
    return re.sub(r"\x1b\[(\d+)m", lambda code: f"<{MARKS.get(code[1], code[1])}>", text)


def _queued(state_dir: Path) -> None:
    """Leave a queue with a job of each state. The times are those of `dated`."""
    order = Order(folder="/", command=("true",))
    with closing(EmbeddedQueue(state_dir)) as queue:
        jobs = [NewJob(name=name, order=order) for name in ("smoke", "nightly", "build")]
        jobs += [NewJob(name="deploy", order=order, after=(1,)), NewJob(name="report", order=order, after=(2, 3))]
        jobs += [NewJob(name="claude: fix the flaky test of the search page", order=order, not_before=4_000_000_000.0)]
        jobs += [NewJob(name="spare", order=order), NewJob(name="lint", order=order)]
        queue.add(jobs)
        queue.drop(7)
    with closing(QueueFile(state_dir)) as file:
        worker = Desk(state_dir, file, "maria-laptop")
        for code, why in ((1, "agent smoke failed: it exited with 3"), (0, "")):
            job = worker.take()
            assert job is not None
            worker.finish(job, JobResult(exit_code=code, run=f"r{job.number}", why=why))
        running = worker.take()
        assert running is not None
        worker.begin(running, "r7", str(state_dir))
        worker.note(running, "compile: 3 of 7, 61 % of memory.hard")


@pytest.fixture
def looked_at(session: Session) -> Iterator[Session]:
    (session.here / "weekly.toml").write_text(WEEKLY)
    (session.here / "nightly.toml").write_text(PROFILE)
    written = Written(session.here / "state")
    for _ in range(3):
        written.run(completed(), profile=str(session.here / "weekly.toml"))
    nightly = written.run(failed(), profile=str(session.here / "nightly.toml"))
    written.printed(nightly, "triage/1", "three issues\n")
    written.printed(nightly, "embed/2", "embedding …\n", "trouble\n")
    written.printed(nightly, "servers/1", "done\n")
    dead = written.run(Told("monthly").run("triage").started("triage"), profile=str(session.here / "monthly.toml"))
    written.live(dead)
    written.die(dead)
    _queued(session.here / "state")
    yield session
    written.close()


@pytest.mark.parametrize("command", SHOWN)
def test_command_fits_each_width_and_colour_changes_no_text(looked_at: Session, command: str) -> None:
    normal, told = {"mem": measured, "queue": clocked}.get(command, dated), list[str]()
    for width in (100, 80, 40):
        for line in SHOWN[command]:
            coloured, plain = (
                looked_at.printed(line, COLUMNS=str(width), **wish)
                for wish in ({"FORCE_COLOR": "1"}, {"NO_COLOR": "1"})
            )
            assert normal(re.sub("<(?:/|[a-z]+)>", "", readable(coloured))) == normal(plain)
            assert "\x1b" not in readable(coloured) + plain
            told.append(f"== {width} columns: seqsup {line}\n{normal(readable(coloured))}")
    hold_to(f"widths-{command}", "\n".join(told).replace(str(looked_at.here), HERE))


# -- what runs now, or does not


def test_snapshot_before_the_first_run(session: Session) -> None:
    (session.here / "nightly.toml").write_text(PROFILE)
    for line in ("status", "runs", "logs", "events", "report", "artifacts list", "artifacts clean --days 7", "stop",
                 "pause", "resume", "sweep", "tune nightly.toml", "start nightly.toml --retry-failed",
                 "status nightly.toml", "doctor --run r1"):  # fmt: skip
        session.type(line)
    hold_to("nothing-yet", session.text(dated))


def test_snapshot_of_an_active_or_dead_run(session: Session) -> None:
    written = Written(session.here / "state")
    told = Told().run("triage", "embed", "report").attempt("triage", peak=374 * MIB, seconds=445).drained("triage")
    number = written.run(told.agent_ended("triage").started("embed"), profile=str(session.here / "nightly.toml"))
    written.live(number)
    for line in ("status", "runs", "artifacts list", "sweep"):
        session.type(line)
    written.die(number)
    for line in ("status", "runs", "sweep --dry-run"):
        session.type(line)
    written.close()
    hold_to("going-on-and-died", session.text(dated))


# -- real runs


def test_snapshot_of_plan_and_run(session: Session) -> None:
    (session.here / "nightly.toml").write_text(PROFILE)
    session.type("plan nightly.toml")
    session.type("plan nightly.toml -v")
    session.type("plan nightly.toml -v", COLUMNS="40")
    session.type("plan nightly.toml --only embed --from triage")
    hold_to("plan", re.sub(r"\n +better: .*?(?=\n {3}profile)", "", session.text(dated), flags=re.DOTALL))


def test_snapshot_of_a_profile_that_runs(session: Session) -> None:
    (session.here / "nightly.toml").write_text(PROFILE)
    for line in ("start nightly.toml", "start nightly.toml --resume", "start nightly.toml --retry-failed --quiet",
                 "start nightly.toml --only triage", "start nightly.toml --from servers --follow",
                 "run -- sh -c 'echo hello; sleep 0.3; exit 4'", "run -- true"):  # fmt: skip
        session.type(line, COLUMNS="200")
    hold_to("start", session.text(measured))


# -- mistakes


MISTAKES = (
    "strat", "--jsn", "status --jsn", "status a b", "status nigthly", "status r9", "ps", "start bin", "start no.toml",
    "start . --only", "start nightly.toml --only embde", "start nightly.toml --from embde",
    "start nightly.toml --resume r9", "start nightly.toml --progress fast", "start nightly.toml --follow --json",
    "plan nightly.toml --only triage --from publish", "run --", "run -- no-such-program",
    "run --hard big -- true", "run --soft 2G --hard 1G -- true", "run --timeout soon -- true",
    "run --retries -1 -- true", "run --name 'a b' -- true", "logs --attempt 0", "logs embde", "logs embed --attempt 7",
    "mem abc", "mem 4194305", "mem --threshold big", "mem --gc 1", "artifacts lis", "artifacts show embde",
    "artifacts show embed --file no.md", "artifacts show --file no.md", "artifacts put --summary well",
    "add", "add no.toml", "add a.toml b.toml", "add --", "add --after x -- true", "add --after 9 -- true",
    "add --at 25:00 -- true", "add --priority 1000 -- true", "add --queue mysql://host/db -- true",
    "queue dropp", "queue drop 9", "queue drop x", "queue move 1", "queue --watch", "status '#9'",
    "artifacts clean", "artifacts clean --days x", "report --json --openmetrics", "report -o no/where.html",
    "doctor --run r9", "doctor nightly.toml --run r2", "init --preset claud", "init nightly.toml",
    "init bin --systemd", "tune no.toml", "completion tcsh", "status --watch",
)  # fmt: skip


def test_snapshot_of_mistakes_on_the_command_line(session: Session, past: Written) -> None:
    (session.here / "nightly.toml").write_text(PROFILE)
    for line in MISTAKES:
        session.type(line)
    hold_to("mistakes", session.text(dated))


WRONG = {
    "words": """nmae = "nightly"
[run]
mode = "paralel"
on_failure = 7
[memory]
hard = "lots"
soft = "2GiB"
[retry]
on = ["heap-oom", "sof"]
[[agents]]
name = "a b"
command = "true"
[[agents]]
name = "b"
command = ["no-such-program"]
needs = ["c"]
[[agents]]
name = "b"
command = ["true"]
timeouts = { wall = "soon" }
""",
    "empty": "",
    "broken": '[[agents]\nname = "a"\n',
    "circle": """[[agents]]
name = "a"
command = ["true"]
needs = ["b"]
[[agents]]
name = "b"
command = ["true"]
needs = ["a"]
""",
}


def test_snapshot_of_mistakes_in_a_profile(session: Session) -> None:
    for name, text in WRONG.items():
        (session.here / f"{name}.toml").write_text(text)
        session.type(f"plan {name}.toml")
    (session.here / "latin.toml").write_bytes('name = "né"\n'.encode("latin-1"))
    for line in ("plan latin.toml", "plan bin", "plan /dev/null"):
        session.type(line)
    hold_to("profile-mistakes", session.text(dated))


# -- a first profile, and help


def test_snapshot_of_what_init_writes(session: Session) -> None:
    session.type("init")
    session.type("init")
    (session.here / "bin" / "claude").symlink_to("/bin/true")
    session.type("init --force --prompt 'Fix the tests' --prompt 'Say what you did'")
    hold_to("init", f"{session.text(dated)}\n== agents.toml\n{(session.here / 'agents.toml').read_text()}")


def test_snapshot_of_help(session: Session) -> None:
    """Two pages only: docs/reference/cli.md, which is made from the code, has all of them."""
    session.type("")
    session.type("start -h")
    hold_to("help", session.text(dated))
