"""One command of an agent, started and watched until its tree is empty: the agent itself, or a check of its success."""

import os
from typing import NamedTuple

from seqsup.containment.stop import stop
from seqsup.containment.tree import Tree
from seqsup.model.events import Spawned
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Step
from seqsup.model.reason import Reason
from seqsup.policy import watch
from seqsup.runner.context import World
from seqsup.runner.ending import Ending
from seqsup.runner.launch import Launch, lead_node, must_be_program, refusal
from seqsup.runner.node_watch import NodeWatch
from seqsup.runner.watch import Watcher
from seqsup.runner.workspace import Stage
from seqsup.state.output import open_stdin


class Executed(NamedTuple):
    outcome: Outcome
    ending: Ending
    leader: int | None  # its pid, if there was one
    available: int  # bytes of the host, when the tree was last measured


async def execute(
    step: Step, number: int, heap: int | None, stage: Stage, world: World, env: dict[str, str],
    options: tuple[str, ...] = (),
) -> Executed:  # fmt: skip
    """Run the step's command to its end. `heap` is V8's limit in bytes, `options` are ours in NODE_OPTIONS.

    No process of it is left on return, or it is reported as unkillable.
    """
    ending = Ending(step, number, options, stage, world)
    node = NodeWatch(step, number, heap, stage, world)
    watcher = Watcher(step, number, stage, world, node, ending)
    try:
        if step.node is not None:
            line = node.telemetry.line if node.telemetry is not None else None
            env = lead_node(
                stage.place.folder, step.node.executable, options, env, account=step.account, line=line,
                offer_gc=step.node.telemetry and step.node.expose_gc, left_in=stage.place.run,
            )  # fmt: skip
        must_be_program(step.command[0], step.cwd, env.get("PATH", os.defpath))
        tree = _start(step, stage, world, env)
    except OSError as error:
        stage.close()
        why = f"{step.command[0]} could not be started in {step.cwd}: {refusal(error, step.command, step.cwd)}"
        failed = Outcome(reason=Reason.SPAWN_FAILED, why=why, exit=None, seconds=0.0, peak=0)
        return Executed(failed, ending, None, world.host.available())
    except BaseException:
        stage.close()
        raise
    try:
        world.emit(Spawned(agent=step.name, attempt=number, pid=tree.root.pid, start_time=tree.root_start))
        seen = await watcher.watch(tree)
        return Executed(ending.outcome(tree, seen, node.known()), ending, tree.root.pid, seen.available)
    except BaseException:
        await stop(tree, world.wake, grace=0, deadline=watch.KILL_DEADLINE)
        raise
    finally:
        tree.close()
        stage.close()


def _start(step: Step, stage: Stage, world: World, env: dict[str, str]) -> Tree:
    launch = Launch(
        command=step.command, cwd=step.cwd, env=env, account=step.account, rlimits=step.rlimits, group=stage.group()
    )  # fmt: skip
    command, env_of_leader = launch.wrapped(world.owner)
    with open_stdin(step) as stdin:
        root = world.owner.spawn(
            command, cwd=step.cwd, env=env_of_leader, stdin=stdin.fileno(), stdout=stage.stdout.fd,
            stderr=stage.stderr.fd,
        )  # fmt: skip
    return Tree(world.owner, root, step.limits.measure, stage.place.ledger, launch.group)
