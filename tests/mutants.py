"""Mutation testing, on demand: change the code at one place at random, and see whether its unit tests notice.

Only pure code is changed: its tests take seconds. The places and the changes are those of mutmut's operators; mutmut's
own runner leaves out methods with a decorator and what is outside of functions, and cannot draw a sample. All of it
happens in copies in a temporary folder.
"""

import argparse
import difflib
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("supervisor/seqsup")
ROOMS: dict[str, tuple[str, ...]] = {
    "policy": tuple(f"policy/{name}" for name in ("companion", "learning", "pacing", "resources", "retry", "watch")),
    "exits": ("policy/classify", "policy/usage", "policy/budget", "policy/usage_limit"),
    "model": ("model/history", "model/outcome", "model/reason", "model/run_view"),
    "plan": ("plan/resume", "plan/select"),
    "limits": ("profile/limits",),
    "words": ("text", "units"),
}
NUMBER = 60  # of mutants for a room
MOST_MEMORY = 4 << 30  # bytes; a mutant may never stop to take more
PATIENCE = 10  # times as long as the tests take without a mutant


class Mutant(NamedTuple):
    """One change of one file."""

    file: Path  # in the repository
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        changes = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), n=0, lineterm="")
        lines = [line for line in changes if not line.startswith(("---", "+++", "@@"))]
        return "\n".join([f"  {self.file}:{self.line}", *(f"    {line}" for line in lines)])


class Result(NamedTuple):
    """Exit code of pytest, and the seconds it took."""

    code: int
    seconds: float


def main(arguments: Sequence[str]) -> int:
    asked = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="seqsup-mutants-") as folder:
        copies = SimpleQueue[Path]()
        for number in range(asked.jobs):
            copies.put(copy(Path(folder, str(number))))
        print(f"seed {asked.seed}", flush=True)
        for room in asked.rooms:
            if not try_room(room, asked.number, asked.seed, asked.jobs, copies):
                return 1
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 supervisor mutants", description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}; all of them if none is given")
    parser.add_argument("--number", type=int, default=NUMBER, help=f"mutants of each room; {NUMBER} if not given")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="draws the same mutants again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="tests side by side; one for each CPU")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.rooms) - set(ROOMS):
        parser.error(f"no room {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    asked.rooms = asked.rooms or list(ROOMS)
    return asked


def try_room(room: str, number: int, seed: int, jobs: int, copies: SimpleQueue[Path]) -> bool:
    """Print how many mutants of a room its tests notice, and the others. Return False if the tests fail without."""
    mutants = draw([PACKAGE / f"{name}.py" for name in ROOMS[room]], number, random.Random(f"{seed} {room}"))
    unharmed = copies.get()
    suites = {tests_of(mutant.file)[-1] for mutant in mutants}  # all of a file's tests, as its own are among them
    results = [run_tests(unharmed, [suite]) for suite in sorted(suites)]
    copies.put(unharmed)
    if any(result.code for result in results):
        print(f"{room}: its tests fail without any mutant")
        return False
    patience = PATIENCE * max((result.seconds for result in results), default=0.0)

    def noticed(mutant: Mutant) -> bool:
        place = copies.get()
        try:
            return is_noticed(mutant, place, patience)
        finally:
            copies.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        answers = list(pool.map(noticed, mutants))
    share = sum(answers) / max(len(answers), 1)
    print(f"\n{room}: {len(answers)} mutants, {sum(answers)} noticed ({share:.0%})", flush=True)
    for mutant in (mutant for mutant, answer in zip(mutants, answers, strict=True) if not answer):
        print(mutant, flush=True)
    return True


def is_noticed(mutant: Mutant, place: Path, patience: float) -> bool:
    write(place / mutant.file, mutant.after)
    try:
        return run_tests(place, tests_of(mutant.file), patience).code != 0
    finally:
        write(place / mutant.file, mutant.before)


def write(path: Path, code: str) -> None:
    """Write a module, and forget what was compiled of it: two mutants may have the same size, within a second."""
    path.write_text(code)
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def copy(place: Path) -> Path:
    """Copy what the unit tests read."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in (PACKAGE, Path("tests")):
        shutil.copytree(ROOT / folder, place / folder, ignore=unwanted, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def tests_of(file: Path) -> list[str]:
    """Return the unit tests of a file: those of its own name first, as most mutants fall to them."""
    folder = Path("tests/unit") / file.relative_to(PACKAGE).parent
    own = folder / f"test_{file.name}"
    rest = [] if folder.name == "unit" else [folder]
    return [str(path) for path in ([own] if (ROOT / own).exists() else []) + rest]


def run_tests(place: Path, tests: Sequence[str], patience: float | None = None) -> Result:
    """Run tests until the first that fails; tests that outlast `patience`, in seconds, have noticed something too."""
    options = ["-qx", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    env = {**os.environ, "PYTHONPATH": str(place / "supervisor"), "PYTHONPYCACHEPREFIX": ""}
    began, quiet = time.monotonic(), subprocess.DEVNULL
    with subprocess.Popen(command, cwd=place, env=env, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    return Result(code, time.monotonic() - began)


# -- the changes


class Place(NamedTuple):
    """A node, what may stand in its place, and its line."""

    node: cst.CSTNode
    other: cst.CSTNode
    line: int


class Places(cst.CSTVisitor):
    """Collect all changes of a module."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Place] = []
        self._of_classes: set[cst.CSTNode] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef):
            self._of_classes.update(node.keywords)
        # Types, and whether a class is frozen, are for mypy
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom) or node in self._of_classes:
            return False
        position = self.get_metadata(PositionProvider, node, None)
        for kind, changed in mutation_operators:
            if isinstance(node, kind):
                line = position.start.line if position else 0
                self.found += [Place(node, other, line) for other in changed(node)]
        return True


def draw(files: Sequence[Path], number: int, chance: random.Random) -> list[Mutant]:
    """Draw so many mutants of these files."""
    places = [(file, module, place) for file in files for module, place in places_in(file)]
    chance.shuffle(places)
    mutants = (mutant for file, module, place in places if (mutant := mutate(file, module, place)) is not None)
    return list(itertools.islice(mutants, number))


def places_in(file: Path) -> Iterator[tuple[cst.Module, Place]]:
    wrapper, places = MetadataWrapper(cst.parse_module((ROOT / file).read_text())), Places()
    wrapper.visit(places)
    return ((wrapper.module, place) for place in places.found)


def mutate(file: Path, module: cst.Module, place: Place) -> Mutant | None:
    """Return the mutant, or None where a change makes none: what cannot be compiled says nothing about the tests."""
    before, after = module.code, cst.ensure_type(module.deep_replace(place.node, place.other), cst.Module).code
    return Mutant(file, place.line, before, after) if after != before and compiles(after) else None


def compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
