"""One try at one agent: spawn, sample, decide, act, until its tree is empty."""

import asyncio
import errno
import os
import signal
import stat
import sys
import time
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from seqsup.containment import launcher
from seqsup.containment.reaper import Root
from seqsup.containment.stop import stop
from seqsup.containment.tree import Tree
from seqsup.errors import SeqsupError
from seqsup.host import users
from seqsup.host.machine import room
from seqsup.model.events import (
    AttemptEnded,
    AttemptStarted,
    GcDone,
    GcRequested,
    LeaderEnded,
    MemoryHigh,
    MemoryWarned,
    OutputCut,
    Owner,
    Spawned,
    StopSent,
    Unkillable,
    Warned,
)
from seqsup.model.outcome import Exit, Outcome
from seqsup.model.plan import Step
from seqsup.model.process import Collection, Heap, Observation, ProcessMemory, Sample
from seqsup.model.profile import Rlimits, Success
from seqsup.model.reason import OF_MEMORY, Reason
from seqsup.node import stand_in
from seqsup.node.binary import copy_preload
from seqsup.node.detect import find
from seqsup.node.forensics import Known, examine, finding, no_room
from seqsup.node.forensics import text as readable
from seqsup.plan import environment
from seqsup.policy import classify, pacing, retry, watch
from seqsup.policy.watch import Action, Phase, Rules, Watch
from seqsup.runner.context import World
from seqsup.runner.workspace import Place, Stage
from seqsup.state.output import open_stdin
from seqsup.state.run_folder import FORENSICS, write_private
from seqsup.units import format_duration

if TYPE_CHECKING:  # a run on a machine without Node has no use for it
    from seqsup.node.telemetry import Telemetry

_DESCRIBED_EVERY = 1.0  # seconds; who is in the tree costs more than how much it holds
_CHECK_DEADLINE = 300.0  # seconds for success.command
_SEARCH_DEADLINE = 5.0  # seconds for success.output: an expression may try for ever
_SEARCH = """import re, sys
sys.exit(re.search(sys.argv[1], sys.stdin.buffer.read().decode(), re.MULTILINE) is None)"""


class Ended(Struct, frozen=True):
    """An attempt's outcome, with what its drain must know."""

    outcome: Outcome
    tree: str  # the mark of its processes
    last_available: int  # bytes of the host, when its tree was last measured
    since: int  # the pid of its leader, or that was given out last before there could be none
    began: float  # monotonic seconds


async def attempt(step: Step, number: int, heap: int | None, stage: Stage, world: World) -> Ended:
    """Run one attempt to its very end; then its tree is empty, or what is left is named as unkillable."""
    place = stage.place
    env = environment.of_agent(step, number, world.environ, place.marks, place.artifacts, place.previous)
    if step.node is not None and step.node.telemetry and step.account is not None:
        copy_preload(place.folder)
    options = environment.options(step, heap, env, place.folder)
    world.emit(
        AttemptStarted(
            agent=step.name, attempt=number, content=step.content, command=step.command, hard=step.limits.hard,
            heap=heap, lane=place.lane, folder=place.label, runtime=environment.runtime(step), options=options,
            soft=step.limits.soft,
        )
    )  # fmt: skip
    since, began = world.reaper.last_pid(), time.monotonic()
    vigil = _Vigil(step, number, heap, stage, world)
    try:
        root = vigil.spawn(env, options)
    except OSError as error:
        stage.close()
        why = f"{step.command[0]} could not be started in {step.cwd}: {_what(error, step)}"
        ended = Outcome(reason=Reason.SPAWN_FAILED, why=why, exit=None, seconds=0.0, peak=0)
    except SeqsupError:
        stage.close()
        raise
    else:
        since = root.pid
        ended = await vigil.keep(root)
        ended = await _checked(ended, step, vigil.printed, number, place, world, env)
        if ended.reason is Reason.NO_RESULT:
            ended = vigil.in_view_of_preset(ended)
    world.emit(_ended(step, number, ended))
    return Ended(ended, place.label, vigil.last_available, since, began)


