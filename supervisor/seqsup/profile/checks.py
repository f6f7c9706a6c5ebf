"""What must hold between keys. Each check yields (path, what is wrong); none needs the machine."""

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from graphlib import CycleError
from urllib.parse import urlsplit

from msgspec.structs import replace

from seqsup.model.enums import RetryHow
from seqsup.model.kinds import KeyPath
from seqsup.model.preset import prompt_presets
from seqsup.model.profile import AgentTable, Budget, NotifyTable, Profile
from seqsup.policy import workspaces
from seqsup.profile import placeholders, words
from seqsup.profile.limits import disorder, resolve, too_small_for_node
from seqsup.profile.order import in_order
from seqsup.text import nearest
from seqsup.units import show

Wrong = Iterator[tuple[KeyPath, str]]

# A name becomes a folder of the run and a word of the command line.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
# Files of a run's folder, where each agent has a folder of its name
_TAKEN = re.compile(r"lock|members|queue|killed|paused|summaries\.md|memory\.ndjson|seqsup\..*")
_HTTP = re.compile(r"https?://[^/\s]+(/\S*)?")
_GATEWAY = re.compile(rf"{_HTTP.pattern}|(?!https?:)[^/\s]+(/\S*)?")
_VARIABLE = re.compile(r"[^=\0]+")
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_WRITTEN = ("SEQSUP_", "MALLOC_")  # variables that node/stand_in.py writes into a script
_SET = re.compile(r"\[!?+\]?+[^\]]*+\]")  # of a glob, as fnmatch reads it
_CIRCLES = 10  # of `needs`: each takes another look at all of them
_LONGEST_GAP = 60.0  # seconds
_SIZES = (("memory",), ("node",))
_NODE_PROGRAMS = ("node", "nodejs", "npx", "npm", "pnpm", "tsx")


def check(profile: Profile, broken: Collection[KeyPath]) -> Wrong:
    """Return all mistakes; `broken` are keys with a complaint, which have their default here."""
    yield from _run(profile)
    yield from _workspace(profile)
    yield from _metrics(profile)
    yield from _notify(profile)
    yield from _companions(profile)
    yield from _hooks(profile)
    yield from _names(profile)
    yield from _otherwise(profile)
    yield from _resumed(profile)
    if not any(at[:1] == ("agents",) and at[2:] in ((), ("name",)) for at in broken):
        yield from _needs(profile)
        yield from _placeholders(profile)
    for n, agent in enumerate(profile.agents):
        if not any(at[:1] in _SIZES or (at[:2] == ("agents", n) and at[2:3] in _SIZES) for at in broken):
            yield from _memory(n, agent)
        command = () if agent.command == () and ("agents", n, "prompt") in broken else _commands(agent, profile)
        for at, message in (*_agent(agent), *_prompt(agent), *_session_options(agent), *_budget(agent), *command):
            yield ("agents", n, *at), message


def _run(profile: Profile) -> Wrong:
    if not profile.agents:
        yield ("agents",), "no agents; a profile needs at least one [[agents]] with a name and a command"
    if profile.name and not _NAME.fullmatch(profile.name):
        yield ("name",), _bad_name(profile.name)
    for agent in profile.agents:
        for key in _unreported(agent, profile.run.budget):
            yield ("run", "budget", key), f"{agent.name}: {_no_report(agent, key, 'run.budget')}"
    if profile.run.concurrency > 1 and not profile.run.allow_concurrency:
        why = (
            "agents run one at a time, so that their memory does not add up; set 1, or accept the risk with"
            " allow_concurrency = true"
        )
        yield ("run", "concurrency"), why
    elif profile.run.concurrency > 1:
        for n, agent in enumerate(profile.agents):
            if agent.memory.hard is None:
                yield ("agents", n, "memory", "hard"), "agents that run side by side need a limit: their sum must fit"


def _workspace(profile: Profile) -> Wrong:
    given = profile.workspace
    if given is None:
        return
    shared = given.per == "run"
    if not given.git.strip() or given.git.startswith("-"):
        yield ("workspace", "git"), 'no repository\nwrite a folder such as ".", or an address'
    if given.ref is not None and not workspaces.is_ref(given.ref):
        yield ("workspace", "ref"), f"{show(given.ref)} is no name of a branch, tag or commit"
    if why := workspaces.wrong_branch(given.pattern, shared=shared):
        yield ("workspace", "branch"), why
    if shared and profile.run.concurrency > 1:
        why = "agents that run side by side would change the same files"
        yield ("workspace", "per"), f'{why}\nset per = "agent", or run.concurrency = 1'
    for n, agent in enumerate(profile.agents):
        if shared and agent.user and agent.user != profile.run.user:
            why = "all agents share a workspace, which belongs to run.user"
            yield ("agents", n, "user"), f'{why}\nremove it, or set workspace.per = "agent"'


