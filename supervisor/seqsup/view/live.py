"""Shows an active run: the live view of `start`, and a line a minute where there is no terminal for it."""

import asyncio
import time
from collections.abc import Callable

from seqsup.host.machine import total
from seqsup.model.conversation import Conversation
from seqsup.model.enums import Halt
from seqsup.model.events import AttemptStarted, Recorded
from seqsup.model.plan import Plan
from seqsup.model.process import Observation
from seqsup.model.process_names import by_program
from seqsup.model.run_view import AgentState, Now, RunView
from seqsup.units import format_duration, format_size
from seqsup.view.last_line import LastLines
from seqsup.view.live_frame import Pulse, Scene, frame
from seqsup.view.progress import progress
from seqsup.view.screen import Screen

_LOOKED_EVERY, TOLD_EVERY = 0.25, 60.0  # seconds
KEYS = {
    Halt.NONE: "Ctrl-C: stop after this agent · twice: stop now · three times: kill",
    Halt.AFTER_AGENT: "Ctrl-C again: stop now · twice: kill",
    Halt.NOW: "Ctrl-C again: kill",
}


class Live:
    """A reader and observer of a run, which redraws the lines below the log."""

    def __init__(self, screen: Screen, scene: Scene, lines: LastLines) -> None:
        self._screen, self._scene, self._lines = screen, scene, lines
        self._timer = asyncio.get_running_loop().call_later(_LOOKED_EVERY, self._tick)

    def __call__(self, recorded: Recorded) -> None:
        if isinstance(recorded.body, AttemptStarted):
            self._scene.begin(recorded.body.agent)

    def observe(self, seen: Observation) -> None:
        # A first sample may come before the news that its attempt began
        follow(self._scene.pulses.setdefault(seen.agent, Pulse()), seen)

    def weigh(self, companion: tuple[str, int]) -> None:
        name, used = companion
        self._scene.beside[name] = used

    def _tick(self) -> None:
        if self._screen.due:
            self._scene.listen(self._lines)
            self._screen.draw(frame(self._scene, Now(time.time(), time.monotonic()), self._screen.canvas))
        self._timer = asyncio.get_running_loop().call_later(_LOOKED_EVERY, self._tick)

    def close(self) -> None:
        self._timer.cancel()


class Pulses:
    """For plain output: says once a minute that the agent still runs, and how large it is."""

    def __init__(self, view: Callable[[], RunView], say: Callable[[str, int | None, str], None]) -> None:
        self._view, self._say = view, say
        self._used: dict[str, int] = {}  # bytes, by agent
        self._conversations: dict[str, Conversation | None] = {}
        self._timer = asyncio.get_running_loop().call_later(TOLD_EVERY, self._tick)

    def __call__(self, recorded: Recorded) -> None:
        if isinstance(recorded.body, AttemptStarted) and len(self._view().at_turn) < 2:  # else others are due before
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(TOLD_EVERY, self._tick)

    def observe(self, seen: Observation) -> None:
        self._used[seen.agent] = seen.sample.used
        self._conversations[seen.agent] = seen.conversation

    def _tick(self) -> None:
        for agent in self._view().agents.values():
            if agent.state is AgentState.RUNNING and agent.began is not None:
                size = format_size(self._used.get(agent.name, 0)) + (
                    f" of {format_size(agent.hard)}" if agent.hard else ""
                )
                now, conversation = time.monotonic(), self._conversations.get(agent.name)
                told = [format_duration(now - agent.began), *(progress(conversation, now) if conversation else ())]
                self._say(agent.name, agent.attempt, f"{size}  {' · '.join(told)}")
        self._timer = asyncio.get_running_loop().call_later(TOLD_EVERY, self._tick)

    def close(self) -> None:
        self._timer.cancel()


def scene_of(plan: Plan, view: RunView, places: tuple[str, ...]) -> Scene:
    return Scene(
        view=view, host=total(), places=places, keys=KEYS,
        warn={step.name: step.limits.warn for step in plan.steps},
        tries={step.name: step.retry.attempts for step in plan.steps},
    )  # fmt: skip


def follow(pulse: Pulse, seen: Observation) -> None:
    sample = seen.sample
    pulse.add(sample.at, sample.used, sample.used, sample.processes, sample.host_available)
    if seen.processes is not None:
        pulse.programs = by_program(seen.processes)
    if seen.heap is not None:
        pulse.heap = seen.heap
    if seen.conversation is not None:
        pulse.conversation = seen.conversation
