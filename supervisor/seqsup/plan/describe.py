"""All of a plan in words for people."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from seqsup.containment.cgroup.tiers import Chosen
from seqsup.model.enums import Enforce, GcMode, Measure, OnUsageLimit
from seqsup.model.plan import (
    ARTIFACT_ONLY,
    Account,
    CompanionStart,
    Drain,
    Hooks,
    Metrics,
    Notify,
    Plan,
    Step,
    WorkspaceRules,
)
from seqsup.model.profile import Budget, GcTable, Readiness, Retry, Rlimits
from seqsup.node.reports import REPORTS
from seqsup.plan import environment
from seqsup.plan.resume import Earlier, PlannedRun, Resumption, gone, resumption
from seqsup.policy.learning import Expected
from seqsup.profile.placeholders import finish
from seqsup.state.run_folder import ARTIFACTS, CHANNEL, label
from seqsup.text import Width, at_a_time, counted, labelled, named, narrowed, styled, wrap
from seqsup.units import MIB, format_duration, format_size
from seqsup.view.table import Column, render

_COMMIT = 8  # characters of a commit's name
_EACH = 50  # agents of which each is shown; of more, those that are alike stand together
_COLUMNS = (
    Column(""),
    Column("agent", right=False),
    Column("runtime", right=False, optional=3),
    Column("soft", optional=1),
    Column("hard"),
    Column("heap", optional=2),
    Column("wall", optional=4),
    Column("stall", optional=6),
    Column("tries", optional=5),
)
_KEPT = {
    Enforce.CGROUP: "by the kernel; without a cgroup nothing starts",
    Enforce.WATCH: "by watching: there is no cgroup",
}
_BY_WATCHING = "own session, subreaper and mark; memory.hard is enforced by watching, not by the kernel"


def _containment(chosen: Chosen | str) -> Iterator[tuple[str, str]]:
    if isinstance(chosen, str):
        first, *more = chosen.splitlines()
        yield "containment", f"start would refuse: {first}"
        yield from (("", line.strip()) for line in more)
        return
    yield "containment", f"{chosen.tier}: {chosen.detail or _BY_WATCHING}"
    yield from (("", f"not {why}") for why in chosen.why)
    if chosen.remedy:
        yield "", f"better: {chosen.remedy}"


def going_on(made: Plan, earlier: Earlier) -> tuple[Resumption, tuple[str, ...]]:
    found = resumption(made.steps, earlier.view.completed)
    return found, gone(earlier.view, made, found)


def resumes(made: Plan, earlier: Earlier) -> Iterator[str]:
    found, away = going_on(made, earlier)
    if found.done:
        yield f"completed, not run again: {named(found.done)}"
    yield from (f"{name} runs again: {why}" for name, why in found.again.items())
    others = [step.name for step in made.steps if step.name not in found.done and step.name not in found.again]
    if others:
        yield f"not completed yet: {named(others)}"
    if away:
        items = earlier.view.items
        yield f"no longer in the profile: {named(labelled(name, items.get(name)) for name in away)}"


def full(
    taken: PlannedRun, found: Chosen | str, usual: dict[str, Expected], advised: Sequence[str], columns: Width
) -> Iterator[str]:
    """Return the lines of `plan -v`."""
    made = taken.plan
    how = "artifact-only" if made.execution_mode == ARTIFACT_ONLY else at_a_time(made.concurrency)
    yield f"{styled('bold', made.name)}  {counted(len(made.steps), 'agent')}, {how}"
    yield from _pairs(
        columns,
        ("execution_mode", made.execution_mode),
        *(("missing", f"start would refuse: {told}") for told in made.missing),
        *_containment(found),
        ("profile", made.profile or "none"),
        ("state", made.state_dir),
        ("task", one_line(made.task)),
        ("asked for", narrowed(made.only, made.start_from)),
        ("when an agent fails", "the run stops" if made.stop_on_failure else "the run continues"),
        ("chain", counted(made.chain, "agent")),
        ("budget", budgeted(made.budget)),
        ("workspace", workspace(made.workspaces)),
        ("usually", usual_in_all(made, usual)),
        ("metrics", _metrics(made.metrics)),
        ("notify", notified(made.notify)),
    )
    if taken.earlier is not None:
        yield from section(columns, f"resumes {label(taken.earlier.run)}", resumes(made, taken.earlier))
    elif taken.note:
        yield from ("", taken.note)
    yield from section(columns, "companions", map(_companion, made.companions))
    yield from section(columns, "hooks", _hooks(made.hooks))
    groups = _groups(made.steps, usual)
    listed = groups[:_EACH]
    if listed:
        yield ""
        yield from render(_COLUMNS, [(group.numbers, group.names, *_cells(group.step)) for group in listed], columns)
    common = list(_common([group.facts for group in listed]))
    if common:
        others = any(fact not in group.facts for group in listed for fact in common)
        title = "all agents (exceptions are shown with the agent)" if others else "all agents"
        yield from ("", styled("bold", title), *_pairs(columns, *common))
    for group in listed:
        title = styled("bold", f"{group.numbers}. {group.names}") + (", like this one:" if group.size > 1 else "")
        yield from ("", title)
        yield from _command(group.step, columns)
        yield from _pairs(columns, *(fact for fact in group.facts if fact not in common))
    if more := sum(group.size for group in groups[_EACH:]):
        told = f"{counted(more, 'more agent')}: --only NAME shows one, --json all of them"
        yield from ("", *wrap(told, columns, ""))
    yield from section(columns, "skipped", skipped(made))
    yield from section(columns, "advice", advised)
    yield from section(columns, "notes", capped(made.notes), "yellow")


class _Group(NamedTuple):
    """Agents one after another that differ in name and words only; one where there are few in all."""

    number: int
    step: Step  # the first
    last: str
    size: int
    facts: list[tuple[str, str]]

    @property
    def numbers(self) -> str:
        return str(self.number) if self.size == 1 else f"{self.number}–{self.number + self.size - 1}"

    @property
    def names(self) -> str:
        return self.step.label if self.size == 1 else f"{self.step.name} … {self.last}"


def _groups(steps: Sequence[Step], usual: Mapping[str, Expected]) -> list[_Group]:
    groups: list[_Group] = []
    for number, step in enumerate(steps, 1):
        facts = _facts(step)
        last = groups[-1] if groups else None
        if last is not None and len(steps) > _EACH and facts == last.facts and _cells(step) == _cells(last.step):
            groups[-1] = last._replace(last=step.name, size=last.size + 1)
        else:
            groups.append(_Group(number, step, step.name, 1, facts))
    for group in groups[:_EACH]:
        if group.size == 1:
            group.facts.append(("usually", _usual(usual.get(group.step.name))))
    return groups


def skipped(made: Plan) -> Iterator[str]:
    by_why: dict[str, list[str]] = {}
    few = len(made.skips) <= _EACH
    for skip in made.skips:
        by_why.setdefault(skip.why, []).append(skip.label if few else skip.name)
    for why, names in by_why.items():
        yield from (f"{name}: {why}" for name in names) if few else [f"{named(names)}: {why}"]


def capped(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_EACH]
    if len(lines) > _EACH:
        yield f"and {len(lines) - _EACH} more; --json has them all"


def _common(facts: list[list[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    """What all agents have; and what most have, where each of the others has another value to show."""
    if len(facts) == 1:
        return
    for name, value in dict.fromkeys(chain.from_iterable(facts)):
        agents = sum((name, value) in each for each in facts)
        if agents == len(facts) or (2 * agents > len(facts) and all(dict(each).get(name) for each in facts)):
            yield name, value


def _metrics(wanted: Metrics) -> str:
    told = []
    if wanted.listen is not None:
        open_to_all = wanted.listen.rpartition(":")[0].strip("[]") in ("0.0.0.0", "::", "")
        told.append(f"http://{wanted.listen}/metrics" + (", readable from other machines" if open_to_all else ""))
    told += ["required: nothing starts without it"] if wanted.required else []
    others = (("textfile", wanted.textfile), ("pushgateway", wanted.pushgateway), ("file_sd", wanted.file_sd))
    told += [f"{name} {value}" for name, value in others if value]
    return "; ".join(told) or "none"


def _companion(companion: CompanionStart) -> str:
    collects = companion.node and companion.gc.mode is not GcMode.OFF
    told = [
        f"{companion.name}  {one_line(shlex.join(companion.command))}",
        f"ready when {_ready(companion.ready)}, within {format_duration(companion.ready.timeout)}",
        f"restarted after {counted(companion.restart_every, 'agent')}",
        f"hard {limit(companion.hard)}" + (", after a GC" if companion.hard and collects else ""),
    ]
    return "; ".join([*told, *(f"{name}={value}" for name, value in companion.environment.items())])


def _ready(ready: Readiness) -> str:
    match ready.probe:
        case "http", url:
            return f"{url} answers"
        case "port", port:
            return f"port {port} answers"
        case "log", text:
            return f"it prints {text!r}"
        case _, seconds:
            return f"{format_duration(seconds)} have passed" if seconds else "it runs"


def usual_in_all(made: Plan, usual: dict[str, Expected]) -> str:
    if not usual:
        return ""
    unknown = len(made.steps) - len(usual)
    more = f", and {counted(unknown, 'agent')} that never ran" if unknown else ""
    seconds, peak = sum(each.seconds for each in usual.values()), max(each.peak for each in usual.values())
    highest = f", highest peak {format_size(peak)}" if peak else ""
    return f"{format_duration(seconds)}{highest}{more}"


def _usual(usual: Expected | None) -> str:
    if usual is None:
        return ""
    peak = f", peak {format_size(usual.peak)}" if usual.weighed else ", peak unknown"
    within = format_duration(usual.long) + (f" and {format_size(usual.high)}" if usual.weighed else "")
    told = f"{format_duration(usual.seconds)}{peak}"
    return f"{told}; of {counted(usual.attempts, 'attempt')} 95 % within {within}"


def _hooks(hooks: Hooks) -> Iterator[str]:
    for point, commands in hooks.commands.items():
        yield from (f"{point}  {one_line(command)}" for command in commands)
    if hooks.commands:
        then = "the run stops" if hooks.on_error == "stop" else "it is reported"
        user = f"as {hooks.account.name}, " if hooks.account is not None else "as root, " if os.geteuid() == 0 else ""
        yield f"each {user}in {format_duration(hooks.timeout)} at most; if one fails, {then}"


def notified(notify: Notify) -> str:
    where = [*notify.shown, *([one_line(shlex.join(notify.command))] if notify.command else [])]
    return f"{', '.join(where)}; on {', '.join(notify.on)}" if where else ""


def workspace(rules: WorkspaceRules | None) -> str:
    """Say where agents work; nothing if that is the profile's folder."""
    if rules is None:
        return ""
    commit = f" ({rules.commit[:_COMMIT]})" if rules.commit else ""
    ref = "HEAD" if rules.ref == rules.commit else rules.ref
    shared = "one for all agents" if rules.shared else "one for each agent"
    push = f", pushed to {rules.push_to}" if rules.push_to else ""
    return f"{shared}: branch {rules.branch} from {ref}{commit} of {rules.shown}{push}"