async def _checked(
    ended: Outcome, step: Step, printed: str, number: int, place: Place, world: World, env: dict[str, str]
) -> Outcome:
    """Ask what success asks beyond exit code and file. An expression is searched for in a process of its own: in this
    one nothing could stop it."""
    if ended.reason is Reason.COMPLETED and (pattern := step.success.output) is not None:
        search = replace(
            step, name=f"{step.name}+search", command=(sys.executable, "-I", "-S", "-c", _SEARCH, pattern),
            cwd="/", stdin=printed, account=None, rlimits=Rlimits(),
            timeouts=replace(step.timeouts, wall=_SEARCH_DEADLINE),
        )  # fmt: skip
        found = await _beside(search, number, place, replace(world, observe=None), place.marks)
        if found.reason is Reason.FAILED:
            found = replace(found, why="")
        if found.reason is Reason.TIMEOUT:
            found = replace(found, why=f"the search took longer than {format_duration(_SEARCH_DEADLINE)}")
        ended = _told(ended, found, f"it exited well but printed nothing like {pattern!r}")
    if ended.reason is Reason.COMPLETED and (words := step.success.command):
        check = replace(
            step, name=f"{step.name}+check", command=words, stdin=None,
            timeouts=replace(step.timeouts, wall=_CHECK_DEADLINE),
        )  # fmt: skip
        found = await _beside(check, number, place, _seen_as(step.name, world), env)
        ended = replace(ended, peak=max(ended.peak, found.peak))  # the same limits hold for it
        ended = _told(ended, found, f"it exited well, but success.command {' '.join(words)} did not")
    return ended


def _seen_as(agent: str, world: World) -> World:
    """A world whose onlookers take all that is seen for an agent's."""
    onlookers = world.observe
    return replace(world, observe=onlookers and (lambda seen: onlookers(replace(seen, agent=agent))))


def _told(ended: Outcome, found: Outcome, complaint: str) -> Outcome:
    """Give the agent's outcome as it is after a check."""
    if found.reason is Reason.COMPLETED:
        return ended
    if found.reason is Reason.HALTED:
        return replace(ended, reason=found.reason, why=found.why)
    return replace(ended, reason=Reason.NO_RESULT, why=": ".join(filter(None, (complaint, found.why))))


async def _beside(check: Step, number: int, place: Place, world: World, env: dict[str, str]) -> Outcome:
    """Run a check where the agent ran, and watched as it was."""
    check = replace(
        check, stdin_file=None, node=None, preset=None, timeouts=replace(check.timeouts, stall=None),
        success=Success(codes=(0,), file=None, output=None),
    )  # fmt: skip
    quiet = replace(world, keeper=world.keeper and world.keeper.another(), emit=lambda _: None)
    stage = Stage(check, number, replace(place, folder=place.folder / "check"), quiet)
    vigil = _Vigil(check, number, None, stage, quiet)
    try:
        root = vigil.spawn(env, ())
    except OSError as error:
        stage.close()
        why = _what(error, check)
        return Outcome(reason=Reason.SPAWN_FAILED, why=why, exit=None, seconds=0.0, peak=0)
    return await vigil.keep(root)


