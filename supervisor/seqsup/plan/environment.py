"""The environment of an attempt: what its user has, what preset and profile set, our marks, and what Node goes by."""

import os
from collections.abc import Mapping
from pathlib import Path

from seqsup.host import users
from seqsup.host.installation import with_seqsup
from seqsup.model.plan import Account, Step
from seqsup.model.preset import session_variables
from seqsup.node import stand_in
from seqsup.node.binary import environment, own_options, preload
from seqsup.node.packaged import with_node

# seqsup may have been started by a hook of git, and these lead every git to that repository: `git rev-parse
# --local-env-vars`, and GIT_NAMESPACE
_OTHER_REPOSITORY = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS",
    "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}  # fmt: skip


def search_path(path: str) -> str:
    """Return a search path for agents: at its end are the packaged Node and the command `seqsup` of a run."""
    return with_seqsup(with_node(path))


def inherited(account: Account | None, ours: Mapping[str, str]) -> dict[str, str]:
    """Return what a process of that user has of our environment, with the packaged Node and seqsup on its PATH.

    Folders of ours that it may not enter are left out: with one on PATH, a missing command ends with EACCES instead of
    ENOENT (execvp(3)), and a program that tries several commands fails at the first.
    """
    env = users.environment(account, ours)
    if account is None:
        return env
    given, parts = env["PATH"].split(os.pathsep), search_path(env["PATH"]).split(os.pathsep)
    return env | {"PATH": os.pathsep.join(part for part in parts if part in given or users.may_enter(account, part))}


def added(own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a profile adds. A PATH among them also ends with the packaged Node and seqsup."""
    return {**own, "PATH": search_path(own["PATH"])} if "PATH" in own else dict(own)


def of_agent(
    step: Step, number: int, ours: Mapping[str, str], marks: Mapping[str, str], artifacts: Path, previous: Path | None
) -> dict[str, str]:
    """`ours` is the supervisor's own. An agent session that started the supervisor is not the agent's."""
    outer = session_variables().union(step.preset.session_env if step.preset is not None else ())
    if step.in_workspace:
        outer |= _OTHER_REPOSITORY
    ours = {name: value for name, value in ours.items() if name not in outer}
    env = {
        **(step.preset.env if step.preset is not None else {}),
        **inherited(step.account, ours), "PWD": step.cwd, **added(step.env), **marks,
        "SEQSUP_AGENT": step.name, "SEQSUP_ATTEMPT": str(number), "SEQSUP_ARTIFACTS": str(artifacts),
    }  # fmt: skip
    if previous is not None:
        env["SEQSUP_PREVIOUS_SUMMARIES"] = str(previous)
    return env


def options(step: Step, heap: int | None, env: Mapping[str, str], folder: Path) -> tuple[str, ...]:
    """Ours in NODE_OPTIONS; `folder` is the attempt's."""
    if step.node is None:
        return ()
    first = preload(folder if step.account is not None else None) if step.node.telemetry else None
    return own_options(step.node, heap, env.get("NODE_OPTIONS", ""), first)


def leading_node(
    ours: tuple[str, ...], env: Mapping[str, str], folder: Path, line: tuple[Path, Path] | None, *, offer_gc: bool
) -> dict[str, str]:
    """Return what leads every Node of a tree to us, whatever starts it. PATH begins with the stand-in in `folder`.

    `ours` are our options in NODE_OPTIONS; `line` is where the preload finds the channel, and the folder for V8's last
    words.
    """
    told = environment(ours, env, offer_gc=offer_gc)
    if line is not None:
        told |= {"SEQSUP_CHANNEL": str(line[0]), "SEQSUP_REPORTS": str(line[1])}
    return told | {"PATH": stand_in.path_behind(folder, env)}


def runtime(step: Step) -> str:
    """With its version, where there is one."""
    return f"node {step.node.version}" if step.runtime == "node" and step.node is not None else step.runtime
