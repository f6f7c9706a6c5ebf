"""The watch over one tree: measure, decide, act, until it is empty. policy.watch decides."""

import asyncio
import signal
import time

from msgspec import Struct
from msgspec.structs import replace

from seqsup.containment.tree import Tree
from seqsup.host.machine import most_processes
from seqsup.model.conversation import Conversation
from seqsup.model.enums import GcMode
from seqsup.model.events import LeaderEnded, MemoryHigh, MemoryWarned, StopSent, ToolKilled, Unkillable, Warned
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Step
from seqsup.model.process import Observation, ProcessMemory, Sample
from seqsup.model.reason import Reason
from seqsup.policy import pacing, retry, spare, watch
from seqsup.policy.sessions import ChosenSession
from seqsup.policy.watch import Action, Phase, Rules, Watch
from seqsup.runner.context import RunContext
from seqsup.runner.ending import Ending
from seqsup.runner.node_watch import NodeWatch
from seqsup.runner.output_watch import OutputWatch
from seqsup.runner.place import AttemptPlace
from seqsup.runner.punctuality import Punctuality
from seqsup.runner.stream_watch import StreamWatch

_DESCRIBED_EVERY = 1.0  # seconds; which processes are in the tree costs more than how much it uses
_LAST_WORDS = 0.02  # seconds for the end of a stream, to report the leader's exit; the attempt's end reads all


class Seen(Struct, frozen=True, kw_only=True):
    """Results of a watch that is over. Memory in bytes, time in seconds."""

    watch: Watch
    kernel_oom: str  # the kernel's words, if it killed in the cgroup
    seconds: float  # from the start to the leader's exit
    end: int | None  # memory of the tree before it exited or was stopped, see Outcome
    stopped: tuple[ProcessMemory, ...]  # the processes of the tree when it was stopped
    stopped_at: int  # memory of the tree then
    left_over: tuple[ProcessMemory, ...]  # leftover processes
    conversation: Conversation | None  # as its CLI reported it
    answer: str  # the text of its result


