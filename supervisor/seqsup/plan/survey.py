"""Survey of this machine for a profile: programs, Nodes, files, memory. Read-only."""

import glob
import hashlib
import os
import resource
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import cache, partial
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from seqsup.containment.launcher import out_of_reach
from seqsup.errors import SeqsupError
from seqsup.host import users
from seqsup.host.git import GitRepository
from seqsup.host.machine import LINUX, total
from seqsup.host.trust import Exposure, exposure
from seqsup.metrics.files import irreplaceable
from seqsup.model.kinds import KeyPath
from seqsup.model.plan import Account, Detected, NodeBinary
from seqsup.model.profile import LISTEN, AgentTable, MetricsTable, NotifyTable, Profile, address
from seqsup.node import flags
from seqsup.node.binary import NoAnswer, probe
from seqsup.node.detect import Detector, detect, find
from seqsup.plan import repositories
from seqsup.plan.as_root import unsafe
from seqsup.plan.environment import added, inherited
from seqsup.plan.expand import ExpandedAgent, expand, is_copy, numbered
from seqsup.plan.secrets import look_up
from seqsup.profile import placeholders
from seqsup.profile.words import OPERATORS
from seqsup.text import natural

_CHANGEABLE = "refused as root, because another user can change this profile: {}, or set run.user"
_NEEDS_LINUX = "needs Linux: elsewhere leftover processes cannot be proven gone"


class AgentSurvey(Struct, frozen=True, kw_only=True):
    """Findings for one agent."""

    detected: Detected
    account: Account | None = None  # the user that it becomes
    node: NodeBinary | None = None  # where Node will run
    user_options: str = ""  # NODE_OPTIONS as the agent would have it without us
    stdin_digest: str = ""
    problems: dict[KeyPath, str] = field(default_factory=dict)  # key of the agent -> what is wrong
    missing: str = ""  # the program, if it is not installed; `problems` says so too

    @property
    def sets_own_heap(self) -> bool:
        return flags.sets_heap(flags.split(self.user_options))

    @property
    def takes_gc(self) -> bool:
        return self.node is not None and not flags.refused([flags.GC], self.node.allowed)


class Survey(Struct, frozen=True, kw_only=True):
    """Findings for a profile."""

    folder: str  # absolute; where the profile's relative paths begin
    memory: int  # of the host, in bytes
    items: dict[str, dict[str, str]]  # of each agent with for_each, by the names of its copies
    agents: dict[str, AgentSurvey]  # by name, of expanded agents
    problems: dict[KeyPath, str]  # key of the profile -> what is wrong
    account: Account | None = None  # of run.user
    hooks_account: Account | None = None
    exposed: Exposure | None = None  # where another user can change the profile
    nodes: dict[str, str] = field(default_factory=dict)  # companion -> the Node that it, or what it starts, would find
    listen: str | None = LISTEN  # where figures are served unless the profile says so
    missing_secrets: dict[str, str] = field(default_factory=dict)  # name -> why it has no value, and the remedy
    repository: GitRepository | None = None  # of [workspace]


class Unreadable(Exception):
    """A file that the profile names cannot be read; the text says why."""


