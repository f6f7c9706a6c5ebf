"""`seqsup presets`: what seqsup knows of agent CLIs, and what the user has added."""

from pathlib import Path

import click
import msgspec

from seqsup.cli import complete
from seqsup.cli.output import put_object
from seqsup.errors import SeqsupError
from seqsup.model.preset import FOLDER, Preset
from seqsup.plan.preset_files import preset_files, presets_for, read_file, user_folder
from seqsup.state.run_folder import straight
from seqsup.text import Width, nearest, printable
from seqsup.view.table import Column, render
from seqsup.view.terminal import width

_COLUMNS = (Column("preset", right=False), Column("for", right=False), Column("prompt"), Column("from", right=False))
_WIDTH = Width(100)  # where it is not known


@click.command(short_help="List the presets, or show or check one.")
@click.argument("name", required=False, shell_complete=complete.preset)
@click.option("--check", type=click.Path(path_type=Path), metavar="FILE", help="Check the file of a preset.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def presets(name: str | None, check: Path | None, as_json: bool) -> None:
    """List the presets of seqsup and your own, with their files. With NAME: print its file.

    Your own are in ~/.config/seqsup/presets/, and in presets/ next to a profile. This command looks for the latter in
    the current folder. Of two with one name, that next to the profile wins over yours, and yours over that of seqsup.
    """
    if check is not None:
        if name is not None:
            raise click.UsageError("name a preset, or a file with --check, not both")
        read_file(check)
        click.echo(f"{printable(str(check))}: no mistakes")
        return
    files = preset_files(here := straight(Path()))
    if name is not None:
        if name not in files:
            raise SeqsupError(f"no preset {printable(name)}{nearest(name, files)}; `seqsup presets` lists them")
        found = {name: presets_for(here)[name]} if as_json else {}
        if not as_json:
            click.echo(files[name].read_text(encoding="utf-8-sig"), nl=False)
            return
    else:
        found = presets_for(here)
    if as_json:
        put_object("seqsup.presets/1", {"presets": [_as_object(found[each]) for each in sorted(found)]})
        return
    rows = [
        (each, found[each].title, "yes" if found[each].prompt else "no", _origin(files[each])) for each in sorted(found)
    ]
    click.echo("\n".join(line.rstrip() for line in render(_COLUMNS, rows, width() or _WIDTH)))
    click.echo(f"\nYour own: {printable(str(user_folder()))}/NAME.toml, or presets/NAME.toml next to the profile")


def _as_object(preset: Preset) -> dict[str, object]:
    return {"name": preset.name, **msgspec.to_builtins(preset), "file": preset.file or None}


def _origin(file: Path) -> str:
    return "seqsup" if file.parent == FOLDER else printable(str(file))
