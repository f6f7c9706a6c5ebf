"""kill -9 of supervisors at random moments: nothing lives on, nothing is lost, nothing done is done again.

A seed decides agents, moments and victims. Under CI its cases are 500 kills. A failure shows the seed, as the test's
name, and what was done until then.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.crashes import bodies, ledger, running
from helpers.profiles import shell, write
from helpers.waiting import alive, wait_for
from seqsup.model.events import AttemptEnded, LeaderEnded, RunEnded
from seqsup.model.history import fold
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import NoJournal

MODES = ("single", "lanes", "detached", "racing", "suspended")
KILLS, SEEDS = 10, 10  # of each case, and of each mode: 500 kills
CASES = [
    *(pytest.param(mode, 0, 2, id=f"{mode}-quick") for mode in MODES),
    *(
        pytest.param(mode, seed, KILLS, marks=pytest.mark.long, id=f"{mode}-{seed}")
        for mode in MODES
        for seed in range(1, SEEDS + 1)
    ),
]


class Fuzz:
    """One run after another, each killed until it completes or the kills are used up."""

    def __init__(
        self, mode: str, seed: int, kills: int, folder: Path, test_id: str, seqsup: Callable[..., Result],
        started: Callable[..., Started],
    ) -> None:  # fmt: skip
        self._random = random.Random(f"{mode} {seed}")
        self._mode, self._kills, self._top, self._test_id = mode, kills, folder, test_id
        self._seqsup, self._started = seqsup, started
        self._folder, self._run = folder, 0
        self._names: tuple[str, ...] = ()
        self._done: dict[str, int] = {}  # how often an agent was in the ledger when its end was first seen
        self.story: list[str] = []

    def carry_out(self) -> None:
        while self._kills > 0:
            self._run += 1
            self._new_profile()
            while self._kills > 0 and not self._over():
                getattr(self, f"_{self._mode}")()
                self._look()
            self._complete()

    # -- the run

    def _new_profile(self) -> None:
        """Write a few quick agents. Each says so in the ledger when it reaches its end."""
        self._folder, self._done = self._top / f"fuzz-{self._run}", {}
        self._folder.mkdir()
        self._names = tuple(f"a{number}" for number in range(self._random.randint(4, 8)))
        agents = []
        for name in self._names:
            script = f"sleep {self._random.uniform(0.01, 0.3):.2f}; echo {name} >>ledger"
            kind = self._random.choice(["plain", "leaves", "leaves", "deserts", "fails first"])
            if kind == "leaves":
                script = f"sleep 60 & {script}"
            elif kind == "deserts":
                script = f"setsid sh -c 'sleep 60' & {script}"
            elif kind == "fails first":
                script = f"[ -e tried-{name} ] || {{ touch tried-{name}; exit 3; }}; {script}"
            agents.append(shell(name, script))
        lanes = {"concurrency": 2, "allow_concurrency": True} if self._mode == "lanes" else {}
        self._profile = write(
            self._folder, *agents, name=f"fuzz-{self._run}", run=lanes, retry={"attempts": 2},
            memory={"hard": "64MiB"} if lanes else {},
        )  # fmt: skip

    def _journal(self) -> Journal | None:
        try:
            return Journal.open(Path(os.environ["SEQSUP_STATE_DIR"]))
        except NoJournal:
            return None

    def _begun(self) -> bool:
        journal = self._journal()
        return journal is not None and any(row.name == self._profile.stem for row in journal.runs())

    def _over(self) -> bool:
        journal = self._journal()
        rows = [row for row in journal.runs() if row.name == self._profile.stem] if journal is not None else []
        return bool(rows) and journal is not None and fold(journal.events(rows[-1].run)).ended is not None

    def _arguments(self) -> list[object]:
        return ["start", self._profile, *(["--resume"] if self._begun() else [])]

    # -- the kills

    def _single(self) -> None:
        self._kill(self._start(), self._moment())

    _lanes = _single

    def _detached(self) -> None:
        begun = self._seqsup(*self._arguments(), "--detach")
        self.story.append(f"detached {begun.code}")
        if begun.code == 0 and "pid " in begun.stderr:
            pid = int(begun.stderr.partition("in the background, pid ")[2].split()[0])
            self._sleep(self._random.uniform(0, 1.0))
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
                self._killed(pid)
                wait_for(lambda: not alive(pid))

    def _racing(self) -> None:
        """Two resume at once. Both are killed, one after the other."""
        if not self._begun():
            return self._single()
        both = [self._start(), self._start()]
        self._random.shuffle(both)
        self._kill(both[0], self._moment())
        self._kill(both[1], self._moment() / 2)
        return None

    def _suspended(self) -> None:
        """It is stopped, another resumes, it continues or not, and is killed; then the other one too."""
        first = self._start()
        self._sleep(self._moment())
        if first.process.poll() is not None:
            return
        begun = self._begun()  # asked before: stopped, it may keep the journal locked
        first.send(signal.SIGSTOP)
        second = self._start("--resume") if begun else None
        self._sleep(self._random.uniform(0, 0.6))
        if self._random.random() < 0.7:
            first.send(signal.SIGCONT)
            self._sleep(self._random.uniform(0, 0.2))
        self._kill(first, 0)
        if second is not None:
            self._kill(second, self._moment())

    def _start(self, *more: object) -> Started:
        arguments = ["start", self._profile, *more] if more else self._arguments()
        started = self._started(*arguments)
        self.story.append(f"{started.pid}: {' '.join(map(str, arguments[2:])) or 'start'}")
        return started

    def _moment(self) -> float:
        """Seconds from the start of a supervisor to its kill; the first third of one is its own start."""
        return self._random.uniform(0, 1.2)

    def _sleep(self, seconds: float) -> None:
        self.story.append(f"{seconds:.3f} s")
        time.sleep(seconds)

    def _kill(self, started: Started, after: float) -> None:
        self._sleep(after)
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
            self._killed(started.pid)
        else:
            assert started.process.returncode in (0, 3), started.stderr

    def _killed(self, pid: int) -> None:
        self._kills -= 1
        self.story.append(f"killed {pid}")

    # -- what must hold

    def _look(self) -> None:
        """Look at the journal and the ledger: what had ended has not run since, and its end is still there."""
        if self._random.random() < 0.3:
            swept = self._seqsup("sweep")
            assert swept.code == 0, swept.stderr
            assert running(self._test_id) == []
        done = self._ended()
        assert done.keys() >= self._done.keys(), "lost"
        written = ledger(self._folder)
        for name in done:
            assert written[name] >= 1, f"{name} is said to have completed"
            assert written[name] == self._done.setdefault(name, written[name]), f"{name} ran again"

    def _ended(self) -> Counter[str]:
        """How often the journal has each agent's end."""
        journal = self._journal()
        rows = [row for row in journal.runs() if row.name == self._profile.stem] if journal is not None else []
        assert len(rows) <= 1
        found: dict[tuple[str, int], str] = {}
        for row in rows:
            assert journal is not None
            for body in bodies(journal.events(row.run)):
                if (isinstance(body, AttemptEnded) and body.ok) or isinstance(body, LeaderEnded):
                    found[body.agent, body.attempt] = body.agent
        return Counter(found.values())

    def _complete(self) -> None:
        resumed = self._seqsup(*self._arguments())
        assert resumed.code == 0, resumed.stderr
        self._look()
        assert self._ended() == dict.fromkeys(self._names, 1)
        assert running(self._test_id) == []
        journal = self._journal()
        assert journal is not None
        journal.check()
        events = list(journal.events(journal.runs()[-1].run))
        last = events[-1].body
        assert isinstance(last, RunEnded)
        assert (last.exit_code, last.completed, fold(events).sequence_violations) == (0, len(self._names), 0)


@pytest.mark.parametrize(("mode", "seed", "kills"), CASES)
def test_supervisor_killed_at_random_moments_loses_and_repeats_nothing(
    seqsup: Callable[..., Result], seqsup_started: Callable[..., Started], tmp_path: Path, test_id: str, mode: str,
    seed: int, kills: int,
) -> None:  # fmt: skip
    fuzz = Fuzz(mode, seed, kills, tmp_path, test_id, seqsup, seqsup_started)
    try:
        fuzz.carry_out()
    finally:
        print(f"{mode}, seed {seed}:", *fuzz.story, sep="\n  ")