def _metrics(profile: Profile) -> Wrong:
    given = profile.metrics
    if given.listen is None:
        for key, value in (("required", given.required), ("file_sd", given.file_sd)):
            if value:
                yield ("metrics", key), 'listen = "none" turns metrics off: set an address, or remove this key'
    if given.pushgateway is not None and not _GATEWAY.fullmatch(given.pushgateway):
        yield ("metrics", "pushgateway"), f"{show(given.pushgateway)}: expected an address such as 127.0.0.1:9091"


def _notify(profile: Profile) -> Wrong:
    given = profile.notify
    if given.command:
        yield from _command(given.command, ("notify", "command"), profile)
    elif not given.to and given != NotifyTable():
        yield ("notify",), 'nothing would be sent: set to, such as to = ["desktop"], or command'
    if not given.on:
        yield ("notify", "on"), "empty: nothing would be sent; name something, or remove the key for everything"


def _companions(profile: Profile) -> Wrong:
    names: set[str] = set()
    for n, companion in enumerate(profile.companions):
        at = ("companions", n)
        if not _NAME.fullmatch(companion.name):
            yield (*at, "name"), _bad_name(companion.name)
        if companion.name in names:
            yield (*at, "name"), f"another companion has the name {companion.name}"
        elif variable(companion.name) in map(variable, names):
            yield (*at, "name"), f"another companion's variables begin with {variable(companion.name)}_, too"
        names.add(companion.name)
        yield from _command(companion.command, (*at, "command"), profile)
        ready = companion.ready
        if sum(getattr(ready, probe) is not None for probe in ready.PROBES) > 1:
            yield (*at, "ready"), "set only one of http, port, log and delay"
        if ready.http is not None and (why := _unfit(ready.http)):
            yield (*at, "ready", "http"), f"{show(ready.http)}: {why}"
        yield from _variables(companion.env, at)


def _unfit(address: str) -> str:
    if not _HTTP.fullmatch(address):
        return "an address begins with http:// or https://, then host and port, and has no blank"
    try:
        urlsplit(address).port  # noqa: B018 (asked, it says)
    except ValueError:
        return "no host and port can be read in it, such as 127.0.0.1:3000 or [::1]:3000; a port is up to 65535"
    return ""


def variable(companion: str) -> str:
    """What the variables begin with by which agents find a companion."""
    return "SEQSUP_COMPANION_" + re.sub(r"[^A-Za-z0-9]", "_", companion).upper()


def _bad_name(name: str) -> str:
    if not name:
        return "empty"
    return f"{show(name)}: a name is up to 64 ASCII letters, digits, '_', '-' and '.', and begins with none of '-.'"


def _names(profile: Profile) -> Wrong:
    seen: dict[str, int] = {}
    copied = {agent.name for agent in profile.agents if agent.for_each}
    for n, agent in enumerate(profile.agents):
        at = ("agents", n, "name")
        original, _, number = agent.name.rpartition(".")
        if not _NAME.fullmatch(agent.name):
            yield at, _bad_name(agent.name)
        elif _TAKEN.fullmatch(agent.name):
            yield at, f"{agent.name} is the name of a file in the run's folder; choose another name"
        elif agent.name in seen:
            yield at, f"another agent has the name {agent.name}: names must differ"
        elif number.isdigit() and original in copied:
            yield at, f"{agent.name} is the name of a copy of {original} (for_each); choose another name"
        seen.setdefault(agent.name, n)


def _otherwise(profile: Profile) -> Wrong:
    first, *more = [n for n, agent in enumerate(profile.agents) if agent.otherwise] or [0]
    for n in more:
        yield ("agents", n, "otherwise"), f"{profile.agents[first].name} has it already; only one agent may have it"


def _needs(profile: Profile) -> Wrong:
    names = {agent.name for agent in profile.agents}
    for n, agent in enumerate(profile.agents):
        for m, need in enumerate(agent.needs):
            if need not in names:
                near = nearest(need, names - {agent.name})
                yield ("agents", n, "needs", m), f"no agent {show(need)}{near}"
    agents = list(profile.agents)
    for _ in range(_CIRCLES):
        try:
            in_order(agents)
        except CycleError as error:
            circle = [agents[n].name for n in reversed(error.args[1])]
            yield ("agents", min(error.args[1]), "needs"), f"dependency cycle: {' → '.join(circle)}"
            for n in error.args[1]:
                agents[n] = replace(agents[n], needs=())
        else:
            return


