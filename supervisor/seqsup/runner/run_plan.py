"""Carrying out a plan, as a library call: for the command line, a queue's worker or a test.

    code = await run_plan(plan, stop, readers, wake)

The caller passes `readers`, which are told what happens, and `stop`, by which it can end the run. One run at a time in
a process: the run owns the process's children.
"""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from seqsup.containment import needs
from seqsup.containment.cgroup.parent_limits import ceilings
from seqsup.containment.reaper import Reaper
from seqsup.containment.sentinel import Sentinel
from seqsup.errors import Refused, SeqsupError
from seqsup.host.machine import Host, give_back, too_few_files
from seqsup.host.users import leave_keyring
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.model.history import fold
from seqsup.model.plan import Plan
from seqsup.model.process_names import processes
from seqsup.plan.containment import contain
from seqsup.plan.resume import resumption
from seqsup.plan.secrets import secrets_of
from seqsup.runner.begun import BegunRun
from seqsup.runner.context import RunContext
from seqsup.runner.emitter import Emitter
from seqsup.runner.job_run import JobRun
from seqsup.runner.readers import Readers
from seqsup.runner.recover import Recovered, recover, recover_elsewhere
from seqsup.runner.run import Run
from seqsup.runner.stop_request import StopRequest
from seqsup.state.journal import Journal, RunRow
from seqsup.state.journal_schema import must_be_own
from seqsup.state.run_folder import KILLED, QUEUE, hold, label, private, run_folder, state_dir, write_private
from seqsup.state.turn import Ticket, introduced
from seqsup.text import narrowed


async def run_plan(
    plan: Plan, stop: StopRequest, readers: Readers, wake: Wake, *, resume: int | None = None, wait: bool = True,
    place: tuple[int, int] | None = None, job: JobRun | None = None,
) -> int:  # fmt: skip
    """Wait for the machine's turn, run the plan, and return the exit code.

    `wake` is poked when something changes that only the caller hears of. `resume` is the number of a run to resume,
    `place` the place in the queue that this process's parent took. Without `wait`, Refused is raised if another run has
    the machine. The run of a `job` that began before is resumed; if it is over, nothing is run. SeqsupError is an error
    that a user can fix.
    """
    needs.demand()  # before anything is stopped or recorded
    if said := too_few_files():
        raise SeqsupError(f"{said}: raise it")
    secrets = secrets_of(plan)
    journal = Journal.open(Path(plan.state_dir), write=True)
    began = time.monotonic()
    stop.subscribe(lambda _: wake.poke())
    code: int | None = None
    try:
        turn = _place(introduced(plan.name), place, job)
        try:
            if not wait and (ahead := turn.ahead()):
                raise Refused(
                    f"another run is active: {', '.join(ahead)}; without --no-wait (wait=False) this one would wait"
                )
            if not await turn.wait(
                wake, lambda ahead: readers.wait(turn.label, ahead),
                lambda: stop.halt > Halt.NONE or not (job is None or job.wanted()),
            ):  # fmt: skip
                readers.say("stopped while waiting; nothing was started")
                return 128 + (stop.signal or signal.SIGINT)
            waited = time.monotonic() - began  # for others: the rest is this run's own work
            await _put_in_order(plan, journal, wake, readers)
            code = await _with_turn(plan, journal, stop, readers, wake, job or resume, waited, secrets)
        finally:
            readers.release(code)
            turn.leave()  # the next run need not wait for whatever reads this one
            stop.done()  # from here on a new request ends only waiting
            await readers.end(code, lambda: stop.halt > Halt.NONE)
        return code
    finally:
        journal.close()


def _place(holder: str, place: tuple[int, int] | None, job: JobRun | None) -> Ticket:
    if place is None:
        return queue_up(holder)
    if job is not None and job.lent:
        return Ticket.lent(state_dir(), place)
    return Ticket.taken_over(state_dir(), place, holder)


def queue_up(holder: str) -> Ticket:
    """Take the next place in the queue. Refused: the queue cannot be used."""
    must_be_own(state_dir())
    try:
        return Ticket.queue_up(state_dir(), holder)
    except OSError as error:
        why = f"the queue in {state_dir()} cannot be used: {error.strerror}"
        raise Refused(f"{why}; free space there, make it writable, or set SEQSUP_STATE_DIR to another") from error