def budgeted(budget: Budget) -> str:
    told = [
        f"${budget.usd:g}" if budget.usd is not None else "",
        f"{budget.tokens:,} tokens" if budget.tokens is not None else "",
        counted(budget.turns, "turn") if budget.turns is not None else "",
    ]
    return ", ".join(filter(None, told))


def _cells(step: Step) -> tuple[str, ...]:
    return (
        environment.runtime(step).replace(" v", " "),
        limit(step.limits.soft),
        limit(step.limits.hard),
        _heap(step),
        at_most(step.timeouts.wall),
        at_most(step.timeouts.stall),
        str(step.retry.attempts),
    )


def _facts(step: Step) -> list[tuple[str, str]]:
    limits = step.limits
    return [
        ("taken", step.chosen),
        ("in", step.cwd),
        ("runtime", step.runtime_why),
        *_node(step),
        ("environment", ", ".join(sorted(step.env))),
        ("stdin", step.stdin_file or told_of_stdin(step) or ""),
        ("user", _user(step.account)),
        ("each process", _rlimits(step.rlimits)),
        ("needs", ", ".join(step.needs)),
        (
            "memory",
            f"warn {limit(limits.warn)}, soft {limit(limits.soft)} for {format_duration(limits.sustain)}, "
            f"hard {limit(limits.hard)}, host floor {limit(limits.host_floor)}",
        ),
        ("GC", f"{step.gc.mode}, at most every {format_duration(step.gc.gap)}" if step.gc != GcTable() else ""),
        ("measured", f"as {limits.measure}" if limits.measure is not Measure.PRIVATE else ""),
        ("hard enforced", _KEPT.get(limits.enforce, "")),
        ("grace", format_duration(step.timeouts.grace)),
        ("retried", _retried(step.retry)),
        ("budget", budgeted(step.budget)),
        ("starts", f"only at {step.usage.window}" if step.usage.window else ""),
        ("drained", _drained(step.drain)),
        ("success", _success(step)),
        *_preset(step),
        ("expected", ", ".join(step.expect)),
    ]


