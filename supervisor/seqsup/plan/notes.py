"""What is worth a note of a plan: what has no effect, what costs, what the user may not have meant. Pure."""

from collections.abc import Iterator

from seqsup.model.enums import GcMode
from seqsup.model.plan import ARTIFACT_ONLY, NodeBinary
from seqsup.model.profile import AgentTable, Budget, Profile
from seqsup.node import flags
from seqsup.plan import repositories
from seqsup.plan.expand import ExpandedAgent
from seqsup.plan.select import Selection
from seqsup.plan.survey import AgentSurvey, Survey
from seqsup.profile import placeholders
from seqsup.profile.limits import BARE_NODE, auto_heap, resolve, scale
from seqsup.text import named
from seqsup.units import format_size

_WINDOWS = (
    "a Windows program, which runs outside WSL: seqsup cannot measure, limit or kill it there; install it inside WSL"
)
_UNREPORTED = "no budget holds for it: it reports nothing; an agent CLI does with a prompt in place of command"
_OF_SHELL = f"your NODE_OPTIONS sets {flags.HEAP}"
_NAMED = 3  # agents of which the same is noted
_SUMMARIES = 32  # agents: as many summaries of 4 KiB, the end of what they print, fill the 128 KiB of a command's word
_CHAIN = 5  # agents: the longest chain that is advised


def notes(profile: Profile, survey: Survey, selection: Selection) -> Iterator[str]:
    names, skips = selection.names, selection.skips
    if (factor := scale(survey.memory)) < 1:
        yield f"this machine has {format_size(survey.memory)}: default limits are {factor:.0%} of the usual ones"
    if survey.exposed is not None:
        yield f"another user can change this profile, and so what it runs: {survey.exposed}"
    accounts = (survey.account, survey.hooks_account, *(each.account for each in survey.agents.values()))
    if profile.run.inherit and not any(accounts):
        yield "run.inherit has no effect: no process becomes another user, so each has the whole environment"
    alike: dict[str, dict[str, None]] = {}  # by note: the agents that it is of
    for agent in selection.taken:
        table = agent.table
        texts = {found for _, text in table.texts() for found in placeholders.written(text)}
        if agent.item is not None and ("item", None) not in texts:
            yield f"{table.name}: {{item}} is not used in it, so all its copies do the same"
        for other in (other for kind, other in texts if kind == "summary" and other is not None):
            words = (text for (key, *_), text in table.texts() if key in ("command", "prompt", "args", "env"))
            many, asked = len(names[other]), f"{{summary:{other}}}"
            if many >= _SUMMARIES and any(asked in word for word in words):
                told = f"{asked} of {many} agents may be longer than the 128 KiB that an argument can have: use stdin"
                alike.setdefault(told, {})[table.name] = None
        for need in table.needs:
            if names[need] and all(name in skips for name in names[need]):
                yield f"{table.name} needs {need}, which does not run now: its earlier result is used"
        found = survey.agents[agent.name]
        if why := _idle_gc(table, resolve(table.memory, survey.memory).warn):
            alike.setdefault(why, {})[table.name] = None
        if agent.dialect is None and (table.budget != Budget() or profile.run.budget != Budget()):
            alike.setdefault(_UNREPORTED, {})[table.name] = None
        if found.detected.windows:
            alike.setdefault(_WINDOWS, {})[table.name] = None
        if found.missing:
            continue
        if found.node is None and table.node != profile.node:
            yield f"{table.name}: its [node] has no effect: there is no node on its PATH"
        elif found.node is not None:
            for note in _node_notes(agent, found, found.node, survey):
                alike.setdefault(note, {})[table.name] = None
    for note, agents in alike.items():
        yield f"{named(agents, _NAMED)}: {note}"
    if profile.workspace is not None and survey.repository is not None:
        yield from repositories.notes(profile.workspace, survey.repository, selection)
    if profile.run.mode == ARTIFACT_ONLY:
        yield "artifact-only: no agent, companion or hook starts; briefs are written"
    if profile.run.concurrency > 1:
        yield (
            f"run.concurrency = {profile.run.concurrency}: agents run side by side at your own risk:"
            " their memory adds up"
        )
    if profile.run.chain > _CHAIN and len(selection.taken) > _CHAIN:
        yield (
            f"run.chain = {profile.run.chain}: in chains of more than {_CHAIN} agents, companions run longer"
            " before they restart, and leak more"
        )


def _idle_gc(table: AgentTable, warn: int | None) -> str:
    """Return why an agent has fewer garbage collections than gc.mode says."""
    mode = table.gc.mode
    if mode in (GcMode.OFF, GcMode.HIGH):
        return ""
    if not table.node.telemetry:
        return f'gc.mode = "{mode}" has no effect: node.telemetry = false turns off requests to Node processes'
    if mode is GcMode.AGGRESSIVE and warn is None:
        return f'gc.mode = "{mode}" works as "{GcMode.BETWEEN}": there is no memory.warn, above which it would collect'
    return ""


def _node_notes(agent: ExpandedAgent, found: AgentSurvey, node: NodeBinary, survey: Survey) -> Iterator[str]:
    table = agent.table
    if table.node.expose_gc and not table.node.telemetry and not found.takes_gc:
        yield f"Node {node.version} does not accept {flags.GC} in NODE_OPTIONS; it starts without it"
    if table.node.heap_snapshot and not table.node.telemetry:
        yield "node.heap_snapshot has no effect: node.telemetry = false turns off requests to Node processes"
    for option in flags.refused(flags.split(found.user_options), node.allowed):
        yield f"your NODE_OPTIONS contains {option}: Node {node.version} refuses it and exits with 9"
    size, hard = table.node.max_old_space_size, resolve(table.memory, survey.memory).hard
    if found.sets_own_heap and not isinstance(size, int):
        yield f"{_OF_SHELL}, which is kept; node.max_old_space_size = SIZE would replace it"
        return
    if found.sets_own_heap:
        yield f"{_OF_SHELL}; node.max_old_space_size of the profile replaces it"
    if flags.sets_heap(agent.command):
        yield f"the command sets {flags.HEAP} itself, which wins for its own process"
    auto = auto_heap(hard)
    if isinstance(size, int) and auto is not None and size > max(auto, BARE_NODE):
        yield f"a heap of {format_size(size)} may exceed memory.hard before V8 stops it; auto is {format_size(auto)}"
