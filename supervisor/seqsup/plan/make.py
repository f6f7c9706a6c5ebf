"""The plan: profile and machine into ordered steps. Pure: what the machine has comes in as a `Survey`."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from seqsup.errors import SeqsupError
from seqsup.model.plan import ARTIFACT_ONLY, LANES, CompanionStart, Hooks, Metrics, NodeStart, Notify, Plan, Skip, Step
from seqsup.model.profile import AUTO, HOOK_POINTS, CompanionTable, NotifyTable, Profile, Timeouts
from seqsup.node import flags
from seqsup.plan.expand import ExpandedAgent, expand
from seqsup.plan.mentions import DEADLINE, too_slow
from seqsup.plan.notes import notes
from seqsup.plan.objections import no_items, no_secrets, not_installed, objections, refuse_no_task
from seqsup.plan.repositories import works_inside, workspaces
from seqsup.plan.select import NO_ITEMS, NO_WORD, Choice, Selection, chosen, select
from seqsup.plan.survey import AgentSurvey, Survey
from seqsup.profile import placeholders
from seqsup.profile.checks import variable
from seqsup.profile.complaint import ProfileError, complaints
from seqsup.profile.limits import heap, resolve, resolve_drain
from seqsup.profile.order import in_order
from seqsup.text import labelled, named
from seqsup.units import format_duration


def make(profile: Profile, survey: Survey, *, choice: Choice, state_dir: str) -> Plan:
    """Raise ProfileError with all that stands against it on this machine."""
    ordered = in_order(profile.agents)
    expanded = {
        table.name: expand(table, survey.items.get(table.name), survey.folder, choice.task) for table in ordered
    }
    contents = {
        agent.name: _content(agent, survey.agents[agent.name])
        for some in expanded.values() for agent in some if agent.item is not None and agent.is_text
    }  # fmt: skip
    names = {name: [agent.name for agent in some] for name, some in expanded.items()}
    away: list[str] = []
    if choice.failed is not None:
        here = {name for some in names.values() for name in some}
        away = [labelled(name, choice.earlier.get(name)) for name in choice.failed if name not in here]
        choice = replace(choice, failed=tuple(name for name in choice.failed if name in here))
    if slow := [("agents", n, "when") for n, table in enumerate(profile.agents) if too_slow(table.when, choice.task)]:
        why = f"an expression takes longer than {format_duration(DEADLINE)} for this task; write a simpler one"
        raise ProfileError(complaints(profile, [(at, why) for at in slow]))
    skips = select(ordered, names, choice)
    taken = [agent for some in expanded.values() for agent in some if agent.name not in skips]
    present = [agent for agent in taken if not (choice.any_program and survey.agents[agent.name].missing)]
    wrong = [*survey.problems.items(), *objections(profile, survey, present)]
    if not choice.any_program:
        wrong += no_secrets(profile, survey, taken).items()
    if not choice.any_items:
        wrong += no_items(profile, survey, [table.name for table in ordered if skips.get(table.name) == NO_ITEMS])
    if wrong:
        raise ProfileError(complaints(profile, wrong))
    if not choice.any_task and not choice.task.strip():
        refuse_no_task(taken)
    items = {agent.name: agent.item for some in expanded.values() for agent in some if agent.item is not None}
    selection = Selection(taken, skips, names, items)
    if not taken:
        _refuse_nothing(profile, choice, selection, away)
    return _resolved(profile, survey, choice, selection, contents, state_dir)


def _refuse_nothing(profile: Profile, choice: Choice, selection: Selection, away: Sequence[str]) -> None:
    """Raise SeqsupError if the task selects no agent, or the options of the command line leave none."""
    others = {
        table.name: ", ".join(table.when) for table in profile.agents
        if any(selection.skips[name].startswith(NO_WORD) for name in selection.names[table.name])
    }  # fmt: skip
    if others:
        words = "; ".join(f"{words} ({name})" for name, words in others.items())
        raise SeqsupError(
            f"the task selects no agent of {profile.name}. Words that would: {words}"
            "\n  hint: an agent with otherwise = true runs for any other task"
        )
    options = ["--only"] * bool(choice.only) + ["--from"] * (choice.start_from is not None)
    options += ["--retry-failed"] * (choice.failed is not None)
    if options:
        leaves = "leave" if len(options) > 1 else "leaves"
        raise SeqsupError(
            f"{' and '.join(options)} {leaves} no agent of {profile.name} to run"
            + (f": it no longer has {named(away)}\n  hint: --resume runs new agents too" if away else "")
        )


def _resolved(
    profile: Profile, survey: Survey, choice: Choice, selection: Selection, contents: Mapping[str, str], state_dir: str
) -> Plan:
    run, taken = profile.run, selection.taken
    secrets = [why.replace("\n", ": ") for why in no_secrets(profile, survey, taken).values()]
    values = _of_expanded(selection.names)
    spawns = run.mode != ARTIFACT_ONLY
    lanes = spawns and run.concurrency > 1
    return Plan(
        name=profile.name,
        profile=profile.file and str(PurePosixPath(survey.folder, PurePosixPath(profile.file).name)),
        state_dir=state_dir,
        task=choice.task,
        only=choice.only if choice.failed is None else tuple(agent.name for agent in taken),
        start_from=choice.start_from,
        steps=tuple(
            replace(_step(agent, survey, selection, values), chosen=chosen(agent.table, agent.name, choice))
            for agent in taken
        ),
        skips=tuple(
            Skip(name=name, why=why, content=contents.get(name, ""), item=selection.items.get(name))
            for name, why in selection.skips.items()
        ),
        stop_on_failure=run.on_failure == "stop",
        chain=run.chain,
        budget=run.budget,
        keep=run.keep,
        disk_floor=run.disk_floor,
        output_max=profile.output.max,
        execution_mode=LANES if lanes else run.mode,
        concurrency=run.concurrency if lanes else 1,
        admit_learned=lanes and run.admit == "learned",
        missing=(*not_installed(survey, taken).values(), *secrets),
        notes=tuple(dict.fromkeys(notes(profile, survey, selection))),
        metrics=_metrics(profile, survey),
        hooks=_hooks(profile, survey, spawns=spawns),
        notify=_notify(profile, survey, spawns=spawns),
        companions=tuple(_companion(companion, profile, survey) for companion in profile.companions if spawns),
        workspaces=workspaces(profile.workspace, survey.repository, survey.account) if spawns else None,
    )


def _companion(companion: CompanionTable, profile: Profile, survey: Survey) -> CompanionStart:
    return CompanionStart(
        name=companion.name,
        command=companion.command,
        cwd=str(PurePosixPath(survey.folder, companion.cwd)),
        env={name: placeholders.escape_but_secrets(text) for name, text in companion.env.items()},
        ready=companion.ready,
        restart_every=companion.restart_every or profile.run.chain,
        hard=companion.memory.hard,
        grace=profile.timeouts.grace,
        environment=_address(companion),
        account=survey.account,
        measure=resolve(profile.memory, survey.memory).measure,
        gc=profile.gc,
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


def _hooks(profile: Profile, survey: Survey, *, spawns: bool) -> Hooks:
    table = asdict(profile.hooks)
    none = {} if spawns else dict.fromkeys(HOOK_POINTS, ())
    return Hooks(**table | none, cwd=survey.folder, account=survey.hooks_account)


def _notify(profile: Profile, survey: Survey, *, spawns: bool) -> Notify:
    table = profile.notify if spawns else NotifyTable()
    return Notify(**asdict(table), cwd=survey.folder, account=survey.account)


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


def _of_expanded(names: dict[str, list[str]]) -> placeholders.Values:
    """Return the placeholders of agents with for_each: each means that of all its copies."""
    return {
        (kind, name): "\n".join(f"{{{kind}:{each}}}" for each in some)
        for name, some in names.items()
        for kind in placeholders.OF_AGENT
        if some != [name]
    }


def _step(agent: ExpandedAgent, survey: Survey, selection: Selection, values: placeholders.Values) -> Step:
    table, found = agent.table, survey.agents[agent.name]
    applied = resolve(table.memory, survey.memory)
    drain = resolve_drain(table.drain, survey.memory)

    def fill(text: str) -> str:
        return placeholders.fill(text, values)

    prompt = agent.prompt
    if prompt is not None:
        prompt = replace(prompt, text=fill(prompt.text), options=tuple(map(fill, prompt.options)))
    return Step(
        name=agent.name,
        command=tuple(map(fill, agent.command)),
        cwd=agent.cwd,
        env={variable: fill(value) for variable, value in agent.env.items()},
        stdin=None if agent.stdin is None else fill(agent.stdin),
        stdin_file=agent.stdin_file,
        runtime=agent.runtime(found.detected),
        runtime_why=_runtime_why(agent, found),
        node=_node_start(agent, found, applied.hard),
        limits=applied,
        timeouts=_timeouts(table.timeouts, agent.dialect),
        retry=table.retry,
        usage=table.usage,
        budget=table.budget,
        drain=drain,
        success=replace(table.success, file=agent.success_file, command=agent.success_command),
        expect=table.expect,
        repeat=replace(table.repeat, until=agent.until) if table.repeat is not None else None,
        needs=tuple(name for need in table.needs for name in selection.names[need] if name not in selection.skips),
        content=_content(agent, found),
        item=agent.item,
        need=drain.available if table.memory.hard is UNSET or applied.hard is None else applied.hard,
        rlimits=table.rlimits,
        gc=table.gc,
        account=found.account,
        output_max=table.output.max,
        preset=table.settings,
        prompt=prompt,
        dialect=agent.dialect,
        in_workspace=works_inside(survey.repository, agent),
    )


def _timeouts(timeouts: Timeouts, dialect: str | None) -> Timeouts:
    """Without a JSON stream, silence says nothing."""
    return replace(timeouts, stall=None) if timeouts.stall == AUTO and dialect is None else timeouts


def _runtime_why(agent: ExpandedAgent, found: AgentSurvey) -> str:
    """How the runtime was found out, and which of our means reach it."""
    why, kind = found.detected.why, agent.runtime(found.detected)
    if found.missing:
        return why
    if agent.table.runtime not in ("auto", found.detected.kind):
        why = f'runtime = "{agent.table.runtime}" is set in the profile, but {why}'
    if kind == "node":
        return f"{why}; Node programs that it starts get the options too"
    own = "Bun reads no NODE_OPTIONS" if kind == "bun" else "[node] does not apply to it"
    if found.node is None:
        return f"{why}; {own}, and there is no node on its PATH; only memory.soft and memory.hard apply"
    inner = f"what it starts in Node ({found.node.version} on its PATH) has them"
    return f"{why}; {own}, but {inner}; memory.soft and memory.hard apply to all of it"


def _node_start(agent: ExpandedAgent, found: AgentSurvey, hard: int | None) -> NodeStart | None:
    if found.node is None:
        return None
    # Elsewhere the preload offers it: another Node that the agent starts may refuse this, and end with exit 9
    node = agent.table.node
    told = not node.telemetry and agent.runtime(found.detected) == "node"
    wanted = told and node.expose_gc and found.takes_gc and flags.GC not in node.options
    gc = [flags.GC] if wanted else []
    size, ceiling = heap(node, hard)
    explicit = isinstance(node.max_old_space_size, int)
    if found.sets_own_heap and not explicit:
        size = ceiling = None
    return NodeStart(
        executable=found.node.executable,
        version=found.node.version,
        options=(*gc, *node.options),
        heap=size,
        heap_set=explicit,
        heap_ceiling=ceiling,
        telemetry=node.telemetry,
        expose_gc=node.expose_gc,
        snapshot=node.telemetry and node.heap_snapshot,
    )


def _content(agent: ExpandedAgent, found: AgentSurvey) -> str:
    """What resume knows an agent by: all that it is given, and nothing of its place or its limits."""
    given = (
        agent.given,
        agent.cwd,
        sorted(agent.env.items()),
        agent.stdin,
        agent.stdin_file,
        found.stdin_digest,
        agent.item,
    )
    return hashlib.sha256(msgspec.json.encode(given)).hexdigest()
