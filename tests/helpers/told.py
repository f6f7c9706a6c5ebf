"""Histories for tests, told event by event: `Told().run("a").attempt("a").agent_ended("a").run_ended(0).events`."""

from typing import Any

from seqsup.model.conversation import Conversation
from seqsup.model.enums import Halt, OnTimeout, Verdict
from seqsup.model.events import (
    AgentEnded,
    AgentSkipped,
    AnyEvent,
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    ChainEnded,
    Drained,
    HaltRequested,
    LimitPaused,
    Recorded,
    RetryScheduled,
    RunEnded,
    RunStarted,
    Spawned,
)
from seqsup.model.outcome import Exit, Leak, Outcome
from seqsup.model.process import Collection, Heap, ProcessMemory
from seqsup.model.reason import Reason
from seqsup.units import MIB

BEGAN = 1_795_000_000.0  # epoch


def collected(freed: int = 0, *, asked: int = 1, answered: int = 1, verdict: Verdict = Verdict.GARBAGE) -> Collection:
    heap = Heap(used=1, total=2, limit=3, external=4, array_buffers=5)
    return Collection(
        at=0.0, seconds=0.1, asked=asked, answered=answered, before=heap, after=heap, used=9, freed=freed,
        verdict=verdict,
    )  # fmt: skip


def process(pid: int, command: str = "server", size: int = MIB) -> ProcessMemory:
    return ProcessMemory(pid=pid, name=command.split()[0].rsplit("/")[-1], command=command, bytes=size)


