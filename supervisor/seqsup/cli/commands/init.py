"""`seqsup init`: a first profile, and what runs one by itself."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from seqsup.cli import complete
from seqsup.cli.arguments import text
from seqsup.cli.output import put_file
from seqsup.cli.read_profile import USUAL, profile_path
from seqsup.errors import SeqsupError
from seqsup.host.machine import total
from seqsup.model.preset import prompt_presets
from seqsup.plan.preset_files import presets_for
from seqsup.state.run_folder import state_dir, straight
from seqsup.units import GIB

_SCHEMA = "seqsup.schema.json"
_LARGEST = 4 * GIB


@click.command(short_help="Write a first profile, an example or a systemd unit.")
@click.argument("profile", required=False, shell_complete=complete.profile)
@click.option(
    "--preset",
    metavar="CLI",
    help=f"CLI of the agents: {', '.join(prompt_presets())}. Default: one that is installed.",
    shell_complete=complete.preset,
)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    type=text,
    metavar="TEXT",
    help="Prompt of an agent. May be repeated, one agent for each.",
)
@click.option(
    "--example",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Write this example, with all files that it needs, to the folder PROFILE (here). Without NAME: list them.",
    shell_complete=complete.example,
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--systemd", is_flag=True, help="Print a systemd unit for PROFILE instead, with the commands to enable it."
)
@click.option(
    "--timer", is_flag=True, help="Print a systemd timer for that unit instead, with lines for cron as comments."
)
@click.option(
    "--memory", is_flag=True, help="With --systemd and --timer: print units that log memory every five minutes."
)
@click.option(
    "--unit",
    type=click.Choice(["worker"]),
    help="Print a systemd unit for `seqsup work` instead, with the commands to enable it.",
)
def init(
    profile: str | None,
    preset: str | None,
    prompts: tuple[str, ...],
    example: str | None,
    force: bool,
    systemd: bool,
    timer: bool,
    memory: bool,
    unit: str | None,
) -> None:
    """Write a profile for the CLI that is found on this machine, with comments, to PROFILE (agents.toml).

    It also writes seqsup.schema.json, by which editors check the profile. In a terminal it asks for what was not given.
    It overwrites nothing without --force.
    """
    if unit is not None:
        if profile or preset or prompts or example is not None or force or systemd or timer or memory:
            raise click.UsageError("--unit takes no profile and no other option")
        click.echo(_worker(), nl=False)
        return
    if example is not None:
        if preset or prompts or force or systemd or timer or memory:
            raise click.UsageError("--example takes no other option")
        _write_example(example, Path(profile or "."))
        return
    if memory and not (systemd or timer):
        raise click.UsageError("--memory is for --systemd and --timer")
    if systemd or timer:
        if preset or prompts or force:
            raise click.UsageError(
                "--systemd and --timer print, and write no profile: leave --preset, --prompt, --force"
            )
        click.echo(_unit(profile_path(profile), systemd, timer, memory), nl=False)
        return
    from seqsup.profile import starter

    path = Path(profile or USUAL)
    if path.is_dir():
        path /= USUAL
    if path.suffix != ".toml":
        raise SeqsupError(f"a profile's name ends in .toml: try {path}.toml")
    if path.exists() and not force:
        raise SeqsupError(f"{path} exists already: choose another name, or overwrite it with --force")
    known = presets_for(straight(path).parent)
    programs = {name: each.prompt.command[0] for name, each in known.items() if each.prompt is not None}
    name = _choose(preset, programs)
    if not prompts and sys.stdin.isatty() and sys.stdout.isatty():
        prompts = tuple(_ask_prompts())
    put_file(path, starter.write(name, _hard(), prompts).encode())
    with_schema = _write_schema(path.parent / _SCHEMA)
    click.echo(f"seqsup: wrote {path} (agents run {name}){with_schema}", err=True)
    named = shlex.quote(str(path))
    program = programs[name]
    if shutil.which(program) is None:
        absent = f"{program} is not on PATH" if preset else f"no known CLI is on PATH ({', '.join(programs)})"
        click.echo(f"seqsup: {absent}: install {program}, or change preset in {path}", err=True)
        click.echo("next: seqsup init --example demo      (needs only Node)", err=True)
    else:
        click.echo(f"next: seqsup plan {named} · seqsup start {named}", err=True)


def _write_example(name: str, folder: Path) -> None:
    """Write the files of an example to a folder, or list the examples if the name is empty."""
    from seqsup.cli.shipped import examples, files_of_example
    from seqsup.text import nearest

    known = examples()
    listed = "\n".join(f"{each:{max(map(len, known))}}  {about}" for each, about in known.items())
    if not name:
        click.echo(listed)
        return
    if name not in known:
        click.echo(listed, err=True)
        raise click.UsageError(f"unknown example {name}{nearest(name, known)}")
    if folder.suffix == ".toml":
        raise SeqsupError(f"--example writes several files: name a folder instead of {folder}")
    files = {folder / file: content for file, content in files_of_example(name).items()}
    if there := next((path for path in files if path.exists()), None):
        raise SeqsupError(f"{there} exists already: choose another folder (seqsup init FOLDER --example {name})")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file(path, content)
        if content.startswith(b"#!"):
            path.chmod(0o755)
    with_schema = _write_schema(folder / _SCHEMA)
    profile, *beside = files
    others = "".join(f", {each}" for each in dict.fromkeys(f"{path.parent}/" for path in beside))
    click.echo(f"seqsup: wrote {profile}{others}{with_schema}", err=True)
    named = shlex.quote(str(profile))
    task = ' --task "…"' if b"{task}" in files[profile] else ""
    click.echo(f"next: seqsup plan {named} · seqsup start {named}{task}", err=True)


def _choose(preset: str | None, programs: Mapping[str, str]) -> str:
    """Return the preset that was asked for, or the one whose CLI is installed. `programs` are CLIs by preset.

    Without any it is the first known one: the profile is then complete, and `plan` and `start` refuse it until the CLI
    is installed. A profile of `echo` would complete, and nothing would have been done.
    """
    from seqsup.text import nearest

    if preset is not None:
        if preset not in programs:
            known = nearest(preset, programs) or f": {', '.join(programs)}"
            raise click.UsageError(f"unknown preset {preset}{known}")
        return preset
    here = [name for name, program in programs.items() if shutil.which(program)]
    if len(here) > 1 and sys.stdin.isatty() and sys.stdout.isatty():
        choice: str = click.prompt("Which CLI runs your agents?", type=click.Choice(here), default=here[0])
        return choice
    return next(iter((*here, *programs)))


def _ask_prompts() -> list[str]:
    click.echo("What should they do? Write one line for each agent. An empty line ends the list.")
    asked: list[str] = []
    while line := click.prompt(f"{len(asked) + 1}", default="", show_default=False).strip():
        asked.append(line)
    return asked


def _hard() -> int:
    """Half of the machine, at most 4 GiB, as whole units."""
    half = total() // 2
    return min(_LARGEST, half // (GIB // 4) * (GIB // 4) or half)


def _write_schema(path: Path) -> str:
    """Write what the profile's first line names, for editors. Return what to say of it.

    A file of that name that is not seqsup's stays.
    """
    import json

    from seqsup.profile.schema import schema

    described = schema()
    if path.exists() and described["title"] not in path.read_text(encoding="utf-8", errors="replace"):
        return ""
    path.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return f" and {path.name} (for editors)"


def _unit(profile: str, with_unit: bool, with_timer: bool, of_memory: bool) -> str:
    from seqsup.cli.load_plan import load
    from seqsup.cli.read_profile import read, state_dir_of
    from seqsup.plan.objections import NoTask
    from seqsup.plan.select import Choice
    from seqsup.view.systemd import Service, memory_timer, timer, write, write_memory

    try:
        plan = load(profile, Choice())
    except NoTask as error:
        raise SeqsupError(f"{error.complaints[0].message}: a unit gives no task; write it into {profile}") from None
    assert plan.profile is not None
    folder = state_dir_of(read(profile)) if of_memory else state_dir()  # mem is not given the profile
    command, variables = _own_command(folder)
    service = Service(
        command=command, profile=plan.profile, variables=variables, system=os.geteuid() == 0,
        log=str(folder / "memory.ndjson"),
    )  # fmt: skip
    unit, its_timer = (write_memory, memory_timer) if of_memory else (write, timer)
    texts = [unit(service, plan)] if with_unit else []
    texts += [its_timer(service, plan)] if with_timer else []
    return "\n".join(texts)


def _worker() -> str:
    from seqsup.queue.address import VARIABLE
    from seqsup.view.systemd import Service, write_worker

    command, variables = _own_command(state_dir())
    if queue := os.environ.get(VARIABLE):
        variables[VARIABLE] = queue
    return write_worker(Service(command=command, variables=variables, system=os.geteuid() == 0))


def _own_command(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return what starts seqsup from a unit, and the variables that it needs for this state folder."""
    from seqsup.host.installation import without_seqsup

    path = without_seqsup(os.environ.get("PATH", os.defpath))
    own = shutil.which("seqsup", path=path)
    variables = {"PATH": path}
    given = os.environ.get("SEQSUP_STATE_DIR") or os.environ.get("XDG_STATE_HOME")
    if given or folder != state_dir():  # otherwise the unit's runs are in another queue
        variables["SEQSUP_STATE_DIR"] = str(folder)
    return (own,) if own is not None else (sys.executable, "-m", "seqsup"), variables