def gather(
    profile: Profile, *, folder: str, task: str, environ: Mapping[str, str], state_dir: str | None = None,
    but: Set[int] = frozenset(), earlier: Mapping[str, str | None] = MappingProxyType({}),
    copies: Mapping[str, str] | None = None,
) -> Survey:  # fmt: skip
    """Look for all agents of the profile but those at these places, of which not enough is known.

    `earlier` are the agents of the run that is resumed, with their items. `copies` are those that there are of agents
    with for_each, with their items; None: they are looked for.
    """
    items: dict[str, dict[str, str]] = {}
    agents: dict[str, AgentSurvey] = {}
    problems: dict[KeyPath, str] = {}
    accounts = _accounts(profile, state_dir, problems)
    exposed = exposure(f"{folder}/{Path(profile.file).name}") if profile.file else None
    presets = dict.fromkeys(agent.settings.file for agent in profile.agents if agent.settings and agent.settings.file)
    exposed = exposed or next(filter(None, map(exposure, presets)), None)
    if exposed is not None and os.geteuid() == 0 and not problems:
        problems |= dict.fromkeys(_done_as_root(profile, accounts), _CHANGEABLE.format(exposed))
    problems |= _unfit_hooks(profile, folder, accounts, environ)
    if (profile.notify.to or profile.notify.command) and (not profile.run.user or profile.run.user in accounts):
        problems |= _unfit_notify(profile.notify, folder, accounts.get(profile.run.user), environ)
    look, expanded = _Look(environ, folder), list[tuple[int, ExpandedAgent, Account | None]]()
    for n, table in enumerate(profile.agents):
        for key, told in out_of_reach(table.rlimits):
            problems["agents", n, "rlimits", key] = told
        if n in but:
            continue
        account = accounts.get(table.user or profile.run.user)
        if table.for_each is not None and copies is not None:
            items[table.name] = {copy: item for copy, item in copies.items() if is_copy(copy, table.name)}
        elif table.for_each is not None:
            try:
                with users.acting_as(account):
                    items[table.name] = numbered(table.name, read_items(table, folder), earlier)
            except Unreadable as error:
                items[table.name] = {}
                problems["agents", n, "for_each", "lines"] = str(error)
        expanded += [(n, agent, account) for agent in expand(table, items.get(table.name), folder, task)]
    repository = _repository(profile, folder, expanded, accounts.get(profile.run.user), environ, problems)
    for _, agent, account in expanded:
        agents[agent.name] = look.at(
            agent, account, in_repository=repositories.hides(profile.workspace, repository, folder, agent.cwd)
        )
    if profile.run.concurrency > 1 and not LINUX:
        problems["run", "concurrency"] = _NEEDS_LINUX
    problems |= _unfit_files(profile.metrics, folder)
    run_account = accounts.get(profile.run.user)
    path_of_user = inherited(run_account, environ).get("PATH", os.defpath)
    nodes = _companions(profile, folder, path_of_user, problems)
    return Survey(
        folder=folder, memory=total(), items=items, agents=agents, problems=problems, listen=serving(environ),
        account=run_account, nodes=nodes, exposed=exposed,
        hooks_account=accounts.get(profile.hooks.user or profile.run.user),
        missing_secrets=look_up(_secrets(profile), environ).missing, repository=repository,
    )  # fmt: skip


def _companions(profile: Profile, folder: str, path_of_user: str, problems: dict[KeyPath, str]) -> dict[str, str]:
    """Return the Node of each companion that has one, and add what prevents a companion's start to `problems`."""
    nodes: dict[str, str] = {}
    for n, companion in enumerate(profile.companions):
        cwd, path = str(Path(folder, companion.cwd)), added(companion.env).get("PATH", path_of_user)
        if companion.command and (why := _cannot_start(companion.command, cwd, path)):
            problems["companions", n, *why[0]] = why[1]
        if node := find("node", cwd, path):
            nodes[companion.name] = node
    return nodes


def _secrets(profile: Profile) -> list[str]:
    environments = [each.env for each in profile.agents] + [each.env for each in profile.companions]
    return placeholders.secrets(placeholders.escape_foreign(text) for env in environments for text in env.values())


def _repository(
    profile: Profile, folder: str, agents: Sequence[tuple[int, ExpandedAgent, Account | None]],
    account: Account | None, environ: Mapping[str, str], problems: dict[KeyPath, str],
) -> GitRepository | None:  # fmt: skip
    """Look at the repository of [workspace] as each user that owns workspaces. `account` is that of the run."""
    given = profile.workspace
    if given is None:
        return None
    owners = [account, *(own for _, _, own in agents if given.per == "agent")]
    places = [(n, agent.cwd) for n, agent, _ in agents]
    return repositories.look(given, folder, places, list(dict.fromkeys(owners)), environ, problems)


def _unfit_files(metrics: MetricsTable, folder: str) -> dict[KeyPath, str]:
    files = {key: file for key in ("textfile", "file_sd") if (file := getattr(metrics, key)) is not None}
    kinds = {key: irreplaceable(Path(folder, file)) for key, file in files.items()}
    return {("metrics", key): f"{files[key]} is {kind}" for key, kind in kinds.items() if kind}


