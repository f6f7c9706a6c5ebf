"""What a tired user does at 2 a.m.: each of these was once a bug."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import ROOT, Result, wait_for

from profiles import agent, shell, write

Seqsup = Callable[..., Result]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}


def test_a_resumed_run_keeps_its_task(seqsup: Seqsup, tmp_path: Path) -> None:
    done = agent("a", ["sh", "-c", 'echo "a $0" >> out', "{task}"])
    fails = agent("b", ["sh", "-c", 'echo "b $0" >> out; exit 1', "{task}"], retry={"attempts": 1})
    profile = write(tmp_path, done, fails)
    assert seqsup("start", profile, "--task", "deploy v2").code == 1
    assert seqsup("start", profile, "--resume").code == 1
    assert (tmp_path / "out").read_text().splitlines() == ["a deploy v2", "b deploy v2", "b deploy v2"]


def test_a_choice_that_leaves_no_agent_is_refused(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), shell("b", "true"))
    ended = seqsup("start", profile, "--only", "a", "--from", "b")
    assert (ended.code, "--only and --from" in ended.stderr) == (2, True)


def test_a_journal_that_is_removed_stops_the_run(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", 'rm "$SEQSUP_STATE_DIR"/journal*'), shell("b", "touch ran"))
    ended = seqsup("start", profile)
    assert (ended.code, "was removed or replaced" in ended.stderr) == (4, True)
    assert not (tmp_path / "ran").exists()


def test_a_run_whose_output_nobody_reads_can_be_left(seqsup: Seqsup, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)  # a reader that never reads
    command = [sys.executable, "-m", "seqsup", "run", "--", "head", "-c", "3000000", "/dev/zero"]
    try:
        with subprocess.Popen(command, stdout=held, stderr=subprocess.DEVNULL, env=environment()) as run:
            wait_for(lambda: "1 of 1 completed" in seqsup("status").stdout, 20)
            assert run.poll() is None
            run.send_signal(signal.SIGTERM)
            assert run.wait(20) == 0
    finally:
        os.close(held)


def test_a_folder_that_is_gone_is_said_without_a_traceback(seqsup: Seqsup, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m seqsup run -- true"
    ended = subprocess.run(
        ["sh", "-c", command], env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, "was removed" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)


def test_a_profile_that_never_ends_is_refused(seqsup: Seqsup) -> None:
    ended = seqsup("start", "/dev/zero")
    assert (ended.code, "larger than 16 MiB" in ended.stderr) == (2, True)


def test_a_bad_interpreter_is_told_without_the_words_of_our_shell(seqsup: Seqsup, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    profile = write(tmp_path, agent("a", [str(script)], retry={"attempts": 1}))
    ended = seqsup("start", profile)
    assert ended.code in (1, 2)
    assert "seqsup: 4:" not in ended.stderr