def _placeholders(profile: Profile) -> Wrong:
    try:
        rank = {agent.name: n for n, agent in enumerate(in_order(profile.agents))}
    except CycleError:
        rank = {agent.name: 0 for agent in profile.agents}
    for n, agent in enumerate(profile.agents):
        for at, text in agent.texts():
            slips = dict(placeholders.slips(text)) if profile.file is not None else {}  # `run` has no placeholders
            wrong: dict[str, str] = {}
            for name, argument in dict.fromkeys(placeholders.written(text)):
                written = placeholders.spell(name, argument)
                if not placeholders.known(name, argument):
                    slips.setdefault(written, placeholders.spell_meant(name, argument))
                elif why := _placeholder(agent, str(at[0]), name, argument, rank):
                    wrong[written] = why
            if wrong or slips:
                yield ("agents", n, *at), _misplaced(wrong, slips)


def secrets(raw: object) -> Wrong:
    """Find each {secret:NAME} that would not be replaced, in all texts of a profile as they were read."""
    left: list[tuple[KeyPath, object]] = [((), raw)]  # they may be nested deeper than Python calls
    while left:
        at, value = left.pop()
        if isinstance(value, str) and "{" in value:
            yield from ((at, why) for why in _secret(value, at))
        elif isinstance(value, (Mapping, list)):
            left += (
                ((*at, key), each) for key, each in (value.items() if isinstance(value, Mapping) else enumerate(value))
            )


def _secret(text: str, at: KeyPath) -> Iterator[str]:
    is_env = len(at) == 4 and at[0] in ("agents", "companions") and at[2] == "env"
    if is_env and at[0] == "companions":  # those of agents are found with all their placeholders
        near = {wrong: meant for wrong, meant in placeholders.slips(text) if meant.startswith("{secret:")}
        near |= {
            placeholders.spell(*each): placeholders.spell_meant(*each) for each in placeholders.written(text)
            if not placeholders.known(*each) and placeholders.meant(each[0]) == placeholders.SECRET
        }  # fmt: skip
        if near:
            yield _misplaced({}, near)
    for name, argument in placeholders.written(text):
        if name != placeholders.SECRET or argument is None:
            continue
        written = placeholders.spell(name, argument)
        if not is_env:
            quoted = f"write {placeholders.quote(written)} if the braces are text"
            yield f"{written} is replaced only in env of an agent or a companion\nset it there, or {quoted}"
        elif not _SECRET_NAME.fullmatch(argument):  # it is not shown: it may be the secret itself
            yield "the name of a secret has ASCII letters, digits and '_', and begins with no digit"
        elif (variable := str(at[3])).startswith(_WRITTEN):
            begin = variable.partition("_")[0]
            yield f"{written}: seqsup writes variables that begin with {begin}_ to a file\nchoose another variable"


def _misplaced(wrong: dict[str, str], slips: dict[str, str]) -> str:
    """Return one complaint for all placeholders of a text that are wrong, and for slips with what was meant."""
    told, hint = [*wrong.values()], ""
    if slips:
        told.append(f"unknown placeholder{'s' * (len(slips) > 1)} {', '.join(slips)}")
        hint = f"did you mean {', '.join(dict.fromkeys(slips.values()))}? "
    text = ", ".join(placeholders.quote(each) for each in (*wrong, *slips))
    return f"{'; '.join(told)}\n{hint}write {text} if the braces are text"


def _placeholder(agent: AgentTable, key: str, name: str, argument: str | None, rank: dict[str, int]) -> str | None:
    written = placeholders.spell(name, argument)
    if name == placeholders.SECRET:
        return None  # see `secrets`
    if name == "item" and not agent.for_each:
        return "{item} is available only in an agent with for_each"
    if name not in ("item", "task") and key not in ("command", "prompt", "args", "env", "stdin"):
        return f"{written} is known only when the agent starts; use it in command, prompt, args, env or stdin"
    if argument is None:
        return None
    if argument not in rank:
        return f"{written}: no agent {show(argument)}{nearest(argument, rank)}"
    if argument == agent.name:
        return f"{written}: that is the agent itself; its own folder is {{artifacts}}"
    if rank[argument] > rank[agent.name]:
        return f"{written}: {argument} does not run before {agent.name}; add it to needs"
    return None


