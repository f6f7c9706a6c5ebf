"""The tests of groups, once more upon real cgroup v2 controllers: as root, and in a systemd user's delegated scope.

This machine may have neither, so each boots a guest (tests/guest/boot.py), and tells how every test fared in there.
"""

import os
import re
import sys
from pathlib import Path

import pytest
from guest.boot import NO_GUEST, REPO, GuestError, boot, missing

MISSING = missing()  # now: a test has a cache folder of its own
INSIDE = ["tests/guest/smoke.py", "tests/test_cgroup.py"]
SCOPE = ["systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes", "--"]

pytestmark = [pytest.mark.memory, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def can_boot() -> None:
    if MISSING and os.environ.get("CI") == "true":
        pytest.fail(f"no guest: {MISSING}", pytrace=False)
    if MISSING:
        pytest.skip(f"no guest: {MISSING}")


@pytest.mark.parametrize("mode", ["root", "user"])
def test_in_a_guest(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    # No file is written beside the code, which is read-only; what seconds are here may be ten in an emulated guest.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "timeout=240", "--junitxml=/run/out/xml"]
    env = {"HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}
    with (tmp_path / "console").open("w+b") as console:
        try:
            code = boot(mode, [*(SCOPE if mode == "user" else []), *command, *INSIDE], tmp_path, console, env, 540)
        except GuestError as error:
            code, reason = NO_GUEST, str(error)
        console.seek(0)
        said = console.read().decode(errors="replace")
    said = re.sub(r"\x1b[^a-zA-Z]*[a-zA-Z]|\r", "", said)
    if code == NO_GUEST:
        pytest.fail(f"no result from the guest, which is no word on seqsup: {reason}\n{said[-4000:]}", pytrace=False)
    fared = _fared(tmp_path / "xml")
    print("\n".join(f"{how:7} {name}" for name, how in fared.items()))
    print(said)
    failed = [f"{how}: {name}" for name, how in fared.items() if how in ("failed", "error")]
    if code or failed or "passed" not in fared.values():
        pytest.fail(f"in the guest, as {mode}, pytest ended with {code}\n" + "\n".join(failed), pytrace=False)