class Watcher:
    def __init__(
        self, step: Step, number: int, place: AttemptPlace, context: RunContext, node: NodeWatch, ending: Ending,
        chosen: ChosenSession,
    ) -> None:  # fmt: skip
        self._step, self._number, self._place, self._context = step, number, place, context
        self._node, self._ending = node, ending
        self._output = OutputWatch(step, number, place.stdout, place.stderr, context.emit)
        kept = place.groups is not None and place.groups.limits
        self._stream = StreamWatch(step, number, place.paths, context.emit, chosen) if step.dialect else None
        self._rules = Rules(
            limits=step.limits, timeouts=step.timeouts, sweep=step.drain.sweep,
            snapshot=step.node is not None and step.node.snapshot, leaps=context.host.huge_pages and not kept,
            processes=most_processes(step.rlimits.processes), collects=step.gc.mode is not GcMode.OFF,
            early=step.gc.mode is GcMode.AGGRESSIVE, gap=step.gc.gap, spare=step.ends_tools_first,
            stop=step.preset.stop if step.preset is not None else ("TERM",),
        )  # fmt: skip
        self._watch = Watch(started=time.monotonic())
        self._punctuality = Punctuality(step.name, context.emit)
        self._described = self._watch.started  # when observers last got the processes of the tree
        self._high = False  # it was reported that soft was passed
        self._left = False  # it was reported that the leader exited
        self._told = (-1.0, 0)  # the beginning of the phase that was reported last, and its signal
        self._seconds: float | None = None  # from the start to the leader's exit
        self._last = 0  # memory of the tree at the last look before it exited or was stopped
        self._end: int | None = None  # and at the higher of the last two: one may fall into the exit itself
        self._stopped: tuple[ProcessMemory, ...] = ()
        self._stopped_at = 0
        self._left_over: tuple[ProcessMemory, ...] = ()

    async def watch(self, tree: Tree) -> Seen:
        """Watch until no process is left, or one survived SIGKILL."""
        oom_event: int | None = None
        try:
            sample, rate, looks = self._newborn(), 0.0, 0
            while (action := self._step_on(tree, sample)) is not Action.END:
                self._act(tree, action, sample)
                if looks == 1:  # most that end before they were looked at are small
                    oom_event = self._hear_of_oom()
                pause = pacing.pause(self._watch, self._rules, sample, rate, self._context.host.cpus)
                due = time.monotonic() + min(pause, self._output.next_trim)
                await self._context.wake.wait(due - time.monotonic())
                before, sample, looks = sample, self._look(tree), looks + 1
                self._punctuality.look_ended(tree, sample, due)
                rate = max(sample.used - before.used, 0) / max(sample.at - before.at, 1e-4)
            conversation = await self._stream.finish() if self._stream is not None else None
        finally:
            self._output.close()
            if self._stream is not None:
                self._stream.close()
            if oom_event is not None:
                asyncio.get_running_loop().remove_reader(oom_event)
            self._punctuality.close()
        if self._watch.phase is Phase.ABANDONED:
            left, why = tree.describe(), tree.abandon()
            self._context.emit(
                Unkillable(agent=self._step.name, processes=left, seconds=watch.KILL_DEADLINE, why=why)
            )  # fmt: skip
        seconds = time.monotonic() - self._watch.started if self._seconds is None else self._seconds
        return Seen(
            watch=self._watch, kernel_oom=sample.kernel_oom, seconds=seconds, end=self._end,
            stopped=self._stopped, stopped_at=self._stopped_at, left_over=self._left_over,
            conversation=conversation, answer=self._stream.answer if self._stream is not None else "",
        )  # fmt: skip

    def _step_on(self, tree: Tree, sample: Sample) -> Action:
        stepped, action = watch.step(self._watch, self._rules, sample)
        if action is Action.SPARE and not self._spare(tree, stepped, sample):
            stepped, action = watch.step(self._watch, replace(self._rules, spare=False), sample)
        self._watch = stepped
        if self._watch.over_soft_since is not None and not self._high:
            self._high = True
            assert self._rules.limits.soft is not None
            self._context.emit(
                MemoryHigh(
                    agent=self._step.name, attempt=self._number, used=sample.used, soft=self._rules.limits.soft
                )
            )  # fmt: skip
        if self._watch.phase is Phase.LINGERING and not self._left:
            self._left = True
            self._tell_leader(tree)
        return action

    def _act(self, tree: Tree, action: Action, sample: Sample) -> None:
        limits = self._rules.limits
        match action:
            case Action.WARN:
                assert limits.warn is not None
                self._context.emit(
                    MemoryWarned(agent=self._step.name, attempt=self._number, used=sample.used, warn=limits.warn)
                )
            case Action.COLLECT:
                self._node.collect(sample.used)
            case Action.SNAPSHOT:
                self._stopped, self._stopped_at = tree.describe(sample.used), sample.used  # before it grows by that
                self._node.snapshot(sample)
            case Action.TERMINATE:
                stopping = self._watch.phase is Phase.STOPPING
                name = self._rules.stop[self._watch.stops - 1] if stopping else "TERM"
                self._signal(tree, signal.Signals[f"SIG{name}"], sample.used)
            case Action.KILL:
                self._signal(tree, signal.SIGKILL, sample.used)
                self._punctuality.close()
            case Action.WAIT | Action.SPARE | Action.END:
                pass

    def _hear_of_oom(self) -> int | None:
        """Wake up when the kernel reports its limit. Return the descriptor that reports it."""
        group = self._place.group()
        if group is None or (event := group.oom_event) is None:
            return None
        asyncio.get_running_loop().add_reader(event, self._context.wake.poke)
        return event

    # -- looking

    def _newborn(self) -> Sample:
        """Return a sample without measuring: the leader is still a shell."""
        return Sample(at=time.monotonic(), used=0, processes=1, host_available=self._context.host.available())

    def _look(self, tree: Tree) -> Sample:
        began = time.monotonic()
        sample = self._sample(tree)
        if self._stream is not None:
            self._stream.look()
        processes = self._processes(tree, sample)
        self._context.observe(
            Observation(
                agent=self._step.name, attempt=self._number, sample=sample, took=sample.at - began,
                processes=processes, heap=self._node.heap(), pids=tree.pids() if processes is not None else (),
                around=self._context.host.surroundings() if processes is not None else None,
                conversation=self._stream.conversation if self._stream is not None else None,
            )
        )  # fmt: skip
        return sample

    def _processes(self, tree: Tree, sample: Sample) -> tuple[ProcessMemory, ...] | None:
        if sample.at - self._described < _DESCRIBED_EVERY or self._watch.phase is Phase.KILLING:
            return None
        self._described = sample.at
        if self._rules.spare:
            tree.tools.offer()
        return tree.describe(sample.used)

    def _sample(self, tree: Tree) -> Sample:
        context = self._context
        root_exited = tree.ending() is not None
        if root_exited:
            if self._seconds is None:
                self._seconds = time.monotonic() - self._watch.started
            if self._watch.reason is None:  # nothing stays of a tree that is stopped
                tree.release(self._step.drain.allow)
        running = self._watch.phase is Phase.RUNNING
        processes = tree.count() if running and not root_exited else tree.living()
        self._output.trim()
        used, available = tree.used() if processes else 0, context.host.available()
        for denied in tree.denied():
            context.emit(Warned(message=f"{self._step.name}: {denied}"))
        if used and running and not root_exited:
            self._end, self._last = max(used, self._last), used
        now = time.monotonic()
        collectable = running and self._node.hear(tree, now, used)
        sample = Sample(
            at=now, used=used, leaving=tree.tools.leaving(), processes=processes, root_exited=root_exited,
            host_available=context.host.room(available), quiet=self._output.quiet(now, tree.cpu),
            childless=context.owner.proven_empty, halt=context.stop_request.halt, kernel_oom=tree.kernel_oom(),
            collectable=collectable, collection=self._node.collection, snapping=self._node.snapping(),
            figure=tree.figure if used else "",
            spent="" if self._stream is None else context.spent(self._step, self._stream.conversation),
        )  # fmt: skip
        return replace(sample, spared=True) if context.spares(self._step, sample) else sample

    # -- acting

    def _tell_leader(self, tree: Tree) -> None:
        """Report that the leader exited well by itself, unless a check still decides that."""
        step, exited = self._step, tree.ending()
        if exited is None or step.success.output is not None or step.success.command or step.repeat:
            return
        conversation = None
        if self._stream is not None:
            self._stream.read(_LAST_WORDS)
            conversation = self._stream.conversation
        reason, why, _ = self._ending.classify(exited, tree.kernel_oom(), conversation)
        if retry.ok(reason, step.expect):
            ended = Outcome(
                reason=reason, why=why, exit=exited, seconds=self._seconds or 0.0, peak=self._watch.peak,
                end=self._end,
            )  # fmt: skip
            self._context.emit(
                LeaderEnded(
                    agent=step.name, attempt=self._number, content=step.content, hard=step.limits.hard, outcome=ended
                )
            )  # fmt: skip

    def _spare(self, tree: Tree, stepped: Watch, sample: Sample) -> bool:
        """Kill the largest process of a tool. Return False if that cannot bring the tree below its limit."""
        limits, used, reason = self._rules.limits, sample.used, stepped.tool_ended_for
        key, limit = ("soft", limits.soft) if reason is Reason.SOFT else ("hard", limits.hard)
        if limit is None:  # the machine ran out of memory, not its cgroup
            return False
        if reason is Reason.KERNEL_OOM:
            used, victim = max(used, limit), tree.forgive_kernel()
        else:
            victim = spare.victim(tree.tools.placed(), tree.leader, used - sample.leaving - limit)
        if victim is None or not (reason is Reason.KERNEL_OOM or tree.tools.kill(victim.pid)):
            return False
        self._context.emit(
            ToolKilled(
                agent=self._step.name, attempt=self._number, process=victim, used=used, limit=limit, key=key,
                why=stepped.note,
            )
        )  # fmt: skip
        try:
            self._place.add_notice(spare.notice(victim, used, key, limit))
        except OSError as error:
            self._context.emit(Warned(message=f"{self._step.name}: its notices could not be written: {error}"))
        return True

    def _signal(self, tree: Tree, signum: signal.Signals, used: int) -> None:
        """Signal the tree. KILL is sent at every look, but reported once."""
        telling = self._watch.since, int(signum)
        first, self._told = self._told != telling, telling
        name = tree.held if self._watch.reason in (Reason.HARD, Reason.KERNEL_OOM) else tree.describe
        processes = name(used) if first else ()
        if signum is signal.SIGINT:
            tree.interrupt()
        else:
            tree.send(signum)
        if signum is not signal.SIGKILL:
            tree.send(signal.SIGCONT)  # a stopped process cannot hear it
        if not first:
            return
        if self._watch.reason is None:
            self._left_over = self._left_over or processes
        elif not self._stopped:
            self._stopped, self._stopped_at = processes, used
        self._context.emit(
            StopSent(
                agent=self._step.name, attempt=self._number, signal=signum.name, reason=self._watch.reason,
                why=self._watch.note, processes=processes,
            )
        )  # fmt: skip
