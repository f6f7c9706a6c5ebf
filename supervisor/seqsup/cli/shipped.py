"""Files that ship beside the package: in a checkout's root, or in share/seqsup of an installation."""

from importlib import metadata
from pathlib import Path

from seqsup.errors import SeqsupError

_PACKAGE = Path(__file__).parents[1]
_EXAMPLES = ("profiles", "minimal.toml")


def shipped(name: str, witness: str) -> Path:
    """Return the folder `name`, which contains the file `witness`. Raise SeqsupError if it was not installed."""
    path = f"share/seqsup/{name}/{witness}"
    installed = [Path(str(file.locate())) for file in metadata.files("seqsup") or () if file.match(path)]
    # The list of `pip --target` names another place than the last one here
    for file in (_PACKAGE.parents[1] / name / witness, *installed, _PACKAGE.parent / path):
        if file.exists():
            return file.resolve().parent
    raise SeqsupError(f"this installation lacks {path}: install seqsup again")


def examples() -> dict[str, str]:
    """Return the names of the example profiles, and what each shows: the first comment in its file."""
    files = sorted(shipped(*_EXAMPLES).glob("*.toml"))
    return {file.stem: file.read_text(encoding="utf-8").split("\n", 2)[1].removeprefix("# ") for file in files}


def files_of_example(name: str) -> dict[str, bytes]:
    """Return the files of an example but its schema, by path: the profile first, then the folders that it names."""
    folder = shipped(*_EXAMPLES)
    profile = folder / f"{name}.toml"
    beside = [part for part in ("agents", "hooks") if f'"{part}/' in profile.read_text(encoding="utf-8")]
    files = [profile, *sorted(file for part in beside for file in (folder / part).iterdir())]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
