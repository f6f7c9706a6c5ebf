"""`seqsup tune`: limits suggested from what agents have taken so far."""

import os
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from seqsup.cli import complete
from seqsup.cli.load_plan import load
from seqsup.cli.output import notice, put_object
from seqsup.cli.read_profile import profile_path, read, state_dir_of
from seqsup.errors import SeqsupError
from seqsup.host.files import replace
from seqsup.model.profile import AgentTable, Profile
from seqsup.plan.select import Choice
from seqsup.policy.learning import FEW, Past, SuggestedLimits, good, suggest
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import NoJournal
from seqsup.text import counted, named, styled, wrap
from seqsup.units import format_duration, format_size, write_duration, write_size
from seqsup.view.terminal import width

_WIDTH = 80  # columns where they are not known


@click.command(short_help="Suggest limits from past runs.")
@click.argument("profile", required=False, shell_complete=complete.profile)
@click.option("--write", is_flag=True, help="Write the limits into PROFILE, and change nothing else in it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes and times in seconds.")
def tune(profile: str | None, write: bool, as_json: bool) -> None:
    """Suggest memory.soft, memory.hard and timeouts.wall for each of PROFILE's agents, as TOML to copy.

    Without PROFILE: agents.toml, or the only profile of the current folder. PROFILE may be another folder.

    From the peaks and times of attempts that went well: what 95 % of them stay below, and over that a quarter (soft),
    a half (hard), or twice as much (wall). What a limit has stopped counts with the peak it had.
    """
    profile = profile_path(profile)
    read_in = read(profile)
    made = load(profile, Choice(any_task=True, any_items=True))  # its path as runs know it
    pasts = _pasts(read_in, made.profile)
    suggested = {name: limits for name, past in pasts.items() if (limits := suggest(past)) is not None}
    if as_json:
        put_object("seqsup.tune/1", {"agents": [_fields(name, limits) for name, limits in suggested.items()]})
    elif suggested:
        click.echo("\n".join(_patch(suggested)))
    if unknown := [agent.name for agent in read_in.agents if agent.name not in suggested]:
        there = (f"{name} (has {good(pasts.get(name, ()))})" for name in unknown)
        told = f"{named(there)}: {FEW} successful runs are needed before limits can be suggested"
        notice(told)
    if write and suggested:
        _write(Path(profile), suggested)
        notice(f"wrote the limits of {counted(len(suggested), 'agent')} into {profile}")


def _pasts(profile: Profile, path: str | None) -> dict[str, list[Past]]:
    try:
        journal = Journal.open(state_dir_of(profile))
    except NoJournal:
        return {}
    return {agent.name: list(_past(journal, path, agent)) for agent in profile.agents}


def _past(journal: Journal, path: str | None, agent: AgentTable) -> Iterator[Past]:
    if agent.for_each is None:
        yield from journal.past(path, agent.name)
        return
    number = 1
    while past := journal.past(path, f"{agent.name}.{number}"):
        yield from past
        number += 1


def _patch(suggested: dict[str, SuggestedLimits]) -> Iterator[str]:
    for name, limits in suggested.items():
        of = limits.of
        median = f"{name}: {counted(of.attempts, 'attempt')} that completed; median {format_size(of.peak)}, "
        within = f"{format_duration(of.seconds)}; 95 % within {format_size(of.high)}, {format_duration(of.long)}"
        yield from _comment("dim", median + within)
        if limits.held_back:
            yield from _comment("yellow", f"a memory limit has stopped {counted(limits.held_back, 'attempt')}")
        yield "[[agents]]"
        yield f'name = "{name}"'
        yield f'memory = {{ soft = "{write_size(limits.soft)}", hard = "{write_size(limits.hard)}" }}'
        yield f'timeouts = {{ wall = "{write_duration(limits.wall)}" }}'
        yield ""


def _comment(style: str, text: str) -> Iterator[str]:
    return (styled(style, line) for line in wrap(f"# {text}", width() or _WIDTH, "# "))


def _fields(name: str, limits: SuggestedLimits) -> dict[str, object]:
    of = limits.of
    return {
        "agent": name, "soft": limits.soft, "hard": limits.hard, "wall": limits.wall, "attempts": of.attempts,
        "held_back": limits.held_back, "peak_median": of.peak, "peak_p95": of.high, "seconds_median": of.seconds,
        "seconds_p95": of.long,
    }  # fmt: skip


def _write(profile: Path, suggested: dict[str, SuggestedLimits]) -> None:
    import tomlkit  # only here, and slow to import

    from seqsup.plan.preset_files import presets_for
    from seqsup.profile.parse import parse
    from seqsup.state.run_folder import straight

    raw = profile.read_bytes()
    mark = BOM_UTF8 if raw.startswith(BOM_UTF8) else b""
    text = raw.removeprefix(mark).decode()
    ends = "\r\n" if 0 < text.count("\n") == text.count("\r\n") else "\n"
    text = text.replace(ends, "\n")
    document: Any = tomlkit.parse(text)
    if tomlkit.dumps(document) != text:
        raise SeqsupError(
            f"{profile}: its tables are in an order that would not survive; put the [[agents]] next to each other,"
            " or copy what is printed"
        )
    for agent in document["agents"]:
        if (limits := suggested.get(agent["name"])) is None:
            continue
        memory = agent.setdefault("memory", tomlkit.inline_table())
        memory["soft"], memory["hard"] = write_size(limits.soft), write_size(limits.hard)
        agent.setdefault("timeouts", tomlkit.inline_table())["wall"] = write_duration(limits.wall)
    changed = tomlkit.dumps(document)
    presets = presets_for(straight(profile).parent)
    again = parse(changed, str(profile), presets)  # ProfileError: another limit, such as memory.warn, no longer fits
    if any(agent.memory.hard != suggested[agent.name].hard for agent in again.agents if agent.name in suggested):
        raise SeqsupError(f"{profile}: the limits would not stand where they count; copy what is printed")
    _replace(profile.resolve(), mark + changed.replace("\n", ends).encode())


def _replace(file: Path, content: bytes) -> None:
    """Replace the profile in one step. It keeps its owner, and a link to it stays a link."""
    before = file.stat()
    owner = before.st_uid, before.st_gid
    ours = os.geteuid() != 0 or owner == (0, 0)  # only root can give a file away
    replace(file, content, mode=before.st_mode & 0o777, owner=None if ours else owner)
