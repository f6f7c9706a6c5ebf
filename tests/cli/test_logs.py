"""`seqsup logs`: the end of an output, what is new since a time, and only what failed."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.profiles import shell, write
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]


@pytest.fixture
def done(seqsup: Cli, tmp_path: Path) -> None:
    write(
        tmp_path, shell("good", "seq 100; seq 100 >&2"), shell("bad", "seq 50; printf end; exit 3"),
        shell("twice", "echo try; seq 30; exit 4", retry={"attempts": 2}), shell("after", "true", needs=["bad"]),
        run={"on_failure": "continue"},
    )  # fmt: skip
    assert seqsup("start").code == 1


def numbers(first: int, last: int) -> str:
    return "".join(f"{n}\n" for n in range(first, last + 1))


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["good", "-n", "3"], numbers(98, 100), numbers(98, 100)),
        (["good", "--tail", "1"], "100\n", "100\n"),
        (["good", "-n", "0"], "", ""),
        (["good", "-n", "9" * 50], numbers(1, 100), numbers(1, 100)),
        (["bad", "-n", "2"], "50\nend", ""),
        (["bad", "-n", "1", "-f"], "end", ""),
        (["twice", "--attempt", "1", "-n", "1", "--raw"], "30\n", ""),
        (["-n", "1"], "==> good <==\n100\n==> bad <==\nend\n==> twice (attempt 2) <==\n30\n", "100\n"),
        (["--failed", "-n", "1"], "==> bad <==\nend\n==> twice (attempt 2) <==\n30\n", ""),
        (["--failed", "-n", "1", "-f"], "==> bad <==\nend\n==> twice (attempt 2) <==\n30\n", ""),
        (["r1", "bad", "--failed"], numbers(32, 50) + "end", ""),
        (["twice", "--failed", "--attempt", "1", "-n", "2"], "29\n30\n", ""),
        (["--since", "1h", "twice"], 2 * f"try\n{numbers(1, 30)}", ""),
    ],
    ids=str,
)  # fmt: skip
def test_part_that_is_asked_for_is_shown(done: None, seqsup: Cli, words: list[str], out: str, err: str) -> None:
    ended = seqsup("logs", *words)
    assert (ended.code, ended.stdout, ended.stderr) == (0, out, err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["good", "--failed"], "nothing of good has failed"),
        (["--since", "0s"], "r1 has printed nothing since then"),
        (["good", "--since", "2999-01-01"], "good has printed nothing since then"),
    ],
)
def test_nothing_to_show_is_reported(done: None, seqsup: Cli, words: list[str], told: str) -> None:
    assert seqsup("logs", *words) == (0, "", f"seqsup: {told}\n")


@pytest.mark.parametrize("given", ["yesterday", "25:00", "1:2:3:4", "-5m", "9" * 400])
def test_time_that_is_none_is_refused(done: None, seqsup: Cli, given: str) -> None:
    ended = seqsup("logs", f"--since={given}")
    assert (ended.code, ended.stderr.startswith('seqsup: --since: expected 10m, 02:30 or "2026-12-02 02:30"')) == (
        2,
        True,
    )


def test_since_begins_within_a_long_attempt(seqsup_started: Start, seqsup: Cli, tmp_path: Path) -> None:
    waits = "while ! test -e go; do sleep 0.1; done"
    write(tmp_path, shell("a", f"echo old; sleep 2.5; touch mid; {waits}; echo new; touch said; sleep 60"))
    seqsup_started("start")
    wait_for((tmp_path / "mid").exists)
    at = datetime.now().isoformat(" ")
    (tmp_path / "go").touch()
    wait_for((tmp_path / "said").exists)
    assert seqsup("logs", "a").stdout == "old\nnew\n"
    assert seqsup("logs", "a", "--since", at).stdout == "new\n"
    assert seqsup("logs", "a", "--since", "1h", "-n", "1").stdout == "new\n"
    assert seqsup("stop", "--now").code == 0


def test_failed_follows_until_an_agent_fails(seqsup_started: Start, tmp_path: Path) -> None:
    wait = "touch up; while ! test -e {}; do sleep 0.1; done; "
    write(
        tmp_path, shell("a", wait.format("go") + "seq 40; exit 3"), shell("b", wait.format("end") + "echo well"),
        run={"on_failure": "continue"},
    )  # fmt: skip
    run = seqsup_started("start")
    wait_for((tmp_path / "up").exists)
    logs, tail = seqsup_started("logs", "-f", "--failed"), seqsup_started("logs", "-f", "-n", "1")
    wait_for(lambda: "==> a" in tail.stdout)
    assert logs.stdout == ""
    (tmp_path / "go").touch()
    wait_for(lambda: logs.stdout.endswith("40\n"))
    (tmp_path / "end").touch()
    assert run.wait().code == 1
    assert logs.wait() == (0, f"==> a <==\n{numbers(21, 40)}", "")
    assert tail.wait().stdout == f"==> a <==\n{numbers(1, 40)}==> b <==\nwell\n"


def test_tail_stops_where_output_was_cut(seqsup: Cli, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "seq 1000000"), output={"max": "1MiB"})
    assert seqsup("start").code == 0
    assert seqsup("logs", "a", "-n", "2").stdout == "999999\n1000000\n"
    lines = seqsup("logs", "a", "-n", "900000").stdout.splitlines()
    assert ("of output cut here" in lines[1], lines[-1]) == (True, "1000000")
