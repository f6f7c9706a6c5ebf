"""What stands against a profile on this machine. Pure."""

from collections.abc import Collection, Iterable, Iterator

from seqsup.model.kinds import KeyPath
from seqsup.model.profile import AgentTable, Profile
from seqsup.node import flags
from seqsup.plan.expand import ExpandedAgent, expand
from seqsup.plan.survey import Survey
from seqsup.profile import placeholders
from seqsup.profile.complaint import Complaint, ProfileError, Rest, complaints
from seqsup.profile.limits import disorder, resolve, too_small_for_node
from seqsup.text import named
from seqsup.units import format_size

_NAMED = 3  # agents that a message lists


def objections(profile: Profile, survey: Survey, agents: Iterable[ExpandedAgent]) -> Iterator[tuple[KeyPath, str]]:
    lacking = not_installed(survey, agents := list(agents))
    place = {table.name: n for n, table in reversed([*enumerate(profile.agents)])}  # the first of a name has it
    for agent in agents:
        at = ("agents", place[agent.table.name])
        found = survey.agents[agent.name]
        for key, message in found.problems.items():
            if key != agent.program_key or not found.missing:
                yield (*at, *key), message
            elif told := lacking.pop(found.missing, ""):  # by its first agent
                yield (*at, *key), told
        if not agent.is_text:
            yield (*at, agent.program_key[0]), "with its folder, task or item it contains bytes that are not UTF-8"
        for inner, message in (*_wrong_sizes(agent.table, survey), *_wrong_node(agent, survey)):
            yield (*at, *inner), message


def no_secrets(profile: Profile, survey: Survey, agents: Iterable[ExpandedAgent]) -> dict[KeyPath, str]:
    """Return what is wrong with the first key that names each missing secret."""
    taken = {agent.table.name for agent in agents}
    named = [(("agents", n), table.env) for n, table in enumerate(profile.agents) if table.name in taken]
    named += [(("companions", n), table.env) for n, table in enumerate(profile.companions)]
    found: dict[str, KeyPath] = {}
    for at, env in named:
        for variable, text in env.items():
            for name in placeholders.secrets([placeholders.escape_foreign(text)]):
                found.setdefault(name, (*at, "env", variable))
    missing = survey.missing_secrets
    return {at: f"secret {name} {missing[name]}" for name, at in found.items() if name in missing}


def not_installed(survey: Survey, agents: Iterable[ExpandedAgent]) -> dict[str, str]:
    """Return by missing program what is to be done, and how many agents need it."""
    need: dict[str, list[str]] = {}
    for agent in agents:
        found = survey.agents[agent.name]
        if found.missing:
            need.setdefault(found.missing, []).append(found.problems[agent.program_key])
    return {
        program: told[0] + (f" ({len(told)} agents need it)" if len(told) > 1 else "") for program, told in need.items()
    }


def no_items(profile: Profile, survey: Survey, names: Collection[str]) -> Iterator[tuple[KeyPath, str]]:
    """Complain of agents that would be skipped because `for_each` found nothing: most often a slip."""
    for n, table in enumerate(profile.agents):
        each = table.for_each
        unread = ("agents", n, "for_each", "lines") in survey.problems
        if each is None or each.allow_empty or table.name not in names or unread:
            continue
        if each.glob is not None:
            key, why = "glob", f"no file matches {each.glob} in {survey.folder}"
        else:
            key, why = "lines", f"{each.lines} has no lines"
        yield ("agents", n, "for_each", key), f"{why}\nfor_each.allow_empty = true skips the agent then"


class NoTask(ProfileError):
    """Agents use {task}, and it is empty."""


def refuse_no_task(agents: Iterable[ExpandedAgent]) -> None:
    """Raise NoTask if one of the agents uses {task}."""
    using = dict.fromkeys(
        agent.table.name for agent in agents
        for _, text in agent.table.texts() if ("task", None) in placeholders.written(text)
    )  # fmt: skip
    if using:
        uses = "uses" if len(using) == 1 else "use"
        why = f"{{task}} is empty, and {named(using, _NAMED)} {uses} it"
        raise NoTask([Complaint(message=why, hint='add --task "what to do"')])


def _wrong_sizes(table: AgentTable, survey: Survey) -> Iterator[tuple[KeyPath, str]]:
    has = f"this machine has {format_size(survey.memory)}"
    hard, floor, available = table.memory.hard, table.memory.host_floor, table.drain.available
    if isinstance(hard, int) and hard > survey.memory:
        yield ("memory", "hard"), f"{format_size(hard)}, but {has}; lower it"
    if isinstance(floor, int) and floor > survey.memory:
        yield ("memory", "host_floor"), f"{format_size(floor)} can never be available: {has}; lower it"
    if isinstance(available, int) and available > survey.memory:
        yield ("drain", "available"), f"{format_size(available)} can never be available: {has}"
    for key, message in disorder(resolve(table.memory, survey.memory)):
        yield ("memory", key), message


def _wrong_node(agent: ExpandedAgent, survey: Survey) -> Iterator[tuple[KeyPath, str]]:
    found, table = survey.agents[agent.name], agent.table
    node = found.node
    if node is None:
        return
    if agent.runtime(found.detected) == "node":
        hard = resolve(table.memory, survey.memory).hard
        for *key, message in too_small_for_node(table.node, hard):
            yield tuple(key), message
    if flags.sets_heap(table.node.options):
        yield ("node", "options"), f"{flags.HEAP} has its own key: node.max_old_space_size"
    for option in flags.refused(table.node.options, node.allowed):
        why = f"Node {node.version} does not accept {option} in NODE_OPTIONS: each start would exit with 9"
        yield ("node", "options"), f"{why}; write it into the command"


def with_objections(error: ProfileError, rest: Rest, survey: Survey, task: str) -> ProfileError:
    """Add what the machine has against a profile that is wrong already: every complaint at once."""
    tables = [table for n, table in enumerate(rest.profile.agents) if n not in rest.unknown_agents]
    agents = [agent for table in tables for agent in expand(table, survey.items.get(table.name), survey.folder, task)]
    wrong = [*survey.problems.items(), *objections(rest.profile, survey, agents)]
    wrong += no_secrets(rest.profile, survey, agents).items()
    more = complaints(rest.profile, [(at, message) for at, message in wrong if at not in rest.wrong])
    return ProfileError(sorted(dict.fromkeys((*error.complaints, *more)), key=lambda complaint: complaint.line or 0))