def _command(step: Step, columns: int) -> Iterator[str]:
    """As a shell takes it: broken only between words."""
    line = "   $"
    for word in step.command:
        quoted = one_line(shlex.quote(finish(word)))
        if len(line) + len(quoted) > columns - 3 and line.strip() != "$":
            yield line + " \\"
            line = "    "
        line += f" {quoted}"
    yield line


def told_of_stdin(step: Step) -> str | None:
    return step.stdin and f"text of {format_size(len(finish(step.stdin).encode()))}"


def _user(account: Account | None) -> str:
    """With the variables that it has beside those that profile and seqsup set: another user's are few."""
    if account is None:
        return ""
    return f"{account.name}; of root's environment only {', '.join(sorted(environment.inherited(account, os.environ)))}"


def _rlimits(rlimits: Rlimits) -> str:
    told = [
        "" if rlimits.processes == "auto" else f"at most {rlimits.processes or 'any number of'} processes in its tree",
        "" if rlimits.nofile is None else f"{rlimits.nofile} open files",
        "" if rlimits.core in (0, None) else f"core {format_size(rlimits.core)}",
        "" if rlimits.data is None else f"data {format_size(rlimits.data)}",
    ]
    return ", ".join(filter(None, told))


def _retried(retry: Retry) -> str:
    if retry.attempts == 1 or not retry.on:
        return "never"
    return f"after {', '.join(retry.on)}; waits {format_duration(retry.wait)} to {format_duration(retry.max_wait)}"