class Told:
    """Every event takes a second, or as long as the `clock` is put forward."""

    def __init__(self, name: str = "nightly", tick: float = 1.0) -> None:
        self.name = name
        self.events: list[Recorded] = []
        self.clock = 0.0
        self._tick = tick

    def tell(self, body: AnyEvent) -> "Told":
        self.clock += self._tick
        self.events.append(
            Recorded(run="r42", seq=len(self.events) + 1, at=BEGAN + self.clock, mono=self.clock, body=body)
        )
        return self

    def run(
        self,
        *agents: str,
        resumed: bool = False,
        before: tuple[str, ...] = (),
        skips: dict[str, str] | None = None,
        boot_id: str = "boot",
        profile: str | None = "nightly.toml",
    ) -> "Told":
        return self.tell(
            RunStarted(
                name=self.name,
                profile=profile,
                task="",
                agents=agents,
                skips=skips or {},
                supervisor=4711,
                boot_id=boot_id,
                version="1",
                containment="subreaper",
                resumed=resumed,
                completed_before=before,
                taken_over={},
                again={},
                expected={},
                waited=0.0,
                concurrency=1,
                listen=None,
                file_sd=None,
                python="3",
                only=(),
                start_from=None,
                gone=(),
            )
        )

    def halt(self, halt: Halt) -> "Told":
        return self.tell(HaltRequested(halt=halt, by="SIGINT"))

    def attempt_started(
        self, agent: str, number: int = 1, hard: int | None = None, heap: int | None = None, lane: int = 1,
        companions_before: int | None = None, session: str = "", resumed: bool = False,
    ) -> "Told":  # fmt: skip
        return self.tell(
            AttemptStarted(
                agent=agent,
                attempt=number,
                content=f"content of {agent}",
                command=("node", f"{agent}.js"),
                soft=None if hard is None else hard * 3 // 4,
                hard=hard,
                heap=heap,
                folder=f"{agent}/{number}",
                runtime="",
                options=(),
                lane=lane,
                host_before=2048 * MIB,
                companions_before=companions_before,
                session=session,
                resumed=resumed,
            )
        )

    def spawned(self, agent: str, number: int = 1, pid: int = 4712) -> "Told":
        return self.tell(Spawned(agent=agent, attempt=number, pid=pid, start_time=1))

    def started(self, agent: str, number: int = 1, pid: int = 4712) -> "Told":
        return self.attempt_started(agent, number).spawned(agent, number, pid)

    def ended(
        self,
        agent: str,
        reason: Reason = Reason.COMPLETED,
        *,
        number: int = 1,
        why: str = "",
        seconds: float = 1.0,
        peak: int = 10 * MIB,
        hard: int | None = None,
        exit_code: int | None = None,
        ok: bool | None = None,
        processes: tuple[ProcessMemory, ...] = (),
        left_over: tuple[ProcessMemory, ...] = (),
        leak: Leak | None = None,
        end: int | None = None,
        conversation: Conversation | None = None,
    ) -> "Told":
        return self.tell(
            AttemptEnded(
                agent=agent,
                attempt=number,
                content=f"content of {agent}",
                ok=reason is Reason.COMPLETED if ok is None else ok,
                hard=hard,
                outcome=Outcome(
                    reason=reason,
                    why=why,
                    exit=None if exit_code is None else Exit(code=exit_code, signal=None),
                    seconds=seconds,
                    peak=peak,
                    end=end,
                    conversation=conversation,
                    processes=processes,
                    left_over=left_over,
                    leak=leak,
                ),
            )
        )

    def attempt(
        self, agent: str, reason: Reason = Reason.COMPLETED, *, number: int = 1, hard: int | None = None,
        heap: int | None = None, **ending: Any,
    ) -> "Told":  # fmt: skip
        """A whole attempt; `ending` are further arguments of ended()."""
        begun = self.attempt_started(agent, number, hard, heap).spawned(agent, number)
        return begun.ended(agent, reason, number=number, hard=hard, **ending)

    def retry(self, agent: str, number: int = 2, wait: float = 1.0) -> "Told":
        return self.tell(RetryScheduled(agent=agent, attempt=number, wait=wait, after=Reason.FAILED, heap=None))

    def paused(self, agent: str, number: int = 2, wait: float = 600.0) -> "Told":
        until = BEGAN + self.clock + self._tick + wait
        return self.tell(
            LimitPaused(agent=agent, attempt=number, until=until, why="until 14:05, its limit resets then")
        )

    def agent_ended(
        self,
        agent: str,
        reason: Reason = Reason.COMPLETED,
        *,
        why: str = "",
        attempts: int = 1,
        ok: bool | None = None,
    ) -> "Told":
        return self.tell(
            AgentEnded(
                agent=agent,
                content=f"content of {agent}",
                reason=reason,
                why=why,
                attempts=attempts,
                ok=reason is Reason.COMPLETED if ok is None else ok,
                seconds=1.0,
                peak=MIB,
            )
        )

    def skipped(self, agent: str, why: str = "it needs a") -> "Told":
        return self.tell(AgentSkipped(agent=agent, why=why))

    def drained(
        self,
        agent: str,
        number: int = 1,
        *,
        seconds: float = 0.1,
        why: str = "",
        strays: tuple[ProcessMemory, ...] = (),
        gave_back: int | None = None,
    ) -> "Told":
        return self.tell(
            Drained(
                agent=agent,
                attempt=number,
                reached=not why,
                seconds=seconds,
                before=2048 * MIB,
                after=4096 * MIB,
                owned=20 * MIB,
                strays=strays,
                why=why,
                on_timeout=OnTimeout.STOP if why else None,
                gave_back=gave_back,
            )
        )

    def chain(self, number: int = 1, *, why: str = "") -> "Told":
        return self.tell(
            ChainEnded(
                chain=number,
                agents=5,
                reached=not why,
                seconds=0.1,
                baseline=4096 * MIB,
                available=4096 * MIB,
                owned=20 * MIB,
                why=why,
            )
        )

    def lost(self, agent: str, number: int = 1) -> "Told":
        return self.tell(AttemptLost(agent=agent, attempt=number, content=f"content of {agent}", stopped=()))

    def run_ended(self, code: int, *, why: str = "", seconds: float = 3912.0) -> "Told":
        return self.tell(
            RunEnded(
                exit_code=code,
                why=why,
                completed=0,
                gave_up=0,
                skipped=0,
                not_run=0,
                seconds=seconds,
                sequence_violations=0,
            )
        )
