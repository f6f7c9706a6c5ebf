"""Words that a shell may offer behind a command: agents of the profile, runs. After a mistake none."""

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from seqsup.errors import SeqsupError
from seqsup.state.run_folder import label, state_dir, straight

_SHOWN = 60  # characters of an agent's command
_LATEST = 20  # runs


def profile(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]


def agent_of_profile(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The agents of PROFILE, or of the only one of the current folder, with their commands."""
    from seqsup.cli.read_profile import profiles_in, read

    # While an option lacks its value, click leaves the words that follow in `args`
    path = Path(context.params.get("profile") or next(iter(context.args), ""))
    here = profiles_in(path) if path.is_dir() else [path]
    try:
        agents = read(str(here[0])).agents if len(here) == 1 else ()
    except SeqsupError:
        return []
    return _starting(begun, ((agent.name, (agent.prompt or " ".join(agent.command))[:_SHOWN]) for agent in agents))


def preset(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from seqsup.plan.preset_files import presets_for

    try:
        presets = presets_for(straight(Path()))
    except SeqsupError:
        return []
    any_one = context.info_name == "presets"  # elsewhere one that takes a prompt
    return _starting(begun, ((name, each.title) for name, each in presets.items() if any_one or each.prompt))


def example(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from seqsup.cli.shipped import examples

    try:
        return _starting(begun, examples().items())
    except SeqsupError:
        return []


def run(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The latest runs, and the names under which they ran; behind j or #, jobs of the queue."""
    return _starting(begun, [*_runs(), *_jobs_of(begun)])


def job(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The jobs of the queue that ended last, run or come next."""
    return _starting(begun, _jobs("", context.params.get("url")))


def _jobs_of(begun: str) -> list[tuple[str, str]]:
    return _jobs(begun[0]) if begun[:1] in ("#", "j") and begun else []


def _jobs(sign: str, url: str | None = None) -> list[tuple[str, str]]:
    from seqsup.queue.address import open_queue

    try:
        queue = open_queue(url)
        try:
            jobs = queue.jobs(over=_LATEST, waiting=_LATEST)
        finally:
            queue.close()
    except SeqsupError:
        return []
    return [(f"{sign}{each.number}", f"{each.name}, {each.state}") for each in jobs]


def run_or_agent(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return _starting(begun, [*_agents(None), *_runs(), *_jobs_of(begun)])


def agent_of_run(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    given = context.params.get("run")
    return _starting(begun, _agents(given) or _items(None, given))


def item_of_agent(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return _starting(begun, _items(context.params.get("run"), context.params.get("agent")))


def _runs() -> Iterable[tuple[str, str]]:
    from seqsup.state.journal import Journal

    try:
        rows = Journal.open(state_dir()).runs()[-_LATEST:]
    except SeqsupError:
        return []
    named = {row.name: f"the last one, {label(row.run)}" for row in rows}
    return [*((label(row.run), row.name) for row in reversed(rows)), *named.items()]


def _items(run: str | None, agent: str | None) -> list[tuple[str, str]]:
    """The items of the copies of an agent of for_each."""
    from seqsup.cli.find_run import find

    try:
        view = find(run).view()
    except SeqsupError:
        return []
    return [
        (each.item, each.name) for each in view.agents.values() if each.item and each.name.rpartition(".")[0] == agent
    ]


def _agents(given: str | None) -> list[tuple[str, str]]:
    from seqsup.cli.find_run import find

    try:
        view = find(given).view()
    except SeqsupError:
        return []
    agents = [(each.name, ", ".join(filter(None, (view.run, each.item, each.state)))) for each in view.agents.values()]
    return [*agents, *((each.name, f"{view.run}, beside it") for each in view.companions.values())]


def _starting(begun: str, offered: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(name, help=about) for name, about in offered if name.startswith(begun)]