def _drained(drain: Drain) -> str:
    wanted = [
        f"below {format_size(drain.threshold)} owned" if drain.threshold is not None else "",
        f"above {format_size(drain.available)} available" if drain.available is not None else "",
    ]
    told = " and ".join(filter(None, wanted)) or "its processes are gone"
    return f"{told} within {format_duration(drain.timeout)}, otherwise {drain.on_timeout.value}"


def _success(step: Step) -> str:
    success = step.success
    wanted = [f"exit {' or '.join(map(str, success.codes))}"]
    if success.file is not None:
        wanted.append(f"file {success.file}")
    if success.output is not None:
        wanted.append(f"output matches {success.output}")
    if success.command:
        wanted.append(f"then {shlex.join(success.command)} succeeds")
    if step.repeat is not None:
        wanted.append(f"repeated until {shlex.join(step.repeat.until)} succeeds, {step.repeat.max} times at most")
    return "" if wanted == ["exit 0"] else one_line(", ".join(wanted))


def _preset(step: Step) -> Iterator[tuple[str, str]]:
    """All that it sets. The user's value of the same option wins, and is shown."""
    preset = step.preset
    if preset is None:
        return
    yield "preset", f"{preset.name}: {preset.title}"
    own = environment.inherited(step.account, os.environ)
    sets = [
        f"{name}={value}" if name not in step.env and name not in own else f"{name} as you set it"
        for name, value in preset.env.items()
    ]
    sets += [f"{table}.{key}={value}" for table, keys in preset.keys.items() for key, value in keys.items()]
    yield "it sets", ", ".join(sets) + ("; the profile's keys win" if sets else "")
    yield "a failure", one_line(" or ".join(preset.failure))
    follows = "the run waits for the reset" if step.usage.on_limit is OnUsageLimit.WAIT else "the run stops"
    yield "usage limit", one_line(" or ".join(preset.usage_limit)) + f"; then {follows}" if preset.usage_limit else ""
    yield "no credit", one_line(" or ".join(preset.no_credit)) + "; then the run stops" if preset.no_credit else ""
    yield "known leaks", "; ".join(preset.leaks)


