"""The live view of a run that another process supervises: `status --watch`. It reads what that one writes."""

import sys
import time
from contextlib import ExitStack
from typing import BinaryIO

import click

from seqsup.cli.find_run import Found, follow
from seqsup.host.machine import total
from seqsup.model.enums import Halt
from seqsup.model.events import AttemptStarted
from seqsup.model.history import History
from seqsup.model.run_view import Now
from seqsup.state.samples import FILE, lines
from seqsup.view.last_line import LastLines
from seqsup.view.live_frame import Pulse, Scene, frame
from seqsup.view.screen import Screen
from seqsup.view.terminal import redrawable

_LOOKED_EVERY = 0.5  # seconds


def watch(found: Found) -> None:
    """Show the run until it ends, and take the view away again."""
    if not redrawable():
        raise click.UsageError("--watch needs a terminal, without CI and TERM=dumb; use `seqsup events -f`")
    history = History()
    history.view.name = found.row.name
    keys = dict.fromkeys(Halt, "Ctrl-C: stop watching (the run continues)")
    scene = Scene(view=history.view, host=total(), places=(f"seqsup logs {found.label}",), keys=keys)
    screen, output = Screen(sys.stdout), LastLines(found.folder)
    with ExitStack() as closing:
        closing.callback(screen.close)
        timeline: BinaryIO | None = None
        for batch in follow(found, _LOOKED_EVERY):
            for recorded in batch:
                history.apply(recorded)
                if isinstance(recorded.body, AttemptStarted):
                    scene.begin(recorded.body.agent)
            if timeline is None and (found.folder / FILE).exists():
                timeline = closing.enter_context((found.folder / FILE).open("rb"))
            if timeline is not None:
                _read_on(timeline, scene)
            scene.listen(output)
            screen.draw(frame(scene, Now(time.time(), time.monotonic()), screen.canvas))


def _read_on(timeline: BinaryIO, scene: Scene) -> None:
    """Take in what was sampled of the attempts that run."""
    for sampled in lines(timeline):
        agent = scene.view.agents.get(sampled.agent)
        if agent is None or sampled.attempt != agent.attempt:
            continue
        pulse = scene.pulses.setdefault(sampled.agent, Pulse())
        pulse.add(sampled.mono, sampled.used, sampled.peak, sampled.processes, sampled.host_available)
        pulse.programs, pulse.heap = sampled.programs, sampled.heap
        pulse.conversation = sampled.conversation or pulse.conversation
