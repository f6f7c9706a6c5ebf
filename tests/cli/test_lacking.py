"""Machines on which no agent can be supervised: refused before anything is recorded, with one cause and its remedy."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers import refuses
from helpers.command_line import Result, environment
from helpers.profiles import shell, write

Seqsup = Callable[..., Result]

SECCOMP = [(call, number) for call in refuses.CALLS for number in (errno.ENOSYS, errno.EPERM)]
PROC = {
    "tmpfs": "/proc is not mounted",
    "proc -o subset=pid": "/proc shows processes alone",
}


def under(words: Sequence[str], *args: object) -> Result:
    """Run the command line as what these words start."""
    command = [*words, sys.executable, "-m", "seqsup", *map(str, args)]
    ended = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False, timeout=60)
    if ended.returncode == 99 or ended.stderr.startswith("unshare"):
        pytest.skip(f"not possible here: {ended.stderr.strip()}")
    return Result(ended.returncode, ended.stdout, ended.stderr)


def without_call(call: str, number: int) -> list[str]:
    return [sys.executable, refuses.__file__, call, str(number)]


def with_proc(mount: str) -> list[str]:
    return ["unshare", "--mount", "sh", "-c", f'mount -t {mount} x /proc || exit 99; exec "$@"', "sh"]


def one_cause(doctor: Result) -> dict[str, str]:
    """Doctor's one failure, which is the last that it says."""
    assert doctor.code == 1, doctor.stderr
    checks: list[dict[str, str]] = json.loads(doctor.stdout)["checks"]
    assert [check["what"] for check in checks if check["level"] == "FAIL"] == [checks[-1]["what"]]
    assert [check["what"] for check in checks[:-1]] == ["seqsup"]
    return checks[-1]


@pytest.mark.parametrize(("call", "number"), SECCOMP, ids=str)
def test_no_agent_starts_and_no_run_is_recorded_if_a_call_is_refused(
    seqsup: Seqsup, tmp_path: Path, call: str, number: int
) -> None:
    profile = write(tmp_path, shell("a", "touch started"))
    refused = under(without_call(call, number), "start", profile)
    assert refused.code == 3, refused.stderr
    assert os.strerror(number) in refused.stderr
    assert "seccomp" in refused.stderr
    assert not (tmp_path / "started").exists()
    assert seqsup("status").code == 3  # nothing ran yet
    assert under(without_call(call, number), "plan", profile).code == 3
    cause = one_cause(under(without_call(call, number), "doctor", "--json"))
    assert refused.stderr == f"seqsup: {cause['finding']}: {cause['remedy']}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount another /proc here")
@pytest.mark.parametrize("mount", PROC)
def test_without_a_whole_proc_doctor_says_the_line_that_start_says(tmp_path: Path, mount: str) -> None:
    profile = write(tmp_path, shell("a", "true"))
    refused = under(with_proc(mount), "start", profile)
    assert refused.code == 3
    assert refused.stderr.startswith(f"seqsup: {PROC[mount]}")
    cause = one_cause(under(with_proc(mount), "doctor", "--json"))
    assert refused.stderr == f"seqsup: {cause['finding']}: {cause['remedy']}\n"
    assert one_cause(under(with_proc(mount), "doctor", profile, "--json")) == cause


def test_doctor_and_start_say_the_same_of_proc_of_another_namespace(tmp_path: Path) -> None:
    apart = ["unshare", "--map-root-user", "--pid", "--fork"]
    refused = under(apart, "start", write(tmp_path, shell("a", "true")))
    assert (refused.code, "another pid namespace" in refused.stderr) == (3, True), refused.stderr
    cause = one_cause(under(apart, "doctor", "--json"))
    assert refused.stderr == f"seqsup: {cause['finding']}: {cause['remedy']}\n"


def test_missing_dev_null_is_reported(tmp_path: Path) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs x /dev || exit 99; exec "$@"', "sh"]
    refused = under(hidden, "start", write(tmp_path, shell("a", "true")))
    assert (refused.code, refused.stdout) == (3, "")
    assert refused.stderr == (
        "seqsup: /dev/null cannot be opened (No such file or directory): mknod -m 666 /dev/null c 1 3\n"
    )
