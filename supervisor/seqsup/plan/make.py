"""The plan: profile and machine into ordered steps. Pure: what the machine has comes in as a `Survey`."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from seqsup.errors import SeqsupError
from seqsup.model.enums import Enforce, Measure
from seqsup.model.kinds import KeyPath
from seqsup.model.plan import ARTIFACT_ONLY, LANES, CompanionStart, Hooks, Metrics, NodeStart, Plan, Skip, Step
from seqsup.model.preset import read_preset
from seqsup.model.profile import HOOK_POINTS, AgentTable, CompanionTable, Profile
from seqsup.node import flags
from seqsup.plan.expand import Copy, Found, Survey, copies, runtime
from seqsup.plan.notes import notes
from seqsup.plan.select import Choice, chosen, select
from seqsup.profile import placeholders
from seqsup.profile.checks import variable
from seqsup.profile.complaint import ProfileError, Rest, complaints
from seqsup.profile.limits import disorder, heap, resolve, resolve_drain, too_small_for_node
from seqsup.profile.order import in_order
from seqsup.text import named
from seqsup.units import format_size


def make(
    profile: Profile,
    survey: Survey,
    *,
    choice: Choice,
    state_dir: str,
) -> Plan:
    """ProfileError says all that stands against it on this machine."""
    choice = replace(choice, task=choice.task or None)
    task = choice.task
    ordered = in_order(profile.agents)
    made = {agent.name: copies(agent, survey.items.get(agent.name), survey.folder, task) for agent in ordered}
    names = {name: [copy.name for copy in some] for name, some in made.items()}
    contents = {
        copy.name: _content(copy, survey.found[copy.name])
        for some in made.values() for copy in some if copy.item is not None and _is_text(copy)
    }  # fmt: skip
    if choice.failed is not None:
        choice = replace(choice, failed=_by_present_names(choice.failed, choice.contents, contents))
    skips = select(ordered, names, choice)
    taken = [copy for some in made.values() for copy in some if copy.name not in skips]
    if wrong := [*survey.problems.items(), *_wrong(profile, survey, taken)]:
        raise ProfileError(complaints(profile, wrong))
    options = ["--only"] * bool(choice.only) + ["--from"] * (choice.start_from is not None)
    options += ["--retry-failed"] * (choice.failed is not None)
    if options and not taken:
        leaves = "leave" if len(options) > 1 else "leaves"
        away = [name for name in choice.failed or () if not any(name in some for some in names.values())]
        raise SeqsupError(
            f"{' and '.join(options)} {leaves} no agent of {profile.name} to run"
            + (f": it has no {named(away)} any more" if away else "")
        )
    values = _of_copies(names)
    spawns = profile.run.mode != ARTIFACT_ONLY
    lanes = spawns and profile.run.concurrency > 1
    return Plan(
        name=profile.name,
        profile=profile.file and str(PurePosixPath(survey.folder, PurePosixPath(profile.file).name)),
        state_dir=state_dir,
        task=task or "",
        only=choice.only if choice.failed is None else tuple(copy.name for copy in taken),
        start_from=choice.start_from,
        steps=tuple(
            replace(_step(copy, survey, names, skips, values), chosen=chosen(copy.agent, copy.name, choice))
            for copy in taken
        ),
        skips=tuple(Skip(name=name, why=why, content=contents.get(name, "")) for name, why in skips.items()),
        stop_on_failure=profile.run.on_failure == "stop",
        chain=profile.run.chain,
        keep=profile.run.keep,
        disk_floor=profile.run.disk_floor,
        output_max=profile.output.max,
        execution_mode=LANES if lanes else profile.run.mode,
        concurrency=profile.run.concurrency if lanes else 1,
        admit_learned=lanes and profile.run.admit == "learned",
        notes=tuple(dict.fromkeys(notes(profile, survey, taken, names, skips, task))),
        metrics=_metrics(profile, survey),
        hooks=_hooks(profile, survey.folder, spawns=spawns),
        companions=tuple(_companion(companion, profile, survey) for companion in profile.companions if spawns),
    )


def _companion(companion: CompanionTable, profile: Profile, survey: Survey) -> CompanionStart:
    return CompanionStart(
        name=companion.name,
        command=companion.command,
        cwd=str(PurePosixPath(survey.folder, companion.cwd)),
        env=companion.env,
        ready=companion.ready,
        restart_every=companion.restart_every or profile.run.chain,
        hard=companion.memory.hard,
        grace=profile.timeouts.grace,
        environment=_address(companion),
        account=survey.account,
        measure=resolve(profile.memory, survey.memory).measure,
        node=survey.nodes.get(companion.name) if profile.node.telemetry else None,
    )


def _address(companion: CompanionTable) -> dict[str, str]:
    """By which variables agents find a companion: SEQSUP_COMPANION_FILES_MCP_URL and so on."""
    if companion.ready.http is not None:
        parts = urlsplit(companion.ready.http)
        url, port = f"{parts.scheme}://{parts.netloc}", parts.port or (443 if parts.scheme == "https" else 80)
    elif companion.ready.port is not None:
        url, port = f"http://127.0.0.1:{companion.ready.port}", companion.ready.port
    else:
        return {}
    prefix = variable(companion.name)
    return {f"{prefix}_URL": url, f"{prefix}_PORT": str(port)}


def _hooks(profile: Profile, folder: str, *, spawns: bool) -> Hooks:
    table = asdict(profile.hooks)
    none = {} if spawns else dict.fromkeys(HOOK_POINTS, ())
    return Hooks(**table | none, cwd=folder)


def with_objections(error: ProfileError, rest: Rest, survey: Survey, task: str | None) -> ProfileError:
    """Add what the machine has against a profile that is wrong already: every complaint at once."""
    agents = [agent for n, agent in enumerate(rest.profile.agents) if n not in rest.unknown_agents]
    made = [copy for each in agents for copy in copies(each, survey.items.get(each.name), survey.folder, task or None)]
    wrong = [*survey.problems.items(), *_wrong(rest.profile, survey, made)]
    more = complaints(rest.profile, [(at, message) for at, message in wrong if at not in rest.wrong])
    return ProfileError(sorted(dict.fromkeys((*error.complaints, *more)), key=lambda complaint: complaint.line or 0))


def enforcement(plan: Plan) -> Enforce:
    """What the run as a whole asks of the machine: the strictest that any of its agents does."""
    if plan.execution_mode == ARTIFACT_ONLY:
        return Enforce.WATCH
    asked = {Enforce.CGROUP if step.limits.measure is Measure.CGROUP else step.limits.enforce for step in plan.steps}
    return next((enforce for enforce in (Enforce.CGROUP, Enforce.AUTO) if enforce in asked), Enforce.WATCH)


def enforcing_key(plan: Plan) -> str:
    """The key of the profile that asks for limits kept by the kernel, if one does."""
    enforced = any(step.limits.enforce is Enforce.CGROUP for step in plan.steps)
    return "memory.enforce" if enforced else "memory.measure"


def _metrics(profile: Profile, survey: Survey) -> Metrics:
    given = profile.metrics

    def path(text: str | None) -> str | None:
        return None if text is None else str(PurePosixPath(survey.folder, text))

    resolved = {
        "listen": survey.listen if given.listen is UNSET else given.listen,
        "textfile": path(given.textfile),
        "file_sd": path(given.file_sd),
    }
    return Metrics(**asdict(given) | resolved)


# What stands against it ---------------------------------------------------------------------------


def _wrong(profile: Profile, survey: Survey, taken: Iterable[Copy]) -> Iterator[tuple[KeyPath, str]]:
    place = {agent.name: n for n, agent in reversed([*enumerate(profile.agents)])}  # the first of a name has it
    for copy in taken:
        at = ("agents", place[copy.agent.name])
        for key, message in survey.found[copy.name].problems.items():
            yield (*at, key), message
        if not _is_text(copy):
            yield (*at, "command"), "with its folder, task or item it holds bytes that are not UTF-8"
        for inner, message in _wrong_sizes(copy.agent, survey):
            yield (*at, *inner), message
        for inner, message in _wrong_node(copy, survey):
            yield (*at, *inner), message


def _is_text(copy: Copy) -> bool:
    """Names of files and words of a command line may be any bytes; journal and JSON cannot carry those."""
    try:
        msgspec.json.encode(
            (copy.command, copy.env, copy.stdin, copy.stdin_file, copy.cwd, copy.success_file, copy.success_command)
        )
    except UnicodeEncodeError:
        return False
    return True


def _wrong_sizes(agent: AgentTable, survey: Survey) -> Iterator[tuple[KeyPath, str]]:
    has = f"this machine has {format_size(survey.memory)}"
    hard, floor, available = agent.memory.hard, agent.memory.host_floor, agent.drain.available
    if isinstance(hard, int) and hard > survey.memory:
        yield ("memory", "hard"), f"{format_size(hard)}, but {has}; lower it"
    if isinstance(floor, int) and floor > survey.memory:
        yield ("memory", "host_floor"), f"{format_size(floor)} can never be available: {has}; lower it"
    if isinstance(available, int) and available > survey.memory:
        yield ("drain", "available"), f"{format_size(available)} can never be available: {has}"
    for key, message in disorder(resolve(agent.memory, survey.memory)):
        yield ("memory", key), message


def _wrong_node(copy: Copy, survey: Survey) -> Iterator[tuple[KeyPath, str]]:
    node, agent = survey.found[copy.name].node, copy.agent
    if node is None:
        return
    if runtime(agent, survey.found[copy.name].detected) == "node":
        for table, key, message in too_small_for_node(agent.node, resolve(agent.memory, survey.memory).hard):
            yield (table, key), message
    if flags.sets_heap(agent.node.options):
        yield ("node", "options"), f"{flags.HEAP} has its own key: node.max_old_space_size"
    for option in flags.refused(agent.node.options, node.allowed):
        why = f"Node {node.version} does not take {option} in NODE_OPTIONS: it would end each start with exit 9"
        yield ("node", "options"), f"{why}; write it into the command"


# Steps --------------------------------------------------------------------------------------------


def _of_copies(names: dict[str, list[str]]) -> placeholders.Values:
    """What is asked of an agent with for_each is asked of each of its copies."""
    return {
        (kind, name): "\n".join(f"{{{kind}:{each}}}" for each in some)
        for name, some in names.items()
        for kind in placeholders.OF_AGENT
        if some != [name]
    }


def _step(
    copy: Copy, survey: Survey, names: dict[str, list[str]], skips: dict[str, str], values: placeholders.Values
) -> Step:
    agent, found = copy.agent, survey.found[copy.name]
    applied = resolve(agent.memory, survey.memory)
    drain = resolve_drain(agent.drain, survey.memory)

    def fill(text: str) -> str:
        return placeholders.fill(text, values)

    return Step(
        name=copy.name,
        command=tuple(map(fill, copy.command)),
        cwd=copy.cwd,
        env={variable: fill(value) for variable, value in copy.env.items()},
        stdin=None if copy.stdin is None else fill(copy.stdin),
        stdin_file=copy.stdin_file,
        runtime=runtime(agent, found.detected),
        runtime_why=_runtime_why(agent, found),
        node=_node_start(agent, found, applied.hard),
        limits=applied,
        timeouts=agent.timeouts,
        retry=agent.retry,
        drain=drain,
        success=replace(agent.success, file=copy.success_file, command=copy.success_command),
        expect=agent.expect,
        needs=tuple(name for need in agent.needs for name in names[need] if name not in skips),
        content=_content(copy, found),
        need=drain.available if agent.memory.hard is UNSET or applied.hard is None else applied.hard,
        rlimits=agent.rlimits,
        account=found.account,
        output_max=agent.output.max,
        preset=read_preset(agent.preset).preset if agent.preset is not None else None,
    )


def _runtime_why(agent: AgentTable, found: Found) -> str:
    """How the runtime was found out, and which of our means reach it."""
    why, kind = found.detected.why, runtime(agent, found.detected)
    if agent.runtime not in ("auto", found.detected.kind):
        why = f'runtime = "{agent.runtime}" in the profile, though {why}'
    if kind == "node":
        return f"{why}; its options reach the Node programs that it starts too"
    own = "Bun reads no NODE_OPTIONS" if kind == "bun" else "Node's options are nothing to it"
    if found.node is None:
        return f"{why}; {own}, and it finds no node on its PATH: memory.soft and memory.hard hold it"
    inner = f"what it starts in Node ({found.node.version} on its PATH) has them"
    return f"{why}; {own}, but {inner}; memory.soft and memory.hard hold it all"


def _node_start(agent: AgentTable, found: Found, hard: int | None) -> NodeStart | None:
    if found.node is None:
        return None
    # Elsewhere the preload offers it: another Node that the agent starts may refuse this, and end with exit 9
    told = not agent.node.telemetry and runtime(agent, found.detected) == "node"
    wanted = told and agent.node.expose_gc and found.takes_gc and flags.GC not in agent.node.options
    gc = [flags.GC] if wanted else []
    size, ceiling = heap(agent.node, hard)
    if found.sets_own_heap:
        size = ceiling = None
    return NodeStart(
        executable=found.node.executable,
        version=found.node.version,
        options=(*gc, *agent.node.options),
        heap=size,
        heap_ceiling=ceiling,
        telemetry=agent.node.telemetry,
        expose_gc=agent.node.expose_gc,
        snapshot=agent.node.telemetry and agent.node.heap_snapshot,
    )


def _by_present_names(
    failed: Iterable[str], were: Mapping[str, str], contents: Mapping[str, str]
) -> tuple[str, ...]:  # fmt: skip
    """Find those that failed where items have come or gone since: a copy of for_each is known by its content."""
    here: dict[str, list[str]] = {}
    for name, content in contents.items():
        here.setdefault(content, []).append(name)
    return tuple(now for name in failed for now in here.get(were.get(name, ""), [name]))


def _content(copy: Copy, found: Found) -> str:
    """What resume knows an agent by: all that it is given, and nothing of its place or its limits."""
    given = (
        copy.command,
        copy.cwd,
        sorted(copy.env.items()),
        copy.stdin,
        copy.stdin_file,
        found.stdin_digest,
        copy.item,
    )
    return hashlib.sha256(msgspec.json.encode(given)).hexdigest()
