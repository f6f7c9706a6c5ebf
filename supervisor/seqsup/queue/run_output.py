"""What the agents of a run print, as it grows: for readers on other machines."""

from contextlib import suppress
from pathlib import Path

from seqsup.state.output import OutputReader
from seqsup.state.run_folder import STDERR, STDOUT


class RunOutput:
    def __init__(self, folder: Path) -> None:
        """`folder` is that of the run."""
        self._folder = folder
        self._readers: dict[Path, OutputReader] = {}
        self._last: Path | None = None  # of these

    def read(self, most: int) -> bytes:
        """Read on: the output of each attempt below a line with its name. Empty: there is nothing new."""
        found = b""
        for name in (STDOUT, STDERR):
            for path in sorted(self._folder.glob(f"*/*/{name}")):
                found += self._read(path, most)
        return found

    def _read(self, path: Path, most: int) -> bytes:
        reader = self._readers.setdefault(path, OutputReader(path))
        found = b""
        with suppress(OSError):
            while len(found) < most and (piece := reader.read(most - len(found))):
                found += piece
        reader.close()
        if found and self._last != path:
            heading = f"==> {path.parent.parent.name}/{path.parent.name} {path.stem} <==\n"
            found = (b"" if self._last is None else b"\n") + heading.encode() + found
            self._last = path
        return found
