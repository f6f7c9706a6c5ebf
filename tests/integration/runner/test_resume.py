"""A profile edited between stop and resume: what changed runs again, and what builds on it, and nothing else."""

import json
import os
import signal
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.command_line import Result, Started
from helpers.profiles import agent, of, parsed, shell, started, write
from helpers.waiting import wait_for
from seqsup.plan.resume import CHANGED
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import FILE

Seqsup = Callable[..., Result]
Start = Callable[..., Started]


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
    assert f"again: a ({CHANGED}), b (a, which it depends on, runs again)" in resumed.stderr
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
    assert (again.code, again.stderr) == (0, "seqsup: nothing to retry: no agent failed\n")


def test_run_resumes_after_a_reboot(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    """The disk is as after a reboot: the supervisor could not record its end, and the machine has another boot id."""
    profile = write(tmp_path, shell("a", "echo a >> ran"), shell("b", "echo b >> ran; [ -e mended ] || exec sleep 60"))
    process = seqsup_started("start", profile)
    wait_for(lambda: "b" in ((tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""))
    process.send(signal.SIGKILL)
    process.process.wait()
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    seqsup("sweep")
    with sqlite3.connect(state / FILE) as before:
        before.execute("UPDATE events SET body = json_set(body, '$.boot_id', 'another') WHERE seq = 1")
        before.create_function("sum_of", 1, lambda body: zlib.crc32(f"1/1/{body}".encode()))
        before.execute("UPDATE events SET sum = sum_of(body) WHERE seq = 1")
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


# -- what is taken


def agents(seqsup: Seqsup) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(seqsup("status", "--json").stdout)["agents"]
    return found


def ran(folder: Path) -> list[str]:
    """Return the agents that ran since the last call."""
    file = folder / "ran"
    found = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def four(folder: Path, **keys: Any) -> Path:
    """Each notes that it ran, and completes once there is a file of its name."""
    return write(
        folder, *(shell(name, f"echo {name} >> ran; [ -e {name} ]", **keys) for name in "abcd"),
        run={"on_failure": "continue"},
    )  # fmt: skip


def test_run_resumes_with_the_options_that_it_started_with(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = four(tmp_path)
    first = seqsup("start", profile, "--only", "b", "--only", "c")
    assert (first.code, ran(tmp_path)) == (1, ["b", "c"])
    assert "2 agents, one at a time" in first.stderr
    assert "; only b, c\n" in first.stderr
    narrower = seqsup("start", profile, "--resume", "--only", "c")
    assert (narrower.code, ran(tmp_path)) == (1, ["c"])
    assert "; only c; none of them completed before\n" in narrower.stderr
    (tmp_path / "b").touch()
    (tmp_path / "c").touch()
    assert (seqsup("start", profile, "--resume").code, ran(tmp_path)) == (0, ["b", "c"])
    over = seqsup("start", profile, "--resume")
    assert over.code == 0
    assert (
        "r1 nightly has completed the agents it began with (only b, c); --only or --from select others\n" in over.stderr
    )
    wider = seqsup("start", profile, "--resume", "--from", "a")
    assert (wider.code, ran(tmp_path)) == (1, ["a", "d"])
    assert "; all from a on; 2 of them completed before\n" in wider.stderr
    assert seqsup("start", profile, "--from", "c").code == 1
    assert (seqsup("start", profile, "--resume").code, ran(tmp_path)) == (1, ["c", "d", "d"])


def test_failed_agent_is_retried_until_it_completes_whatever_was_stopped_in_between(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    profile = four(tmp_path)
    assert seqsup("start", profile).code == 1
    (tmp_path / "a").touch()
    assert seqsup("start", profile, "--retry-failed", "--only", "a").code == 0
    assert ran(tmp_path) == ["a", "b", "c", "d", "a"]
    assert "start nightly.toml --resume" in seqsup("status").stdout, "some are still to complete"
    for name in "bcd":
        (tmp_path / name).touch()
    waits = write(
        tmp_path, shell("a", "echo a >> ran; [ -e a ]"), shell("b", "echo b >> ran; exec sleep 60"),
        *(shell(name, f"echo {name} >> ran; [ -e {name} ]") for name in "cd"),
    )  # fmt: skip
    process = seqsup_started("start", waits, "--retry-failed")
    wait_for(lambda: (tmp_path / "ran").exists())
    still = seqsup("start", profile, "--retry-failed")
    assert (still.code, "r1 is still running" in still.stderr) == (3, True)
    process.send(signal.SIGTERM)
    assert process.wait().code == 143
    assert ran(tmp_path) == ["b"]
    assert "b, c, d" in seqsup("plan", four(tmp_path), "--retry-failed").stdout
    last = seqsup("start", profile, "--retry-failed")
    assert (last.code, ran(tmp_path)) == (0, ["b", "c", "d"])
    assert "; only b, c, d; none of them completed before\n" in last.stderr
    assert seqsup("start", profile, "--retry-failed").stderr == "seqsup: nothing to retry: no agent failed\n"


def test_agent_that_was_lost_with_its_supervisor_is_retried(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    profile = write(tmp_path, shell("a", "echo a >> ran; [ -e mended ] || { touch said; exec sleep 60; }"))
    process = seqsup_started("start", profile)
    wait_for((tmp_path / "said").exists)
    process.send(signal.SIGKILL)
    process.process.wait()
    (tmp_path / "mended").touch()
    assert (seqsup("start", profile, "--retry-failed").code, ran(tmp_path)) == (0, ["a", "a"])


def test_agents_that_the_profile_no_longer_has_are_reported(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = four(tmp_path)
    assert seqsup("start", profile, "--only", "a", "--only", "b").code == 1
    write(tmp_path, shell("z", "echo a >> ran; [ -e a ]"), shell("c", "true"))
    refused = seqsup("start", profile, "--resume")
    assert refused.code == 2
    assert "--only of r1: no agent a; there are z, c" in refused.stderr
    retried = seqsup("start", profile, "--retry-failed")
    assert retried.code == 2
    assert "--retry-failed leaves no agent of nightly to run: it no longer has a, b" in retried.stderr
    resumed = seqsup("start", profile, "--resume", "--from", "z")
    assert "; no longer in the profile: a, b\n" in resumed.stderr


def test_failed_item_that_is_gone_is_named_and_its_number_is_not_taken_for_it(seqsup: Seqsup, tmp_path: Path) -> None:
    def made(*items: str) -> Path:
        each = shell("each", "[ {item} != y ]", for_each=list(items))
        return write(tmp_path, each, run={"on_failure": "continue"}, retry={"attempts": 1})

    assert seqsup("start", made("x", "y", "z")).code == 1
    retried = seqsup("start", made("x", "z"), "--retry-failed")
    assert retried.code == 2
    assert "--retry-failed leaves no agent of nightly to run: it no longer has each.2 y\n" in retried.stderr
    assert "--resume runs new agents too" in retried.stderr


def test_item_keeps_its_name_and_row_when_another_is_removed(seqsup: Seqsup, tmp_path: Path) -> None:
    def made(*items: str) -> Path:
        script = "echo $SEQSUP_AGENT {item} >>ran; [ {item} = a ]"
        return write(tmp_path, shell("r", script, for_each=list(items)), retry={"attempts": 1})

    assert seqsup("start", made("a", "b", "c")).code == 1  # stops at b, so that c is still to run
    assert ran(tmp_path) == ["r.1", "a", "r.2", "b"]
    assert "no longer in the profile: r.2 b\n" in seqsup("plan", made("a", "c"), "--resume").stdout
    nothing = seqsup("start", made("a", "c"), "--retry-failed")
    assert (nothing.code, "it no longer has r.2 b\n" in nothing.stderr) == (2, True)
    resumed = seqsup("start", made("a", "d", "c", "c"), "--resume")
    assert "; no longer in the profile: r.2 b\n" in resumed.stderr
    assert ran(tmp_path) == ["r.4", "d"]
    rows = {each["name"]: (each["item"], each["attempts"]) for each in agents(seqsup)}
    assert rows == {"r.1": ("a", 1), "r.4": ("d", 1), "r.3": ("c", 0), "r.5": ("c", 0)}
    assert seqsup("start", made("c", "c", "a", "b"), "--resume", "--only", "r.3").code == 1
    assert ran(tmp_path) == ["r.3", "c"]
    assert seqsup("start", made("c", "a", "b"), "--retry-failed").code == 1
    assert ran(tmp_path) == ["r.3", "c"]
    assert seqsup("start", made("b"), "--resume").code == 1
    assert ran(tmp_path) == ["r.2", "b"], "an item that comes back has its name again"


def test_a_run_of_another_profile_that_is_there_is_refused(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = four(tmp_path)
    assert seqsup("start", profile).code == 1
    other = write(tmp_path, shell("x", "true"), name="other")
    refused = seqsup("start", other, "--resume", "r1")
    assert refused.code == 3
    assert f"r1 is a run of {profile}, not of {other}" in refused.stderr
    assert "no run r7" in seqsup("start", other, "--resume", "r7").stderr
    assert seqsup("start", "--resume", "r1").code == 1
    assert 'no run "r9"' in seqsup("start", "--resume", "r9").stderr
    assert seqsup("run", "--", "true").code == 0
    assert "r2 is a run of one command" in seqsup("start", "--resume", "2").stderr
    assert "r2 is a run of one command" in seqsup("start", other, "--resume", "2").stderr


def test_moved_profile_without_a_label_is_reported(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    profile = four(tmp_path)
    assert (seqsup("start", profile).code, ran(tmp_path)) == (1, ["a", "b", "c", "d"])
    renamed = profile.rename(tmp_path / "weekly.toml")
    renamed.write_text('name = "nightly"\n' + renamed.read_text())
    refused = seqsup("start", renamed, "--resume")
    assert (refused.code, ran(tmp_path)) == (3, [])
    assert f"If {profile}, which is gone, was moved here, `--resume r1` resumes it" in refused.stderr
    assert (seqsup("start", renamed, "--resume", "r1").code, ran(tmp_path)) == (1, ["b", "c", "d"])
    assert (seqsup("start", renamed, "--resume").code, ran(tmp_path)) == (1, ["b", "c", "d"]), "it is its own by now"


def test_failed_item_is_retried_though_its_place_has_changed(seqsup: Seqsup, tmp_path: Path) -> None:
    """And what has its place, or its number, is not taken for it."""

    def made(*items: str) -> Path:
        each = shell("each", "echo {item} >>ran; [ {item} != y ] || [ -e mended ]", for_each=list(items))
        return write(tmp_path, each, shell("all", "echo all >>ran", needs=["each"]), run={"on_failure": "continue"})

    assert seqsup("start", made("x", "y", "z")).code == 1
    retried = seqsup("start", made("y", "z", "new"), "--retry-failed")
    assert (retried.code, ran(tmp_path)) == (1, ["x", "y", "z", "y"])
    assert "1 of 4 completed (1 before) · 1 failed · 2 skipped" in retried.stderr
    (tmp_path / "mended").touch()
    assert seqsup("start", made("z", "y"), "--retry-failed").code == 0
    assert ran(tmp_path) == ["y", "all"]
    told = json.loads(seqsup("status", "--json").stdout)
    assert {each["name"]: (each["state"], each["reason"]) for each in told["agents"]} == dict.fromkeys(
        ["each.2", "each.3", "all"], ("completed", "completed")
    )


def test_agent_that_completed_before_a_retry_of_another_failed_is_reported_as_completed(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    for script, other, code in (("echo one", "true", 0), ("false", "true", 1), ("echo one", "echo other", 0)):
        path = write(tmp_path, shell("a", script), shell("b", other), retry={"attempts": 1})
        assert seqsup("start", path, "--resume").code == code
    (told, _) = json.loads(seqsup("status", "--json").stdout)["agents"]
    assert (told["state"], told["reason"]) == ("completed", "completed")
    assert "expected" not in seqsup("status").stdout


def test_logs_of_an_agent_that_completed_under_another_name_are_found_by_the_present_one(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    """And a copy of for_each keeps its name."""

    def made(*items: str, name: str = "a") -> Path:
        return write(tmp_path, shell(name, "echo a"), shell("each", "echo {item}", for_each=list(items)))

    seqsup("start", made("x", "y", "z"))
    assert seqsup("start", made("y", "new", "x", name="b"), "--resume").code == 0
    shown = {name: seqsup("logs", name).stdout for name in ("b", "each.1", "each.2", "each.4")}
    assert shown == {"b": "a\n", "each.1": "x\n", "each.2": "y\n", "each.4": "new\n"}
    together = [part.split(" ")[0] for part in seqsup("logs").stdout.split("==> ")[1:]]
    assert sorted(together) == sorted([*shown, "each.3"]), "one that is gone has its logs still"
    assert seqsup("logs", "each.2", "--attempt", "1").stdout == "y\n"


def test_profile_that_was_renamed_resumes_its_run(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    profile = four(tmp_path)
    first = profile.rename(tmp_path / "first.toml")
    assert (seqsup("start", first).code, ran(tmp_path)) == (1, ["a", "b", "c", "d"])
    renamed = first.rename(profile)
    refused = seqsup("start", renamed, "--resume")
    assert (refused.code, ran(tmp_path)) == (3, [])
    assert f"If {first}, which is gone, was moved here, `--resume r1` resumes it" in refused.stderr
    assert (seqsup("start", renamed, "--resume", "r1").code, ran(tmp_path)) == (1, ["b", "c", "d"])


def test_new_profile_beside_a_removed_one_starts_a_run(seqsup: Seqsup, tmp_path: Path) -> None:
    first = write(tmp_path, shell("a", "true"), shell("b", "exit 1"), name="first")
    assert seqsup("start", first).code == 1
    first.unlink()
    other = write(tmp_path, shell("c", "true"), name="other")
    begun = seqsup("start", other, "--resume")
    assert (begun.code, "other has no earlier run: starting from the first agent" in begun.stderr) == (0, True)


def test_run_that_was_given_another_name_resumes(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = four(tmp_path)
    assert seqsup("start", profile).code == 1
    profile.write_text('name = "other"\n' + profile.read_text())
    assert "resumed" in seqsup("start", profile, "--resume").stderr
    assert [run["name"] for run in json.loads(seqsup("runs", "--json").stdout)["runs"]] == ["other"]


def test_the_plan_says_what_a_resume_would_run_and_why(seqsup: Seqsup, tmp_path: Path) -> None:
    def profile(word: str) -> Path:
        return write(
            tmp_path, shell("a", "true"), shell("b", f"echo {word}"), agent("c", ["echo", "{summary:b}"]),
            shell("d", "false"),
        )  # fmt: skip

    assert "has no earlier run" in seqsup("plan", profile("one"), "--resume").stdout
    assert seqsup("start", profile("one")).code == 1
    text = seqsup("plan", profile("two"), "--resume").stdout
    assert "resumes r1" in text
    for line in (
        "completed, not run again: a", f"b runs again: {CHANGED}",
        "c runs again: b, which it depends on, runs again", "not completed yet: d",
    ):  # fmt: skip
        assert line in text
    told = json.loads(seqsup("plan", profile("two"), "--resume", "r1", "--json").stdout)["resumes"]
    assert told["run"] == "r1"
    assert (list(told["completed"]), list(told["again"]), told["gone"]) == (["a"], ["b", "c"], [])
    assert json.loads(seqsup("plan", profile("two"), "--retry-failed", "--json").stdout)["only"] == ["d"]
    assert len(seqsup("runs").stdout.splitlines()) == 2, "it starts nothing"


def test_agent_that_the_task_did_not_select_is_nothing_to_resume(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path, shell("a", "echo a >> ran", when=["red"]), shell("b", "echo b >> ran", when=["blue"])
    )  # fmt: skip
    assert seqsup("start", profile, "--task", "blue").code == 0
    resumed = seqsup("start", profile, "--resume")
    assert "nothing to resume: r1 nightly has completed every agent of the profile but those skipped" in resumed.stderr
    assert resumed.code == 0
    assert seqsup("plan", profile, "--resume").code == 0
    assert (seqsup("start", profile, "--resume", "--task", "red").code, ran(tmp_path)) == (0, ["b", "a"])
