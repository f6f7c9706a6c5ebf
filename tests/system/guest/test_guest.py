"""Tests that need real cgroup v2 controllers, or a machine of their own: as root, and in a systemd user's scope.

This machine may have neither, so each boots a guest (boot.py), and reports the result of every test in it.
"""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from system.guest.boot import CACHE, MODES, NO_GUEST, REPO, missing

MISSING = missing()  # now, as a test has a cache folder of its own
GROUPS = ["tests/system/guest/smoke.py", "tests/integration/containment/test_cgroup.py"]
IN_ROOTS = ["tests/system/guest/container.py", "tests/system/guest/small.py"]
IN_SCOPE = ["systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes", "--"]
# The root is read-only. What takes seconds here may take ten times as long in an emulated machine.
PYTEST = ["-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-o", "timeout=240"]
PYTEST += ["--junitxml=/run/out/xml"]  # that folder is $GUEST_OUT
DEADLINE, LONG = 900, 1800  # seconds; a guest with nothing beside it takes a quarter of that

pytestmark = pytest.mark.guest  # what measures memory is alone on its own machine


def case(name: str, mode: str, tests: list[str], chosen: str, *, long: bool = False) -> ParameterSet:
    """`chosen` is of pytest's -k. No cgroup v1 is in there; groups without controllers are the same for everybody, and
    so is what is read of a mount table."""
    assert mode in MODES
    marks = [pytest.mark.timeout((LONG if long else DEADLINE) + 60), *([pytest.mark.long] if long else [])]
    return pytest.param(mode, tests, chosen, LONG if long else DEADLINE, id=f"{mode}-{name}", marks=marks)


V2 = "v2 and not scope and not without and not v1"
ESCAPE, OVERSHOOT, UNIT = "tests/system/test_escape.py", "tests/system/test_overshoot.py", "tests/system/guest/unit.py"
AS_ROOT = [
    f"(test_escape and ((leader_that_holds and {V2}) or deaf_even or (leader_that_ends and best)))",
    f"(test_overshoot and (({V2}) or subreaper))",
]  # fmt: skip
AS_USER = ["(test_escape and ((leader_that_holds and scope) or best))", "(test_overshoot and scope)", "unit"]


@pytest.mark.parametrize(
    ("mode", "tests", "chosen", "deadline"),
    [
        case("groups", "user", GROUPS, "not v1 and not controllers and not bomb and not own_group"),
        case("groups", "root", [*GROUPS, *IN_ROOTS], "not v1", long=True),
        case("wide", "root", [ESCAPE, OVERSHOOT], " or ".join(AS_ROOT), long=True),
        case("wide", "user", [ESCAPE, OVERSHOOT, UNIT], " or ".join(AS_USER), long=True),
    ],
)
def test_tests_pass_in_a_guest(mode: str, tests: list[str], chosen: str, deadline: int, tmp_path: Path) -> None:
    if MISSING and os.environ.get("CI") == "true" and "SEQSUP_NO_GUEST" not in os.environ:
        pytest.fail(f"no guest can boot: {MISSING}", pytrace=False)
    if MISSING:
        pytest.skip(f"no guest can boot: {MISSING}")
    out = tmp_path / "out"
    code = _boot(mode, [*tests, "-k", chosen], deadline, out, tmp_path / "console")
    console = re.sub(r"\x1b[^a-zA-Z]*[a-zA-Z]|\r", "", (tmp_path / "console").read_text(errors="replace"))
    print(console)
    if code == NO_GUEST or not (out / "xml").exists():
        pytest.fail(f"no word on seqsup: no result from the guest ({code})\n{console[-4000:]}", pytrace=False)
    fared = {name: how for case in ElementTree.parse(out / "xml").iter("testcase") for name, how in [_fared(case)]}
    listing = "\n".join(f"{how:8} {name}" for name, how in sorted(fared.items()))
    print(listing)
    if code or "passed" not in fared.values() or not {"passed", "skipped"}.issuperset(fared.values()):
        pytest.fail(f"in the guest, as {mode}, pytest ended with {code}\n{listing}\n{console}", pytrace=False)


def _boot(mode: str, tests: list[str], deadline: int, out: Path, console: Path) -> int:
    inside = [sys.executable, *PYTEST, *tests]
    if mode == "user":
        inside = [*IN_SCOPE, *inside]
    boot = [sys.executable, "tests/system/guest/boot.py", f"--deadline={deadline}", f"--out={out}", mode, *inside]
    with console.open("wb") as file:
        # It ends the guest when it is ended, so it has to be, whatever becomes of us.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *boot],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=REPO,
            env={**os.environ, "XDG_CACHE_HOME": str(CACHE.parent)},  # a test's own is empty
        )
        try:
            return process.wait()
        finally:
            process.terminate()
            process.wait()


def _fared(case: ElementTree.Element) -> tuple[str, str]:
    """Return a test's name and its worst result; a passed test has none."""
    said = {child.tag for child in case}
    how = next((how for how in ("error", "failure", "skipped") if how in said), "passed")
    return f"{case.get('classname')}.{case.get('name')}", how