class _Vigil:
    """The watch over one attempt: its tree, its samples."""

    def __init__(self, step: Step, number: int, heap: int | None, stage: Stage, world: World) -> None:
        self._step, self._number, self._stage, self._world = step, number, stage, world
        kept = stage.groups is not None and stage.groups.limits
        self._rules = Rules(
            limits=step.limits, timeouts=step.timeouts, sweep=step.drain.sweep,
            snapshot=step.node is not None and step.node.snapshot, leaps=world.host.huge_pages and not kept,
        )  # fmt: skip
        self._oom_kills = None if kept else world.host.oom_kills()
        self.printed = self._complained = ""  # the ends of its outputs, as far as somebody asks
        self._watch = Watch(started=time.monotonic())
        self._heard, self._output = self._watch.started, 0
        self._printed, self._next_trim = (self._watch.started, 0), inf
        self._cut: set[str] = set()  # streams of which it is told
        self._stopped: tuple[ProcessMemory, ...] = ()
        self._left_over: tuple[ProcessMemory, ...] = ()
        self._options: tuple[str, ...] = ()  # ours, in NODE_OPTIONS
        self._still_at = self._watch.started  # when the tree was last seen to hold what the last sample says
        self._busy = 0.0  # of the host, as the tree was last measured
        self._described = self._watch.started  # when observers last heard who is in the tree
        self._high = False  # it was told that soft was passed
        self._left = False  # it was told that the leader left processes behind
        self._told = -1.0  # since when the phase lasts that was told last
        self._seconds: float | None = None  # from the spawn to the leader's end
        self.last_available = world.host.available()
        self._heap = heap
        self._stopped_at = 0  # bytes of the tree, as the processes above had them
        self._collection: Collection | None = None  # the last that was told
        self._oom_event: int | None = None
        self._telemetry = self._open_telemetry()

    def _open_telemetry(self) -> "Telemetry | None":
        try:
            return self._stage.telemetry()
        except OSError as error:
            self._world.emit(Warned(message=f"{self._step.name} runs without telemetry: no socket for it ({error})"))
            return None

    def spawn(self, env: dict[str, str], options: tuple[str, ...]) -> Root:
        step, self._options = self._step, options
        if step.node is not None:
            folder = self._stage.place.folder
            line = self._telemetry.line if self._telemetry is not None else None
            owner = (step.account.uid, step.account.gid) if step.account is not None else None
            env = env | environment.for_node(step, options, env, folder, line)
            stand_in.write(folder, step.node.executable, options, env, owner)
        _must_be_program(step.command[0], step.cwd, env.get("PATH", os.defpath))
        group, tree_owner = self._stage.group(), self._world.owner
        ends_with_us = tree_owner.kills_leader(grouped=group is not None, becomes=step.account is not None)
        words, env = users.loading_late(step.account, step.command, env)
        command = launcher.wrap(
            words, group.entry if group is not None else (), names=env,
            die_with_us=not ends_with_us, bounds=launcher.Bounds(step.rlimits, tree_owner.soft_nofile),
            becoming=users.becoming(step.account) if step.account is not None else (),
            parent=tree_owner.parent_pid,
        )  # fmt: skip
        with open_stdin(step) as stdin:
            return tree_owner.spawn(
                command, cwd=step.cwd, env=env, stdin=stdin.fileno(),
                stdout=self._stage.stdout.fd, stderr=self._stage.stderr.fd,
            )  # fmt: skip

    async def keep(self, root: Root) -> Outcome:
        """Watch until nobody is left; where watching fails, see to it that nobody is."""
        world, step = self._world, self._step
        group = self._stage.group()
        tree = Tree(world.owner, root, step.limits.measure, self._stage.place.ledger, group)
        try:
            world.emit(Spawned(agent=step.name, attempt=self._number, pid=root.pid, start_time=tree.root_start))
            last = await self._watch_on(tree)
            if self._watch.phase is Phase.ABANDONED:
                waited = watch.KILL_DEADLINE
                left, why = tree.describe(), tree.abandon()
                world.emit(Unkillable(agent=step.name, processes=left, seconds=waited, why=why))
            return self._outcome(tree, world.owner.ending(root), last.kernel_oom)
        except BaseException:
            await stop(tree, world.wake, grace=0, deadline=watch.KILL_DEADLINE)
            raise
        finally:
            if self._oom_event is not None:
                asyncio.get_running_loop().remove_reader(self._oom_event)
            tree.close()
            self._stage.close()

    async def _watch_on(self, tree: Tree) -> Sample:
        """Watch until it is over, and give the last sample."""
        world = self._world
        sample, rate, moved, looks = self._newborn(), 0.0, True, 0
        while True:
            self._still_at = sample.at
            self._watch, action = watch.step(self._watch, self._rules, sample)
            if action is Action.WARN:
                self._warn(sample)
            if self._watch.over_soft_since is not None and not self._high:
                self._tell_high(sample)
            if self._watch.phase is Phase.LINGERING and not self._left:
                self._tell_leader(tree)
            match action:
                case Action.COLLECT:
                    self._collect(sample)
                case Action.SNAPSHOT:
                    self._snapshot(tree, sample)
                case Action.TERMINATE:
                    self._signal(tree, signal.SIGTERM, sample.used)
                case Action.KILL:
                    self._signal(tree, signal.SIGKILL, sample.used)
                case Action.END:
                    return sample
                case Action.WAIT | Action.WARN:
                    pass
            known = self._watch, self._rules, sample, rate, world.host.cpus
            if looks == 1:  # most that end before they were looked at are small
                self._hear_of_oom()
            pause = pacing.pause(*known)
            most = pause if moved else pacing.unmoved(*known)
            await world.wake.wait(min(most, self._next_trim), pause, partial(self._still, tree, sample, pause))
            before, sample, looks = sample, self._look(tree), looks + 1
            moved = sample.used != before.used
            rate = max(sample.used - before.used, 0) / max(sample.at - self._still_at, 1e-4)

    def _hear_of_oom(self) -> None:
        """Be woken when the kernel meets the limit."""
        group = self._stage.group()
        if group is not None and (event := group.oom_event) is not None:
            self._oom_event = event
            asyncio.get_running_loop().add_reader(event, self._world.wake.poke)

    def _newborn(self) -> Sample:
        """What is known without a look: a leader, who is a shell yet."""
        return Sample(at=time.monotonic(), used=0, processes=1, host_available=self.last_available)

    def _still(self, tree: Tree, sample: Sample, pause: float) -> float:
        """Say for how long the tree is sure to hold the very same, 0 if it does not: then there is nothing to decide or
        to tell. It is not even measured while the host was idle."""
        host, busy = self._world.host, inf
        if pause > pacing.FAR:
            busy = host.busy()
            if sure := pacing.still_for(self._watch, self._rules, sample, busy - self._busy, host.cpus):
                return sure
        if not tree.still(sample.used):
            return 0.0
        self._still_at, self._busy = time.monotonic(), busy
        return pause

    def _look(self, tree: Tree) -> Sample:
        began, self._busy = time.monotonic(), self._world.host.busy()
        sample = self._sample(tree)
        if self._world.observe is not None:
            processes = self._who(tree, sample)
            self._world.observe(
                Observation(
                    agent=self._step.name, attempt=self._number, sample=sample, took=sample.at - began,
                    processes=processes, heap=self._telemetry.heap() if self._telemetry is not None else None,
                    pids=tree.pids() if processes is not None else (),
                    around=self._world.host.surroundings() if processes is not None else None,
                )
            )  # fmt: skip
        return sample

    def _who(self, tree: Tree, sample: Sample) -> tuple[ProcessMemory, ...] | None:
        if sample.at - self._described < _DESCRIBED_EVERY or self._watch.phase is Phase.KILLING:
            return None
        self._described = sample.at
        return tree.describe(sample.used)

    def _sample(self, tree: Tree) -> Sample:
        world = self._world
        root_exited = world.owner.ending(tree.root) is not None
        if root_exited:
            if self._seconds is None:
                self._seconds = time.monotonic() - self._watch.started
            if self._watch.reason is None:  # of a tree that is stopped nothing stays
                tree.release(self._step.drain.allow)
        quiet_tree = self._watch.phase is Phase.RUNNING and not root_exited
        processes = tree.count() if quiet_tree else tree.living()
        if self._step.output_max is not None:
            self._trim(self._step.output_max)
        used, available = tree.used() if processes else 0, world.host.available()
        for denied in tree.denied():
            world.emit(Warned(message=f"{self._step.name}: {denied}"))
        if used:
            self.last_available = available
        now = time.monotonic()
        collectable, collection = self._hear(tree, now, used)
        sample = Sample(
            at=now, used=used, processes=processes, host_available=available,
            quiet=self._quiet(now), root_exited=root_exited, childless=world.owner.proven_empty,
            halt=world.operator.halt, kernel_oom=tree.kernel_oom(), collectable=collectable, collection=collection,
            snapping=self._telemetry is not None and self._telemetry.snapping,
        )  # fmt: skip
        return replace(sample, spared=True) if world.spares(self._step, sample) else sample

    def _hear(self, tree: Tree, now: float, used: int) -> tuple[bool, Collection | None]:
        """Let telemetry have its look, and tell what the Node processes had to say."""
        telemetry = self._telemetry
        if telemetry is None or self._watch.phase is not Phase.RUNNING:
            return False, self._collection
        telemetry.look(now, used, tree.__contains__, tree.describe)
        for told in telemetry.overridden(self._heap):
            self._world.emit(Warned(message=f"{self._step.name}: {told}"))
        for done in telemetry.collected():
            self._collection = done
            self._world.emit(GcDone(owner=Owner(name=self._step.name, number=self._number), used=used, collection=done))
        return telemetry.answered, self._collection

    def _quiet(self, now: float) -> float:
        if self._rules.timeouts.stall is None:
            return 0.0
        if (output := self._stage.stdout.size() + self._stage.stderr.size()) != self._output:
            self._heard, self._output = now, output
        return now - self._heard

    def _trim(self, most: int) -> None:
        now, streams = time.monotonic(), (("stdout", self._stage.stdout), ("stderr", self._stage.stderr))
        size = sum(output.size() for _, output in streams)
        for stream, output in streams if size != self._printed[1] else ():
            if output.trim(most) and stream not in self._cut:
                self._cut.add(stream)
                self._world.emit(
                    OutputCut(
                        agent=self._step.name, attempt=self._number, stream=stream, size=output.size(), most=most
                    )
                )  # fmt: skip
        rate = (size - self._printed[1]) / max(now - self._printed[0], 1e-4)
        self._printed = (now, size)
        self._next_trim = pacing.until_trim(rate, most)

    def _warn(self, sample: Sample) -> None:
        warn = self._rules.limits.warn
        assert warn is not None
        self._world.emit(
            MemoryWarned(agent=self._step.name, attempt=self._number, used=sample.used, warn=warn)
        )  # fmt: skip

    def _tell_high(self, sample: Sample) -> None:
        self._high = True
        soft = self._rules.limits.soft
        assert soft is not None
        self._world.emit(
            MemoryHigh(agent=self._step.name, attempt=self._number, used=sample.used, soft=soft)
        )  # fmt: skip

    def _tell_leader(self, tree: Tree) -> None:
        """The leader ended by itself. What that comes to is known already, but where a check is still to be asked."""
        self._left = True
        step, ending = self._step, self._world.owner.ending(tree.root)
        if ending is None or step.success.output is not None or step.success.command:
            return
        reason, why, _ = self._classify(ending, tree.kernel_oom())
        if retry.ok(reason, step.expect):
            ended = Outcome(
                reason=reason, why=why, exit=ending, seconds=self._seconds or 0.0, peak=self._watch.peak
            )  # fmt: skip
            self._world.emit(
                LeaderEnded(
                    agent=step.name, attempt=self._number, content=step.content, hard=step.limits.hard, outcome=ended
                )
            )  # fmt: skip

    def _collect(self, sample: Sample) -> None:
        soft, telemetry = self._rules.limits.soft, self._telemetry
        assert soft is not None
        assert telemetry is not None
        self._world.emit(
            GcRequested(
                owner=Owner(name=self._step.name, number=self._number), used=sample.used, limit=soft,
                processes=len(telemetry.answering()),
            )
        )  # fmt: skip
        telemetry.collect()

    def _snapshot(self, tree: Tree, sample: Sample) -> None:
        telemetry, folder = self._telemetry, self._stage.place.folder
        assert telemetry is not None
        self._stopped, self._stopped_at = tree.describe(), sample.used  # before it grows by that

        def why_not(heap: Heap) -> str:
            try:
                free, _ = room(folder)
            except OSError as error:  # the agent may have removed it
                return f"{folder}: {error.strerror}"
            return no_room(heap, self._rules.limits, sample.used, sample.host_available, free)

        telemetry.snapshot(why_not)

    def _signal(self, tree: Tree, signum: signal.Signals, used: int) -> None:
        """Signal the tree. KILL is sent until nobody is left, but told once."""
        told, self._told = self._told, self._watch.since
        name = tree.held if self._watch.reason in (Reason.HARD, Reason.KERNEL_OOM) else tree.describe
        processes = name() if told != self._watch.since else ()
        tree.send(signum)
        if signum is signal.SIGTERM:
            tree.send(signal.SIGCONT)  # a stopped process cannot hear TERM
        if told == self._watch.since:
            return
        if self._watch.reason is None:
            self._left_over = self._left_over or processes
        elif not self._stopped:
            self._stopped, self._stopped_at = processes, used
        self._world.emit(
            StopSent(
                agent=self._step.name, attempt=self._number, signal=signum.name, reason=self._watch.reason,
                why=self._watch.note, processes=processes,
            )
        )  # fmt: skip

    def _outcome(self, tree: Tree, ending: Exit | None, kernel_oom: str) -> Outcome:
        if self._watch.reason is not None:
            reason, why, resets_at = self._watch.reason, self._watch.why, None
        else:
            if self._oom_kills is not None and self._world.host.oom_kills() > self._oom_kills:
                kernel_oom = "; ".join(filter(None, (tree.gone(), "oom_kill in /proc/vmstat rose")))
            reason, why, resets_at = self._classify(ending or Exit(code=None, signal=signal.SIGKILL), kernel_oom)
        peak, held = self._watch.peak, self._stopped
        if reason is Reason.KERNEL_OOM:
            peak, held = max(peak, tree.kernel_peak()), tree.last_whole
        why, forensics = self._examined(reason, why, peak, held)
        return Outcome(
            reason=reason, why=why, exit=ending if reason is not Reason.SPAWN_FAILED else None,
            seconds=time.monotonic() - self._watch.started if self._seconds is None else self._seconds,
            peak=peak, processes=self._stopped, left_over=self._left_over, resets_at=resets_at, forensics=forensics,
            blames_us=reason is Reason.MISCONFIGURED
            and bool(classify.blamed(self._stage.stderr.tail(), self._options)),
        )  # fmt: skip

    def _examined(self, reason: Reason, why: str, peak: int, held: tuple[ProcessMemory, ...]) -> tuple[str, str]:
        """Write down what is known of a tree that grew too large: the reason with the finding, and the file's name."""
        if reason not in OF_MEMORY:
            return why, ""
        known = self._telemetry.known() if self._telemetry is not None else Known()
        used = peak if reason is Reason.KERNEL_OOM or not self._stopped else self._stopped_at
        found = examine(self._step.name, self._number, reason, why, used, held, known)
        why = "; ".join(filter(None, (why, finding(found), known.snapshot)))
        file = self._stage.place.folder / FORENSICS
        try:
            write_private(file, readable(found))
            write_private(file.with_suffix(".json"), msgspec.json.encode(found).decode())
        except OSError as error:
            self._world.emit(Warned(message=f"{self._step.name}: its forensics could not be written: {error}"))
            return why, ""
        return why, file.name

    def _classify(self, ending: Exit, kernel_oom: str) -> tuple[Reason, str, float | None]:
        step, stderr = self._step, self._stage.stderr.tail()
        if refused := launcher.complaint(ending.code, stderr):
            return Reason.SPAWN_FAILED, f"{step.command[0]} could not be started in {step.cwd}: {refused}", None
        file = step.success.file
        missing = f"it exited well but left no {file}" if file and not Path(step.cwd, file).exists() else ""
        told = classify.classify(
            ending=ending, stderr=stderr, kernel_oom=kernel_oom, success=step.success, missing=missing,
            options=self._options, data_limit=step.rlimits.data,
        )  # fmt: skip
        if told == (Reason.FAILED, classify.describe(ending)) and (said := self._stage.last_line()):
            told = Reason.FAILED, f"{classify.describe(ending)}: {said}"
        if step.success.output is not None or step.preset is not None:
            self.printed = self._stage.stdout.tail().decode(errors="replace")
        self._complained = stderr.decode(errors="replace") if step.preset is not None else ""
        return self._with_preset(*told)

    def in_view_of_preset(self, ended: Outcome) -> Outcome:
        """What left no result may have met its provider's limit."""
        reason, why, resets_at = self._with_preset(ended.reason, ended.why)
        return replace(ended, reason=reason, why=why, resets_at=resets_at)

    def _with_preset(self, reason: Reason, why: str) -> tuple[Reason, str, float | None]:
        if self._step.preset is None:
            return reason, why, None
        printed, now = (self.printed, self._complained), datetime.now().astimezone()
        return classify.with_preset(self._step.preset, (reason, why), printed, now)


def _must_be_program(word: str, cwd: str, path: str) -> None:
    """Raise what exec would: through the shim it could only be told by an exit code."""
    if "/" not in word:
        if find(word, cwd, path) is None:
            raise FileNotFoundError(errno.ENOENT, "not found on PATH", word)
        return
    program = os.path.join(cwd, word)  # noqa: PTH118 (hot)
    if not stat.S_ISREG(os.stat(program).st_mode) or not os.access(program, os.X_OK):  # noqa: PTH116
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), word)


def _what(error: OSError, step: Step) -> str:
    if error.errno == errno.E2BIG:
        return "a word or variable of it is too long, or all together: Linux takes 128 KiB of each; stdin takes more"
    if error.errno == errno.EAGAIN:
        return "no more processes may be started: raise `ulimit -u`, or the pids.max of the group that seqsup is in"
    told = error.strerror or str(error)
    return told if error.filename in (None, step.command[0], step.cwd) else f"{error.filename}: {told}"


def _ended(step: Step, number: int, ended: Outcome) -> AttemptEnded:
    return AttemptEnded(
        agent=step.name, attempt=number, content=step.content, ok=retry.ok(ended.reason, step.expect),
        hard=step.limits.hard, outcome=ended,
    )  # fmt: skip