def serving(environ: Mapping[str, str]) -> str | None:
    """Where to serve figures; for `run`, which has no profile, the one way to say so."""
    try:
        return address(environ.get("SEQSUP_METRICS_LISTEN") or LISTEN)
    except ValueError as error:
        raise SeqsupError(f"SEQSUP_METRICS_LISTEN: {error}") from None


class _Look:
    """Looks at agents; what is the same for many is looked at once."""

    def __init__(self, environ: Mapping[str, str], folder: str) -> None:
        self._folder = folder
        self._inherited = cache(partial(inherited, ours=environ))
        self._detector = Detector()
        self._find_node = cache(partial(find, "node"))
        self._out_of_reach = cache(users.out_of_reach)
        self._ask = cache(_ask)

    def at(self, agent: ExpandedAgent, become: Account | None, *, in_repository: bool = False) -> AgentSurvey:
        """Look at an agent. Its folder may be in a repository of which there are no files here."""
        problems: dict[KeyPath, str] = {}
        inherits = self._inherited(become)
        path = added(agent.env).get("PATH", inherits.get("PATH", os.defpath))
        words = tuple(map(placeholders.finish, agent.command))
        if in_repository:
            agent = replace(agent, cwd=self._folder)
        if in_repository and words and "/" in words[0] and not words[0].startswith("/"):
            detected = Detected(kind="native", executable=words[0], why="a file of the repository")
            return AgentSurvey(
                account=become, detected=detected, node=self._node(agent, detected, path, become, problems),
                user_options=agent.env.get("NODE_OPTIONS", inherits.get("NODE_OPTIONS", "")),
                stdin_digest=self._stdin(agent, become, problems), problems=problems,
            )  # fmt: skip
        detected = self._detector.detect(words, agent.cwd, path)
        if why := _closed(agent.cwd):
            problems["cwd",] = why
        elif detected.executable is None:
            problems[agent.program_key] = detected.why
        elif become is not None:
            file = find(placeholders.finish(agent.command[0]), agent.cwd, path) or detected.executable
            if why := self._out_of_reach(become, agent.cwd, (file, detected.executable)):
                problems["user",] = why
        node = self._node(agent, detected, path, become, problems) if not problems else None
        for key, command in ((("success", "command", 0), agent.success_command), (("repeat", "until", 0), agent.until)):
            if command and (why := _never_a_program(command[0], agent.cwd, path)):
                problems[key] = why
        if LINUX and not problems:
            problems |= _too_long(agent)
        return AgentSurvey(
            account=become,
            missing=_not_installed(placeholders.finish(agent.command[0]), agent.cwd, path)
            if agent.program_key in problems
            else "",
            detected=detected,
            node=node,
            user_options=agent.env.get("NODE_OPTIONS", inherits.get("NODE_OPTIONS", "")),
            stdin_digest=self._stdin(agent, become, problems),
            problems=problems,
        )

    def _node(
        self, agent: ExpandedAgent, detected: Detected, path: str, become: Account | None, problems: dict[KeyPath, str]
    ) -> NodeBinary | None:
        """The Node that it is, or the one that what it starts finds on its PATH: MCP servers under any agent."""
        is_node = agent.runtime(detected) == "node"
        file = detected.executable if detected.kind == "node" else self._find_node(agent.cwd, path)
        if file is None:
            if is_node:
                problems["runtime",] = "no program node on PATH: install it, or leave runtime at auto"
            return None
        answer = self._ask(file, become)
        if isinstance(answer, NodeBinary):
            return answer
        if is_node:
            problems[agent.program_key] = answer
        return None

    def _stdin(self, agent: ExpandedAgent, become: Account | None, problems: dict[KeyPath, str]) -> str:
        if agent.stdin_file is None:
            return ""
        try:
            with users.acting_as(become), _open(Path(agent.stdin_file)) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except Unreadable as error:
            if not agent.table.needs:  # else an earlier agent may still write it
                problems["stdin_file",] = str(error)
            return ""


