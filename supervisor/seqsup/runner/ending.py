"""Classifies the exit of an attempt from exit code, output, the kernel's figures and V8's last words."""

import os
import signal
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from seqsup.containment import launcher
from seqsup.containment.tree import Tree
from seqsup.host import users
from seqsup.model.conversation import Conversation, ResultKind
from seqsup.model.events import Warned
from seqsup.model.outcome import Exit, Leak, Outcome
from seqsup.model.plan import Step
from seqsup.model.process import ProcessMemory
from seqsup.model.reason import OF_MEMORY, Reason
from seqsup.node.forensics import Known, examine, finding, leak, text
from seqsup.policy import classify
from seqsup.policy.sessions import is_lost
from seqsup.runner.context import RunContext
from seqsup.runner.place import AttemptPlace
from seqsup.state.run_folder import ANSWER, FORENSICS, STDERR, STDOUT, write_private

if TYPE_CHECKING:
    from seqsup.runner.watch import Seen

_SHORT = 1.0  # seconds: between two looks of a longer attempt may be as many


class Ending:
    """Construct it before the attempt starts: kills by the kernel are counted from then on."""

    def __init__(
        self, step: Step, number: int, options: tuple[str, ...], place: AttemptPlace, context: RunContext
    ) -> None:
        """`options` are ours in NODE_OPTIONS."""
        self._step, self._number, self._options = step, number, options
        self._place, self._context = place, context
        kept = place.groups is not None and place.groups.limits
        self._oom_kills = None if kept else context.host.oom_kills()
        self._exited = ""  # how
        self._conversation: Conversation | None = None  # None: its CLI reported none
        self.printed = self._complained = ""  # the ends of its outputs, if they are needed

    def outcome(self, tree: Tree, seen: "Seen", known: Known) -> Outcome:
        """Return the outcome of a watch that is over. `known` are the telemetry's facts about the tree's memory."""
        watch, exited = seen.watch, tree.ending()
        resets_at: float | None = None
        if watch.reason is not None:
            reason, why = watch.reason, watch.why
        else:
            kernel_oom = seen.kernel_oom
            if self._oom_kills is not None and self._context.host.oom_kills() > self._oom_kills:
                kernel_oom = "; ".join(filter(None, (tree.gone(), "oom_kill in /proc/vmstat rose")))
            reason, why, resets_at = self.classify(
                exited or Exit(code=None, signal=signal.SIGKILL), kernel_oom, seen.conversation
            )
        peak, held = watch.peak, seen.stopped
        if reason is Reason.KERNEL_OOM:
            peak, held = max(peak, tree.kernel_peak()), tree.last_whole
        elif watch.reason is None and seen.seconds < _SHORT:
            peak = max(peak, tree.peak_between_looks())
        why, forensics, leaked = self._examined(reason, why, peak, held, seen, known)
        self._keep(seen.answer)
        blames_us = reason is Reason.MISCONFIGURED and classify.blamed(self._place.stderr.tail(), self._options)
        return Outcome(
            reason=reason, why=why, exit=exited if reason is not Reason.SPAWN_FAILED else None, seconds=seen.seconds,
            peak=peak, end=seen.end, processes=seen.stopped, left_over=seen.left_over, resets_at=resets_at,
            forensics=forensics, blames_us=bool(blames_us), leak=leaked,
            conversation=seen.conversation,
        )  # fmt: skip

    def _keep(self, answer: str) -> None:
        """Keep the text of the result for the agents after it."""
        if not answer:
            return
        try:
            write_private(self._place.paths.folder / ANSWER, answer)
        except OSError as error:
            self._context.emit(Warned(message=f"{self._step.name}: its answer could not be written: {error}"))

    def classify(
        self, exited: Exit, kernel_oom: str, conversation: Conversation | None
    ) -> tuple[Reason, str, float | None]:
        """Return reason, words, and when a usage limit resets, of a leader that seqsup did not stop."""
        step, stderr = self._step, self._place.stderr.tail()
        if refused := launcher.complaint(exited.code, stderr):
            return Reason.SPAWN_FAILED, f"{step.command[0]} could not be started in {step.cwd}: {refused}", None
        file = step.success.file
        missing = f"it exited with a success code, but there is no {file}" if file and not _is_there(step, file) else ""
        told = classify.classify(
            ending=exited, stderr=stderr, kernel_oom=kernel_oom, success=step.success, missing=missing,
            options=self._options, data_limit=step.rlimits.data,
        )  # fmt: skip
        self._exited = classify.describe(exited, step.preset.exit_codes if step.preset is not None else {})
        self._conversation = conversation if conversation is not None and conversation.begun else None
        if told == (Reason.FAILED, classify.describe(exited)):
            told = Reason.FAILED, ": ".join(filter(None, (self._exited, self._last_line())))
        if step.success.output is not None or step.preset is not None:
            self.printed = self._place.stdout.tail().decode(errors="replace")
        if conversation is not None and conversation.result is not None:
            self.printed += f"\n{conversation.result.text}"  # a line of JSON has it on one line
        self._complained = stderr.decode(errors="replace") if step.preset is not None else ""
        return self._with_preset(*told)

    def says_that_session_is_lost(self) -> bool:
        """Return whether the CLI reported that the conversation to resume does not exist."""
        prompt, heard = self._step.prompt, self._conversation
        if prompt is None or (heard is not None and heard.turns):
            return False
        told = heard is not None and heard.result is not None and heard.result.kind is ResultKind.SESSION_LOST
        return told or is_lost(prompt.form, (self.printed, self._complained))

    def _last_line(self) -> str:
        """Return the last line that a person reads; a stream's result is read apart."""
        return self._place.last_line((STDERR, STDOUT) if self._conversation is None else (STDERR,))

    def in_view_of_preset(self, ended: Outcome) -> Outcome:
        """Look once more at an attempt without a result: it may have met its provider's limit."""
        reason, why, resets_at = self._with_preset(ended.reason, ended.why)
        return replace(ended, reason=reason, why=why, resets_at=resets_at)

    def _with_preset(self, reason: Reason, why: str) -> tuple[Reason, str, float | None]:
        if self._step.preset is None:
            return reason, why, None
        now = datetime.now().astimezone()
        if self._conversation is not None:
            return classify.with_conversation(
                self._step.preset, (reason, why), self._conversation, self._exited, self._complained, now
            )  # fmt: skip
        printed = self.printed, self._complained
        return classify.with_preset(self._step.preset, (reason, why), printed, now)

    def _examined(
        self, reason: Reason, why: str, peak: int, held: tuple[ProcessMemory, ...], seen: "Seen", known: Known
    ) -> tuple[str, str, Leak | None]:
        """Write the diagnosis of a tree that grew too large. Return the reason with the finding, the file, and the code
        that leaks."""
        if reason not in OF_MEMORY:
            return why, "", None
        used = peak if reason is Reason.KERNEL_OOM or not seen.stopped else seen.stopped_at
        found = examine(self._step.name, self._number, reason, why, used, held, known, self._step.limits.soft)
        why = "; ".join(filter(None, (why, finding(found), known.snapshot)))
        file = self._place.paths.folder / FORENSICS
        try:
            write_private(file, text(found))
            write_private(file.with_suffix(".json"), msgspec.json.encode(found).decode())
        except OSError as error:
            self._context.emit(Warned(message=f"{self._step.name}: its memory details could not be written: {error}"))
            return why, "", leak(found)
        return why, file.name, leak(found)


def _is_there(step: Step, file: str) -> bool:
    """Return whether the expected file exists for the agent's user."""
    with users.acting_as(step.account):
        return os.path.exists(Path(step.cwd, file))  # noqa: PTH110 (Path's raises at EACCES)