def _memory(n: int, agent: AgentTable) -> Wrong:
    applied = resolve(agent.memory)
    for key, message in disorder(applied):
        yield ("agents", n, "memory", key), message
    if _surely_node(agent):
        for table, key, message in too_small_for_node(agent.node, applied.hard):
            yield ("agents", n, table, key), message


def _surely_node(agent: AgentTable) -> bool:
    program = agent.command[0].rpartition("/")[2] if agent.command else ""
    return agent.runtime == "node" or (agent.runtime == "auto" and program in _NODE_PROGRAMS)


def _agent(agent: AgentTable) -> Wrong:
    if agent.stdin and agent.stdin_file:
        yield ("stdin_file",), "set stdin or stdin_file, not both"
    yield from _variables(agent.env, ())
    if agent.gc.gap > _LONGEST_GAP:
        yield ("gc", "gap"), "more than 1min: an agent above memory.soft could wait so long for a GC; set 1min or less"
    if agent.retry.max_wait < agent.retry.wait:
        yield ("retry", "max_wait"), "below retry.wait; raise it, or lower retry.wait"
    if (each := agent.for_each) and (ways := sum(bool(way) for way in each.ways())) != 1:
        if ways > 1:
            yield ("for_each",), "needs a list of items, or one of glob and lines"
        elif not each.allow_empty:
            yield (
                ("for_each",),
                "no items\nlist some, or set glob or lines; for_each.allow_empty = true skips the agent",
            )
    if each is not None:
        blank = (m for m, item in enumerate(each.items) if not item.strip())
        yield from ((("for_each", "items", m), "a blank item: write its text, or remove it") for m in blank)
    if agent.when and agent.otherwise:
        yield ("otherwise",), "set when or otherwise, not both: otherwise is for a task that no when matches"
    for n, word in enumerate(agent.when):
        yield from _when(("when", n), word.strip())
    for n, text in enumerate(agent.drain.allow):
        yield from _allow(("drain", "allow", n), text)
    if not agent.success.codes:
        yield ("success", "codes"), "empty: no exit code would mean success; remove the key for the default, 0"
    if agent.success.output:
        yield from _regex(("success", "output"), agent.success.output)


def _when(at: KeyPath, word: str) -> Wrong:
    if not word:
        yield at, "an empty word\nwrite a word of the task, or remove it"
    if word == "/":
        yield at, 'a single slash\nwrite a regular expression between two, such as "/data(base)?/"'
    elif written := words.expression(word):
        pattern, flags = written
        if not pattern.strip():
            yield at, 'an empty regular expression\nwrite it between the slashes, such as "/data(base)?/"'
        elif flags not in ("", "i"):
            plain, text = words.quoted(f"/{pattern}/"), words.quoted(word[1:])
            unknown = f"unknown flag{'s' * (len(flags) > 1)} {flags}"
            yield at, f"{unknown}\nwrite {plain}, which matches in any case, or {text} for the text"
        else:
            yield from _regex(at, pattern)


def _allow(at: KeyPath, text: str) -> Wrong:
    if not text.strip(" *?"):
        yield at, f"{show(text)} keeps every process\nwrite a part of the command line of those to keep"
    elif "[" in (rest := _SET.sub(lambda match: "x" * len(match[0]), text)):
        n = rest.index("[")
        literal = f"{text[:n]}[[]{text[n + 1 :]}"
        yield at, f"{show(text)} has a [ without its ]\nwrite {show(literal)} for that character"


def _variables(env: Iterable[str], at: KeyPath) -> Wrong:
    for name in env:
        if not _VARIABLE.fullmatch(name):
            yield (*at, "env", name), "not a variable name: it is empty, or contains an equals sign"


_SPENT = {"usd": "cost", "tokens": "tokens", "turns": "turns"}  # keys of a budget


def _budget(agent: AgentTable) -> Wrong:
    for key in _unreported(agent, agent.budget):
        yield ("budget", key), _no_report(agent, key, "budget")


def _unreported(agent: AgentTable, budget: Budget) -> list[str]:
    """Return the keys of a budget that the agent's CLI cannot be held to."""
    settings = agent.settings
    if settings is None or settings.dialect is None:  # it is no agent CLI
        return []
    reports = () if _has_other_output(agent) else settings.reports
    return [key for key in _SPENT if getattr(budget, key) is not None and key not in reports]