def _never_a_program(word: str, cwd: str, path: str) -> str:
    """Say why a program cannot be started later. A file that does not exist may yet be made."""
    if "/" not in word:
        return "" if shutil.which(word, path=path) else f"no program {word} on PATH: install it, or give its path"
    file = str(Path(cwd, word))
    if os.path.isdir(file):  # noqa: PTH112 (Path raises where it may not look)
        return f"{file} is a folder"
    if os.path.exists(file) and shutil.which(file) is None:  # noqa: PTH110
        return f"{file} is not executable; fix it with: chmod +x {shlex.quote(file)}"
    return ""


def _not_installed(word: str, cwd: str, path: str) -> str:
    """Return a program that is missing from PATH, and is no slip for a file or a whole command."""
    is_a_name = "/" not in word and len(word.split()) == 1 and word not in OPERATORS
    named = is_a_name and not os.path.lexists(f"{cwd}/{word}")
    return word if named and find(word, cwd, path) is None else ""


def _ask(file: str, become: Account | None) -> NodeBinary | str:
    """Return what a Node says of itself, or why it did not."""
    words = users.becoming(become) if become is not None else []  # never run as root what is another's
    try:
        return probe(file, words, inherited(become, os.environ))
    except NoAnswer as error:
        return str(error)


def _too_long(agent: ExpandedAgent) -> dict[KeyPath, str]:
    """Return the arguments and variables that are too long for the kernel, which bounds each by itself."""
    words: dict[KeyPath, str] = {("command", n): word for n, word in enumerate(agent.command)}
    if agent.prompt is not None:
        with_it = max(agent.prompt.form.words(agent.prompt.text), key=len)  # a CLI may take it as --prompt=…
        words = {("prompt",): with_it, **{("args", n): word for n, word in enumerate(agent.prompt.options)}}
    given: dict[KeyPath, str] = {
        **{key: placeholders.finish(word) for key, word in words.items()},
        **{("env", name): f"{name}={placeholders.finish(value)}" for name, value in agent.env.items()},
        **{("success", "command", n): word for n, word in enumerate(agent.success_command)},
        **{("repeat", "until", n): word for n, word in enumerate(agent.until)},
    }
    most = 32 * resource.getpagesize()
    why = f"an argument of {most} bytes or more: Linux allows less than {most // 1024} KiB"
    remedies = {"prompt": "put the text into a file, and name the file in the prompt"}
    return {
        key: f"{why}; {remedies.get(str(key[0]), 'use stdin or a file')}"
        for key, word in given.items() if len(os.fsencode(word)) >= most
    }  # fmt: skip


def _accounts(
    profile: Profile, state_dir: str | None, problems: dict[KeyPath, str]
) -> dict[str | None, Account | None]:
    """Look up the users of agents, and check that they can reach the folders that the run makes for them."""
    wanted: dict[str, KeyPath] = {profile.run.user: ("run", "user")} if profile.run.user else {}
    if profile.hooks.user:
        wanted.setdefault(profile.hooks.user, ("hooks", "user"))
    for n, agent in enumerate(profile.agents):
        if agent.user:
            wanted.setdefault(agent.user, ("agents", n, "user"))
    accounts: dict[str | None, Account | None] = {}
    for name, key in wanted.items():
        try:
            become = accounts[name] = users.look_up(name, profile.run.inherit)
            why = users.out_of_reach(become, str(Path(state_dir).parent)) if become and state_dir else ""
        except users.NoAccount as error:
            problems[key] = str(error)
            continue
        if why:
            problems[key] = (
                f"{why}, above the state folder; give it another with run.state_dir, such as /var/lib/seqsup"
            )
    return accounts


def _cannot_start(command: Sequence[str], cwd: str, path: str) -> tuple[KeyPath, str] | None:
    """The key that stands against a companion, and why."""
    if not LINUX:
        return ("command",), _NEEDS_LINUX
    if why := _closed(cwd):
        return ("cwd",), why
    detected = detect(command, cwd, path)
    return (("command", 0), detected.why) if detected.executable is None else None


