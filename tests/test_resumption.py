"""A profile edited between stop and resume: what changed runs again, and what builds on it, and nothing else."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from conftest import Result, Started, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from seqsup.history import Completed
from seqsup.journal import FILE, Journal
from seqsup.model import Step
from seqsup.resumption import CHANGED, builds_on, resumption
from supervised import step

from profiles import agent, of, parsed, shell, started, write

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
HERE = Path()


def made(name: str, content: str, *needs: str, words: Iterable[str] = ()) -> Step:
    return step("x", *words, cwd=HERE, name=name, content=content, needs=needs)


def had(**entries: tuple[str, int]) -> dict[str, Completed]:
    return {name: Completed(content, seq, f"{name}/1") for name, (content, seq) in entries.items()}


def test_what_an_agent_builds_on_is_what_it_needs_and_what_it_is_handed() -> None:
    one = step(
        "x", "{summary:a}{artifacts:b}{artifacts}{{summary:no}", cwd=HERE, env={"E": "{summary:c}"},
        stdin="{summary:a} {artifacts:d}", needs=("e", "a"),
    )  # fmt: skip
    assert builds_on(one) == ["e", "a", "b", "c", "d"]


A, B, C = made("a", "A"), made("b", "B", "a"), made("c", "C")
CASES = {
    "nothing changed": ([A, B, C], had(a=("A", 1), b=("B", 2), c=("C", 3)), "abc", {}),
    "the first never completed": ([A, B, C], had(c=("C", 3)), "c", {}),
    "one changed": ([A, B, C], had(a=("A", 1), b=("B", 2), c=("old", 3)), "ab", {"c": CHANGED}),
    "what builds on it runs too": (
        [A, B, C], had(a=("old", 1), b=("B", 2), c=("C", 3)), "c",
        {"a": CHANGED, "b": "a, which it builds on, runs again"},
    ),
    "also if it is only handed on": (
        [A, made("b", "B", words=["{summary:a}"])], had(b=("B", 2)), "", {"b": "a, which it builds on, runs again"},
    ),
    "all the way": (
        [A, B, made("c", "C", "b")], had(a=("old", 1), b=("B", 2), c=("C", 3)), "",
        {"a": CHANGED, "b": "a, which it builds on, runs again", "c": "b, which it builds on, runs again"},
    ),
    "what it builds on ran again, and then the run was stopped": (
        [A, B], had(a=("A", 9), b=("B", 2)), "a", {"b": "a, which it builds on, has completed since"},
    ),
    "it was changed and changed back": ([A, B], had(a=("A'", 5), b=("B", 6)), "",
        {"a": CHANGED, "b": "a, which it builds on, runs again"}),
    "it has another name by now": ([made("z", "A"), B], had(a=("A", 1), b=("B", 2)), "zb", {}),
    "what it needs is not taken now": ([B], had(a=("old", 1), b=("B", 2)), "b", {}),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "completed", "done", "again"), CASES.values(), ids=CASES)
def test_what_runs_again_and_why(
    steps: list[Step], completed: dict[str, Completed], done: str, again: dict[str, str]
) -> None:
    found = resumption(steps, completed)
    assert (sorted(found.done), found.again) == (sorted(done), again)


def test_copies_are_known_by_their_items_wherever_they_stand() -> None:
    before = had(**{"each.1": ("x", 1), "each.2": ("y", 2), "each.3": ("y", 3)})
    now = [made("each.1", "w"), made("each.2", "x"), made("each.3", "y"), made("each.4", "y")]
    found = resumption(now, before)
    assert {name: each.folder for name, each in found.done.items()} == {
        "each.2": "each.1/1", "each.3": "each.3/1", "each.4": "each.2/1",
    }  # fmt: skip
    assert found.again == {}


@settings(deadline=None)
@given(data=st.data(), size=st.integers(1, 8))
def test_whatever_was_edited_nothing_that_holds_builds_on_what_does_not(data: st.DataObject, size: int) -> None:
    names = [f"n{n}" for n in range(size)]
    contents = st.sampled_from("ABC")
    steps = [
        made(name, data.draw(contents), *[each for each in names[:n] if data.draw(st.booleans())])
        for n, name in enumerate(names)
    ]  # fmt: skip
    known = data.draw(st.lists(st.sampled_from(names), unique=True))
    completed = {name: Completed(data.draw(contents), seq, f"{name}/1") for seq, name in enumerate(known)}
    found = resumption(steps, completed)
    assert set(found.done) & set(found.again) == set()
    for each in steps:
        if each.name in found.done:
            assert found.done[each.name].content == each.content
            assert all(base in found.done and found.done[base].seq < found.done[each.name].seq for base in each.needs)
    folders = [each.folder for each in found.done.values()]
    assert len(set(folders)) == len(folders), "one attempt stands for one agent"


# -- the real thing


def test_an_edited_profile_runs_what_changed_and_what_builds_on_it_and_says_so_first(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    def profile(word: str) -> Path:
        return write(
            tmp_path, shell("a", f"echo {word}"), agent("b", ["echo", "b of {summary:a}"]), shell("c", "echo c"),
            shell("last", "[ -e mended ]"),
        )  # fmt: skip

    assert seqsup("start", profile("one")).code == 1
    (tmp_path / "mended").touch()
    resumed = seqsup("start", profile("two"), "--resume")
    assert resumed.code == 0, resumed.stderr
    assert f"again: a ({CHANGED}), b (a, which it builds on, runs again)" in resumed.stderr
    second = parsed(seqsup("events").stdout)[-1:0:-1]
    again = started(reversed([*second[: [event["event"] for event in second].index("run_started")]]))
    assert again == ["a", "b", "last"]
    assert seqsup("logs", "b").stdout == "b of two\n"
    assert "nothing to resume" in seqsup("start", profile("two"), "--resume").stderr
    assert seqsup("start", profile("three"), "--resume").code == 0
    assert seqsup("logs", "b").stdout == "b of three\n"


def test_items_that_come_and_go_leave_the_others_as_they_are(seqsup: Seqsup, tmp_path: Path) -> None:
    def profile(*items: str) -> Path:
        each = shell("each", "echo {item} | tee -a ran", for_each=list(items))
        return write(tmp_path, each, agent("all", ["echo", "{summary:each}"]))

    assert seqsup("start", profile("x", "y")).code == 0
    assert seqsup("start", profile("w", "x", "y"), "--resume").code == 0
    assert seqsup("start", profile("w", "v", "x", "y"), "--resume").code == 0
    assert (tmp_path / "ran").read_text().split() == ["x", "y", "w", "v"]
    assert seqsup("logs", "all").stdout == "w\nv\nx\ny\n"


def test_only_what_gave_up_is_retried_with_what_needed_it(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path, shell("good", "echo good >> ran"), shell("bad", "echo bad >> ran; [ -e mended ]"),
        shell("after", "echo after >> ran", needs=["bad"]), shell("docs", "echo docs >> ran", when=["docs"]),
        run={"on_failure": "continue"},
    )  # fmt: skip
    assert seqsup("start", profile, "--task", "code").code == 1
    (tmp_path / "mended").touch()
    retried = seqsup("start", profile, "--retry-failed")
    assert retried.code == 0, retried.stderr
    assert (tmp_path / "ran").read_text().split() == ["good", "bad", "bad", "after"]
    assert "3 of 4 completed (1 before)" in retried.stderr
    again = seqsup("start", profile, "--retry-failed")
    assert (again.code, again.stderr) == (0, "seqsup: nothing to retry: no agent gave up\n")


def test_after_a_reboot_the_run_goes_on(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    """As the disk would be: the supervisor had no time to tell of its end, and the machine has another boot id."""
    profile = write(tmp_path, shell("a", "echo a >> ran"), shell("b", "echo b >> ran; [ -e mended ] || exec sleep 60"))
    process = seqsup_started("start", profile)
    wait_for(lambda: "b" in ((tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""))
    process.send(signal.SIGKILL)
    process.process.wait()
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    seqsup("sweep")
    with sqlite3.connect(state / FILE) as before:
        before.execute("UPDATE events SET sum = NULL, body = json_set(body, '$.boot_id', 'another') WHERE seq = 1")
        before.execute("DELETE FROM events WHERE json_extract(body, '$.event') = 'attempt_lost'")
    before.close()
    (state / "runs/r1/members").write_text(f"{os.getpid()} 1\n")
    (tmp_path / "mended").touch()
    resumed = seqsup("start", profile, "--resume", "--json")
    assert resumed.code == 0, resumed.stderr
    assert (tmp_path / "ran").read_text().split() == ["a", "b", "b"]
    assert [event["agent"] for event in of(parsed(seqsup("events").stdout), "attempt_lost")] == ["b"]
    journal = Journal.open(state)
    journal.check()
    journal.close()
