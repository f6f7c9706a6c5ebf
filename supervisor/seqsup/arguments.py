"""Arguments of the Python API: their types, and which run is meant."""

import os
import re
from pathlib import Path

from seqsup.containment.mark import FOLDER
from seqsup.errors import NoSuchRun
from seqsup.state.run_folder import RUNS, run_folder, state_dir

Folder = str | os.PathLike[str]


def must_be(name: str, wanted: str, value: object, *types: type) -> None:
    """Raise TypeError if an argument has none of these types. True and False are no numbers."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise TypeError(f"{name} is {wanted}, not {type(value).__name__}")


def chosen_run(run: Folder | None) -> Path | None:
    """Return the folder of a run, given as its label or folder. None: the run of this program, if it is in one.

    NoSuchRun: there is no such run. TypeError: `run` is neither text nor a path.
    """
    if run is None:
        return Path(own).absolute() if (own := os.environ.get(FOLDER)) else None
    must_be("run", 'a label such as "r42", or the folder of a run', run, str, os.PathLike)
    if isinstance(run, str) and (number := re.fullmatch(r"r?([0-9]{1,15})", run)):
        folder = run_folder(state_dir(), int(number[1]))
    else:
        folder = Path(run).absolute()
    if not (re.fullmatch(r"r[0-9]+", folder.name) and folder.is_dir()):
        where = f" in {folder.parent.parent}" if folder.parent.name == RUNS else ': give a label such as "r42"'
        raise NoSuchRun(f'no run "{os.fspath(run)}"{where}; `seqsup runs` lists all runs')
    return folder