def _closed(folder: str) -> str:
    """Why nothing can be started in a folder, or nothing."""
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116  # Path drops the dot, by which it must be entered
    except (FileNotFoundError, NotADirectoryError):
        return f"folder {folder} does not exist"
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def read_items(agent: AgentTable, folder: str) -> tuple[str, ...]:
    """Return what for_each of an agent lists or finds. Unreadable: its file cannot be read."""
    each = agent.for_each
    assert each is not None
    if each.glob is not None:
        found = glob.glob(each.glob, root_dir=folder, recursive=True)  # noqa: PTH207  # `..` and `/`
        return tuple(sorted(found, key=natural))
    if each.lines is not None:
        with _open(Path(folder, each.lines)) as file:
            raw = file.read()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise Unreadable(f"{file.name}:{line}: not UTF-8: save it as UTF-8") from None
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    return each.items


@contextmanager
def _open(file: Path) -> Iterator[BufferedReader]:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait for ever
            raise Unreadable(f"{file} is not a regular file")
        with file.open("rb") as opened:
            yield opened
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(f"file {file} does not exist") from None
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from None


def _done_as_root(profile: Profile, accounts: Mapping[str | None, Account | None]) -> Iterator[KeyPath]:
    """Give the keys of what root would run, and of files that root would replace."""
    run = profile.run.user
    yield from (("metrics", key) for key in ("textfile", "file_sd") if getattr(profile.metrics, key))
    if profile.hooks.commands and accounts.get(profile.hooks.user or run) is None:
        yield ("hooks", "user") if profile.hooks.user else ("hooks",)
    if accounts.get(run) is None:
        if profile.notify.command:
            yield "notify", "command"
        yield from (("companions", n) for n in range(len(profile.companions)))
    for n, agent in enumerate(profile.agents):
        if accounts.get(agent.user or run) is None:
            yield ("agents", n, "user") if agent.user else ("agents", n)


def _unfit_hooks(
    profile: Profile, folder: str, accounts: Mapping[str | None, Account | None], environ: Mapping[str, str]
) -> Iterator[tuple[KeyPath, str]]:
    user = profile.hooks.user or profile.run.user
    if user is not None and user not in accounts:  # there is no such user, which is a problem already
        return
    become = accounts.get(user)
    path = inherited(become, environ).get("PATH", os.defpath) if profile.hooks.commands else ""
    for point, commands in profile.hooks.commands.items():
        for n, command in enumerate(commands):
            if why := _unfit(command, folder, path, become):
                yield ("hooks", point, n), why


def _unfit(command: str, folder: str, path: str, become: Account | None) -> str:
    """Why a hook cannot be started as that user, or nothing."""
    if not LINUX:
        return _NEEDS_LINUX
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"{command!r} is not a command line: {error}"
    if not words:
        return "empty"
    if words[0].startswith("-") and detect(words, folder, path).executable is None:
        return f'{command!r} would be a hook of its own: write arguments in the hook\'s line, as in ["notify --quiet"]'
    return _no_program(words, folder, path, become, "hooks")


def _unfit_notify(
    notify: NotifyTable, folder: str, become: Account | None, environ: Mapping[str, str]
) -> Iterator[tuple[KeyPath, str]]:
    from seqsup.host import notification  # which most profiles have no use for

    if not LINUX:
        yield ("notify",), _NEEDS_LINUX
        return
    for n, why in notification.unfit(notify.to, environ, become).items():
        yield ("notify", "to", n), why
    if notify.command:
        path = inherited(become, environ).get("PATH", os.defpath)
        if why := _no_program(notify.command, folder, path, become, "notify.command"):
            yield ("notify", "command"), why


def _no_program(words: Sequence[str], folder: str, path: str, become: Account | None, what: str) -> str:
    """Why a command cannot be started as that user, or nothing. `what` names such commands."""
    detected = detect(words, folder, path)
    if detected.executable is None:
        return detected.why
    if become is None:
        return unsafe(words, folder, path) if os.geteuid() == 0 else ""
    programs = (find(words[0], folder, path) or detected.executable, detected.executable)
    why = users.out_of_reach(become, folder, programs)
    return why and f"{why}; {what} run as {become.name}, in the folder of the profile"