def _has_other_output(agent: AgentTable) -> bool:
    """Return whether `args` replace the JSON stream."""
    return agent.prompt is not None and agent.form is not None and agent.form.sets_output(agent.args)


def _no_report(agent: AgentTable, key: str, table: str) -> str:
    settings = agent.settings
    if settings is not None and key in settings.reports:
        why = f"{agent.preset} reports its {_SPENT[key]} in the JSON stream only"
        return f"{why}\ntake the option for another output out of args"
    known = " or ".join(f"{table}.{each}" for each in settings.reports) if settings is not None else ""
    return f"{agent.preset} reports no {_SPENT[key]}\nuse {known}"


def _prompt(agent: AgentTable) -> Wrong:
    takers = ", ".join(prompt_presets())
    if agent.prompt is None:
        for key, value in (("args", agent.args), ("model", agent.model)):
            if value:
                yield (key,), "goes with a prompt only\nwrite it into command"
    elif not agent.prompt.strip():
        yield ("prompt",), "empty; write what the agent shall do"
    elif agent.settings is None:
        yield ("preset",), f"a prompt needs the CLI that gets it\nset preset to one of {takers}"
    elif agent.form is None:
        told = f"{agent.preset} takes no prompt"
        yield ("preset",), f"{told}\nset command in place of prompt, or preset to one of {takers}"
    elif agent.model is not None and not agent.form.model:
        yield ("model",), f"preset {agent.preset} has no option for a model\nremove it"
    elif agent.model is not None and not agent.model.strip():
        yield ("model",), "empty; write a model's name, or remove the key for the CLI's own"


def _resumed(profile: Profile) -> Wrong:
    """Find agents that are to resume a conversation and cannot. A top-level key is wrong only if no agent can."""
    cannot = {n: why for n, agent in enumerate(profile.agents) if (why := _not_resumable(agent))}
    if profile.retry.how is RetryHow.RESUME:
        if len(cannot) == len(profile.agents):
            yield from ((("retry", "how"), why) for why in cannot.values())
        return
    for n, why in cannot.items():
        if profile.agents[n].retry.how is RetryHow.RESUME:
            yield ("agents", n, "retry", "how"), why


def _not_resumable(agent: AgentTable) -> str:
    if agent.prompt is None:
        return 'only an agent with a prompt has a conversation\nset prompt in place of command, or how = "auto"'
    if agent.form is not None and not agent.form.resume:
        return f'preset {agent.preset} cannot resume a conversation\nset how = "auto"'
    if agent.form is not None and not agent.form.mint and _has_other_output(agent):
        return "the conversation's id is in the JSON stream only\nremove the option for another output from args"
    return ""


def _session_options(agent: AgentTable) -> Wrong:
    if agent.form is None:
        return
    ours = {word.partition("=")[0] for word in (*agent.form.mint, *agent.form.resume) if word.startswith("-")}
    for n, word in enumerate(agent.args):
        if (option := word.partition("=")[0]) in ours:
            yield ("args", n), f"seqsup sets {option} itself, to resume the conversation\nremove it, or set command"


def _commands(agent: AgentTable, profile: Profile) -> Wrong:
    if agent.prompt is None:
        yield from _command(agent.command, ("command",), profile)
    if agent.success.command:
        yield from _command(agent.success.command, ("success", "command"), profile)
    if agent.repeat is not None:
        yield from _command(agent.repeat.until, ("repeat", "until"), profile)


def _command(command: tuple[str, ...], at: KeyPath, profile: Profile) -> Wrong:
    if not command or not command[0]:
        yield at, 'empty; write program and arguments as a list, such as ["node", "agent.mjs"]'
    elif profile.file is not None and (n := words.operator(command)) is not None:  # `run` gets its words from a shell
        yield (*at, n), f"{command[n]} is a word for a shell, and no shell runs this\nwrite {words.for_shell(command)}"


def _hooks(profile: Profile) -> Wrong:
    for point, commands in profile.hooks.commands.items():
        for n, command in enumerate(commands):
            split = _split(command)
            found = words.operator(split)
            if found is not None and split[found] in command.split():  # else it is inside quotes
                told = f"{split[found]} is a word for a shell, and no shell runs this"
                yield ("hooks", point, n), f"{told}\nwrite {words.quoted(f'sh -c {shlex.quote(command)}')}"


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []  # the survey says why


def _regex(at: KeyPath, pattern: str) -> Wrong:
    import regex  # 8 ms, which only such keys cost

    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        yield at, f"not a regular expression: {error}"
