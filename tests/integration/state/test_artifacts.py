"""Artifacts: put from inside one agent, read by later ones; no name leads out of its folder."""

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import Result
from helpers.paths import ROOT
from helpers.profiles import agent, proven, shell, write
from seqsup.state.artifacts import LONGEST, SUMMARY, ArtifactError, files, has_summary, opened, put, summary
from seqsup.state.run_folder import ARTIFACTS

Seqsup = Callable[..., Result]
PUT = f"{sys.executable} -m seqsup artifacts put"


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    (tmp_path / "a" / "1" / ARTIFACTS).mkdir(parents=True, mode=0o700)
    return tmp_path / "a" / "1"


def store(attempt: Path, text: str | None, *details: Path) -> None:
    put(attempt / ARTIFACTS, text, details)


# -- the store


@given(text=st.text(max_size=200))
def test_a_summary_comes_back_as_it_was_given_but_for_what_no_command_can_carry(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    attempt = tmp_path_factory.mktemp("attempt")
    (attempt / ARTIFACTS).mkdir()
    store(attempt, text)
    assert summary(attempt) == text.encode(errors="replace").decode().replace("\0", "").strip()
    assert has_summary(attempt)


def test_files_are_stored_under_their_names_for_their_owner_only(attempt: Path, tmp_path: Path) -> None:
    (tmp_path / "review.md").write_bytes(b"x" * 3_000_000)
    store(attempt, "short", tmp_path / "review.md")
    assert [(each.name, each.size) for each in files(attempt)] == [("review.md", 3_000_000), (SUMMARY, 5)]
    assert {path.stat().st_mode & 0o777 for path in (attempt / ARTIFACTS).iterdir()} == {0o600}
    store(attempt, "shorter")
    assert summary(attempt) == "shorter"
    with opened(attempt, "review.md") as file:
        assert len(file.read()) == 3_000_000


def test_file_that_was_written_in_the_folder_stays_as_it_is(attempt: Path) -> None:
    made = attempt / ARTIFACTS / "notes.md"
    made.write_text("notes")
    store(attempt, None, made)
    assert made.read_text() == "notes"


@pytest.mark.parametrize("name", ["/", ".", "..", SUMMARY, "folder", "gone", "device", "pipe"])
def test_file_that_cannot_be_stored_is_refused_and_leaves_nothing(attempt: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / SUMMARY).touch()
    os.mkfifo(tmp_path / "pipe")  # without a writer
    with pytest.raises(ArtifactError):
        store(attempt, "short", tmp_path / name if name != "device" else Path("/dev/null"))
    assert list((attempt / ARTIFACTS).iterdir()) == []
    if name == SUMMARY:
        with pytest.raises(ArtifactError, match=f"{SUMMARY} is the name of the summary: give its text as the summary"):
            store(attempt, None, tmp_path / SUMMARY)


def test_two_files_of_one_name_are_refused(attempt: Path, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes").write_text(folder)
    with pytest.raises(ArtifactError, match="two files have the name notes"):
        store(attempt, None, tmp_path / "x" / "notes", tmp_path / "y" / "notes")


def test_a_summary_that_is_none_is_refused_with_what_to_do(attempt: Path) -> None:
    with pytest.raises(ArtifactError, match="shorten it, and give the whole text as details"):
        store(attempt, "x" * (LONGEST + 1))
    assert not has_summary(attempt)


def test_output_used_as_summary_moves_no_cursor(attempt: Path) -> None:
    (attempt / "stdout.log").write_bytes(
        b"\x1b[31m\tred\x1b[0m\n\x1b]0;title\x07\0\x08words\n\x1b]0;never ends\nlast\n"
    )
    assert summary(attempt) == "red\nwords\n\nlast"


def test_reader_follows_no_link(attempt: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (attempt / "stdout.log").write_text("printed")
    folder = attempt / ARTIFACTS
    (folder / SUMMARY).symlink_to(secret)
    (folder / "link").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert summary(attempt) == "printed"
    assert files(attempt) == []
    for name in ("link", "out/secret", "../stdout.log", str(secret), "pipe"):
        with pytest.raises(ArtifactError):
            opened(attempt, name)
    store(attempt, "own")  # in place of the link, not through it
    assert (summary(attempt), secret.read_text()) == ("own", "secret")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that are not the agent's")
def test_file_of_another_owner_is_not_passed_on(attempt: Path) -> None:
    os.chown(attempt / ARTIFACTS, 65534, 65534)
    (attempt / ARTIFACTS / SUMMARY).write_text("a hard link to what root may read")
    assert summary(attempt) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_puts_into_its_folder_and_into_no_other(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="seqsup-"))  # where any user can come
    try:
        folder.chmod(0o711)
        own, roots = folder / "own", folder / "roots"
        for each in (own, roots):
            each.mkdir(mode=0o700)
        os.chown(own, 65534, 65534)
        if (pid := os.fork()) == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                put(own, "mine", [])
                with pytest.raises(ArtifactError):
                    put(roots, "mine", [])
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert (own / SUMMARY).stat().st_uid == 65534
        assert list(roots.iterdir()) == []
    finally:
        shutil.rmtree(folder)


def test_end_of_the_output_replaces_a_missing_summary(attempt: Path) -> None:
    (attempt / "stdout.log").write_bytes(b"first" + b"x" * 10_000 + b"\xff\0the end\n")
    assert summary(attempt).endswith("x\ufffdthe end")
    assert len(summary(attempt)) < 4001


# -- from inside an agent


def test_artifact_of_an_agent_is_read_by_later_ones(seqsup: Seqsup, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(ROOT / "supervisor")}
    (tmp_path / "long.md").write_text("the whole of it")
    profile = write(
        tmp_path,
        shell("writer", f"echo noise; {PUT} --summary 'two\nbugs' --details long.md", env=env),
        shell("printer", "echo from the output"),
        shell("fails", "echo almost; exit 3", retry={"attempts": 1}),
        shell("stdin", f"echo piped | {PUT} --summary -", env=env),
        agent(
            "reader",
            ["sh", "-c", 'echo "$1|$2|$FROM_ENV"; cat "$3/long.md"; cat "$SEQSUP_PREVIOUS_SUMMARIES" >&2; cat', "sh",
             "{summary:writer}", "{summary:printer}", "{artifacts:writer}"],
            env={"FROM_ENV": "{summary:stdin}"}, stdin="by stdin: {summary:writer}",
        ),
        run={"on_failure": "continue"},
    )  # fmt: skip
    result = seqsup("start", profile, "--json")
    proven(result)
    printed = seqsup("logs", "reader")
    assert printed.stdout == "two\nbugs|from the output|piped\nthe whole of itby stdin: two\nbugs"
    assert printed.stderr == (
        "## writer\n\ntwo\nbugs\n\n## printer\n\nfrom the output\n\n"
        "## fails (failed)\n\nalmost\n\n## stdin\n\npiped\n\n"
    )

    listed = json.loads(seqsup("artifacts", "list", "--json").stdout)
    assert [(each["agent"], each["summary"], len(each["files"])) for each in listed["agents"]] == [
        ("writer", True, 2), ("printer", False, 0), ("fails", False, 0), ("stdin", True, 1), ("reader", False, 0),
    ]  # fmt: skip
    assert "from its output" in seqsup("artifacts", "list", "r1").stdout
    assert seqsup("artifacts", "summary", "writer").stdout == "two\nbugs\n"
    assert seqsup("artifacts", "summary").stdout.startswith("## writer\n\ntwo\nbugs\n")
    assert "long.md  15 B" in seqsup("artifacts", "show", "writer").stdout
    assert seqsup("artifacts", "show", "writer", "--file", "long.md").stdout == "the whole of it"
    for wrong in (["show", "writer", "--file", "../stdout.log"], ["show", "--file", "x"], ["summary", "wirter"]):
        refused = seqsup("artifacts", *wrong)
        assert (refused.code, refused.stdout) == (2, "")


def test_copies_pass_on_a_line_each_and_a_skipped_agent_nothing(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path,
        agent("each", ["echo", "did {item}"], for_each=["a", "b"]),
        shell("docs", "echo never", when=["docs"]),
        agent("reader", ["printf", "%s|%s", "{summary:each}", "{summary:docs}"]),
    )
    assert seqsup("start", profile, "--task", "code").code == 0
    assert seqsup("logs", "reader").stdout == "did a\ndid b|"


def test_an_agent_that_prints_what_no_command_can_carry_does_not_end_the_run(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", r"printf 'x\000y'"), agent("b", ["printf", "%s", "{summary:a}"]))
    assert seqsup("start", profile).code == 0
    assert seqsup("logs", "b").stdout == "xy"


def test_resumed_run_still_has_its_artifacts(seqsup: Seqsup, tmp_path: Path) -> None:
    last = 'cat "$SEQSUP_PREVIOUS_SUMMARIES"; echo "$0"; [ -e mended ]'
    profile = write(tmp_path, shell("a", "echo done"), agent("b", ["sh", "-c", last, "{summary:a}"]))
    assert seqsup("start", profile).code == 1
    (tmp_path / "mended").touch()
    assert seqsup("start", profile, "--resume").code == 0
    assert seqsup("logs", "b").stdout == "## a\n\ndone\n\ndone\n"


def test_outside_an_agent_put_is_refused_with_the_remedy(seqsup: Seqsup) -> None:
    refused = seqsup("artifacts", "put", "--summary", "x")
    assert (refused.code, refused.stdout) == (2, "")
    assert "not inside an agent" in refused.stderr
    assert "call this as the last step of an agent's command" in refused.stderr
