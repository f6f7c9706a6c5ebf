"""One command of an agent, started and watched until its tree is empty: the agent itself, or a check of its success."""

import errno
import os
from contextlib import closing
from typing import NamedTuple

from seqsup.containment.launcher import AFTER_TOOLS, FIRST_VICTIM
from seqsup.containment.owner import Leader
from seqsup.containment.stop import stop
from seqsup.containment.tree import Tree
from seqsup.host import users
from seqsup.model.enums import Halt
from seqsup.model.events import Spawned
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Step
from seqsup.model.reason import Reason
from seqsup.policy import watch
from seqsup.policy.confirm import MemoryBounds
from seqsup.policy.sessions import NONE_CHOSEN, ChosenSession
from seqsup.runner.context import RunContext
from seqsup.runner.ending import Ending
from seqsup.runner.launch import Launch, lead_node, must_be_program, refusal, until_forked
from seqsup.runner.node_watch import NodeWatch
from seqsup.runner.place import AttemptPlace
from seqsup.runner.watch import Watcher
from seqsup.state.output import open_stdin


class Executed(NamedTuple):
    outcome: Outcome
    ending: Ending
    leader: int | None  # its pid, if there was one
    kept: int  # bytes of its processes that may outlive it, or survived SIGKILL


async def execute(
    step: Step, number: int, heap: int | None, place: AttemptPlace, context: RunContext, env: dict[str, str],
    options: tuple[str, ...] = (), chosen: ChosenSession = NONE_CHOSEN,
) -> Executed:  # fmt: skip
    """Run the step's command to its end. `heap` is V8's limit in bytes, `options` are ours in NODE_OPTIONS.

    No process of it is left on return, or it is reported as unkillable.
    """
    with closing(place):
        ending = Ending(step, number, options, place, context)
        node = NodeWatch(step, number, heap, place, context)
        try:
            if step.node is not None:
                line = node.telemetry.line if node.telemetry is not None else None
                env = lead_node(
                    place.paths.folder, step.node.executable, options, env, account=step.account, line=line,
                    offer_gc=step.node.telemetry and step.node.expose_gc, left_in=place.paths.run,
                )  # fmt: skip
            with users.acting_as(step.account):
                must_be_program(step.command[0], step.cwd, env.get("PATH", os.defpath))
            tree = await _start(step, place, context, env)
        except OSError as error:
            if error.errno == errno.EAGAIN and context.stop_request.halt is not Halt.NONE:
                halted = Outcome(reason=Reason.HALTED, why="stopped by the user", exit=None, seconds=0.0, peak=0)
                return Executed(halted, ending, None, 0)
            why = f"{step.command[0]} could not be started in {step.cwd}: {refusal(error, step.command, step.cwd)}"
            failed = Outcome(reason=Reason.SPAWN_FAILED, why=why, exit=None, seconds=0.0, peak=0)
            return Executed(failed, ending, None, 0)
        try:
            context.emit(Spawned(agent=step.name, attempt=number, pid=tree.leader, start_time=tree.leader_start))
            watcher = Watcher(step, number, place, context, node, ending, chosen)  # its time begins here
            seen = await watcher.watch(tree)
            return Executed(ending.outcome(tree, seen, node.known()), ending, tree.leader, tree.kept)
        except BaseException:
            await stop(tree, context.wake, grace=0, deadline=watch.KILL_DEADLINE)
            raise
        finally:
            tree.close()


async def _start(step: Step, place: AttemptPlace, context: RunContext, env: dict[str, str]) -> Tree:
    launch = Launch(
        command=step.command, cwd=step.cwd, env=env, account=step.account, rlimits=step.rlimits,
        group=place.group(), oom_score_adj=AFTER_TOOLS if step.ends_tools_first else FIRST_VICTIM,
    )  # fmt: skip
    with open_stdin(step) as stdin, users.entering(step.account, step.cwd) as cwd:
        streams = (stdin.fileno(), place.stdout.fd, place.stderr.fd)

        def spawn() -> Leader:
            command, env_of_leader = launch.wrapped(context.owner)
            return context.owner.spawn(command, cwd=cwd, env=env_of_leader, streams=streams)

        leader = await until_forked(spawn, context, step.name, step.drain.timeout)
    bounds = MemoryBounds(step.limits.soft, step.limits.hard)
    return Tree(context.owner, leader, step.limits.measure, place.paths.ledger, launch.group, bounds)