def _node(step: Step) -> Iterator[tuple[str, str]]:
    """What its Node processes go by, beside the environment that it has anyway."""
    told = for_node(step)
    yield "NODE_OPTIONS", one_line(told.pop("NODE_OPTIONS", ""))
    yield "for Node", one_line(", ".join(f"{name}={value}" for name, value in told.items()))


def for_node(step: Step) -> dict[str, str]:
    """Return them as an attempt makes them; only the run knows its folder."""
    if step.node is None:
        return {}
    folder = Path("{attempt}")
    plain = replace(step, env={name: finish(value) for name, value in step.env.items()})
    env = environment.of_agent(plain, 1, os.environ, {}, folder / ARTIFACTS, None)
    ours = environment.options(step, step.node.heap, env, folder)
    line = (folder / CHANNEL, folder / REPORTS) if step.node.telemetry else None
    offer_gc = step.node.telemetry and step.node.expose_gc
    return environment.leading_node(ours, env | {"PATH": "$PATH"}, folder, line, offer_gc=offer_gc)


def _pairs(columns: int, *pairs: tuple[str, str]) -> Iterator[str]:
    told = [(name, value) for name, value in pairs if value]
    room = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        if columns - room >= 40:
            title = styled("dim", name) + " " * (room - len(name))
            yield from wrap(f"   {title}  {value}", columns, " " * (room + 5))
            continue
        yield from [f"   {styled('dim', name)}"] if name else []
        yield from wrap(f"      {value}", columns, " " * 6)


def section(columns: int, title: str, lines: Iterable[str], style: str = "bold") -> Iterator[str]:
    told = list(lines)
    if told:
        yield ""
        yield styled(style, title)
    for line in told:
        yield from wrap(f"   {line}", columns, "   ")


def one_line(text: str) -> str:
    """On one line, nothing that moves the cursor, not endless."""
    plain = text
    if not text.isprintable():
        plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= 500 else f"{plain[:500]}… ({len(text)} characters; --json has them all)"


def _heap(step: Step) -> str:
    if step.node is None or step.runtime != "node":
        return "-"
    return f"{step.node.heap // MIB} MiB" if step.node.heap else "V8's own"


def limit(size: int | None) -> str:
    return "none" if size is None else format_size(size)


def at_most(seconds: float | str | None) -> str:
    """Put a time limit into words; "auto" stays."""
    return seconds if isinstance(seconds, str) else "none" if seconds is None else format_duration(seconds)