async def _put_in_order(plan: Plan, journal: Journal, wake: Wake, readers: Readers) -> None:
    """Stop leftover processes of dead supervisors. Refused, if it is unknown whether there are any."""
    folder, unknown = Path(plan.state_dir), []
    for found in await recover(journal, folder, wake):
        if found.unknown:
            unknown.append(f"{found.run} {found.name} may have left processes behind, {found.unknown}")
            continue
        left = "ended, but a process survived SIGKILL" if found.over else "was left by a dead supervisor"
        lost = f" while {found.lost} ran" if found.lost else ""
        readers.say(f"{found.run} {found.name} {left}{lost}{_recovered(found)}")
    others = await recover_elsewhere(journal, folder, state_dir(), wake)
    if others is not None and (others.processes or others.remains):  # an empty group is not worth a word
        readers.say(f"a dead supervisor of another state folder left processes{_recovered(others)}")
    if unknown:
        raise Refused("\n".join(unknown))


async def _with_turn(
    plan: Plan, journal: Journal, stop: StopRequest, readers: Readers, wake: Wake, of: JobRun | int | None,
    waited: float, secrets: Mapping[str, str],
) -> int:  # fmt: skip
    """Run the plan; no other run of this queue does anything meanwhile."""
    if isinstance(of, JobRun):
        row, cookie = of.row(journal), of.cookie
        if not of.wanted():
            raise Refused("its worker has ended, so nothing was started")
        if row is not None and (code := of.over(journal, row)) is not None:
            return code
    else:
        row = _resumed(journal, of)
        cookie = row.cookie if row is not None else os.urandom(16).hex()
    if row is not None and _complete(journal, row, plan):
        begun_with = narrowed(plan.only, plan.start_from)
        part = f"the agents it began with ({begun_with}); --only or --from select others"
        those = part if begun_with else "every agent of the profile" + " but those skipped" * bool(plan.skips)
        readers.say(f"nothing to resume: {label(row.run)} {plan.name} has completed {those}")
        return 0
    await readers.prepare(wake, journal)
    # This may refuse, so the journal hears of the run only after it
    containment = contain(plan, cookie)
    begun = _begin(plan, journal, row, cookie, waited)
    if isinstance(of, JobRun) and of.lent:
        begun = replace(begun, shares=True)
    write_private(begun.folder / QUEUE, str(state_dir()))
    if any(step.account for step in plan.steps) or any(each.account for each in plan.companions):
        leave_keyring()
    reaper = Reaper(wake.poke)
    emitter = Emitter(begun.number, journal)
    context = RunContext(reaper, Host(ceilings()), wake, stop, emitter.emit, containment.groups, emitter.observe)
    run = Run(plan, begun, journal, emitter, context, containment, secrets)
    for name in secrets:  # only what names it gets it
        os.environ.pop(name, None)
    readers.begin(begun, emitter)
    note = stop.subscribe(lambda request: emitter.note(request))
    kill_file = containment.groups.kill_file if containment.groups is not None else None
    sentinel = reaper.sentinel = Sentinel(kill_file, begun.folder / KILLED) if kill_file is not None else None
    give_back()
    try:
        with reaper:
            code = await run.carry_out()
    finally:
        stop.unsubscribe(note)
    if sentinel is not None:
        sentinel.dismiss()
    return code


def _resumed(journal: Journal, wanted: int | None) -> RunRow | None:
    if wanted is None:
        return None
    row = next((row for row in journal.runs() if row.run == wanted), None)
    if row is None:
        raise Refused(f"{label(wanted)} was removed while this run waited")
    return row


def _complete(journal: Journal, row: RunRow, plan: Plan) -> bool:
    view = fold(journal.events(row.run))
    if view.ended is None:
        return False  # its supervisor died after its last agent: its end is still to be written
    return len(resumption(plan.steps, view.completed).done) == len(plan.steps)


def _begin(plan: Plan, journal: Journal, row: RunRow | None, cookie: str, waited: float) -> BegunRun:
    """Enter the run into the journal and take its lock: a run without a lock counts as dead."""
    locks, folder = list[int](), Path(plan.state_dir)

    def claim(run: int) -> None:
        locks.append(hold(private(run_folder(folder, run))))

    if row is None:
        number, continues = journal.begin(plan.name, plan.profile, cookie, claim), False
    else:
        claim(row.run)
        journal.adopt(row, plan.name, plan.profile)
        number, continues = row.run, journal.last_heard(row.run) is not None
    return BegunRun(
        number=number, cookie=cookie, folder=run_folder(folder, number), lock=locks[0], continues=continues,
        waited=waited,
    )  # fmt: skip


def _recovered(found: Recovered) -> str:
    return (
        (f"; stopped {processes(found.processes)}" if found.processes else "")
        + (f"; still running after SIGKILL: {processes(found.remaining)}" if found.remaining else "")
        + (
            f"; cgroups that could not be removed: {', '.join(found.groups_remaining)}"
            if found.groups_remaining
            else ""
        )
    )
