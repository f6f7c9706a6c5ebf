"""Which profile is taken where none is named, and where names of other tools lead."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import parsed, reasons, shell, write
from seqsup.cli.app import COMMANDS, ELSEWHERE

Cli = Callable[..., Result]


@pytest.mark.parametrize("name", ["agents", "nightly"])
def test_start_takes_the_profile_of_the_folder_and_says_so(seqsup: Cli, tmp_path: Path, name: str) -> None:
    write(tmp_path, shell("a", "echo hi"), name=name)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "broken.toml").write_text("not [ toml")
    ended = seqsup("start", "--json")
    assert (ended.code, reasons(parsed(ended.stdout))) == (0, {"a": "completed"})
    assert ended.stderr.splitlines()[0] == f"seqsup: using {name}.toml"


def test_start_takes_agents_toml_before_other_profiles(seqsup: Cli, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true"), name="agents")
    write(tmp_path, shell("b", "true"), name="another")
    assert json.loads(seqsup("plan", "--json").stdout)["name"] == "agents"


@pytest.mark.parametrize("command", [["start"], ["plan"], ["start", "--resume"], ["start", "--retry-failed"], ["tune"]])
def test_several_profiles_are_refused_and_listed(seqsup: Cli, tmp_path: Path, command: list[str]) -> None:
    for name in ("night", "day"):
        write(tmp_path, shell("a", "touch ran"), name=name)
    (tmp_path / "half.toml").write_text('[[agents]]\nname = "a\n')  # a profile with a mistake is one
    ended = seqsup(*command)
    assert (ended.code, ended.stdout) == (2, "")
    assert f"seqsup: which profile? {tmp_path} has 3: day.toml, half.toml, night.toml" in ended.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["start", "plan", "tune"])
def test_no_profile_suggests_init(seqsup: Cli, tmp_path: Path, command: str) -> None:
    ended = seqsup(command)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [f"seqsup: no profile in {tmp_path}: `seqsup init` writes one, or name one"]
    (tmp_path / "sub one").mkdir()
    assert "`seqsup init 'sub one/agents.toml'` writes one" in seqsup(command, "sub one").stderr


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("gone")])
def test_an_agents_toml_that_is_no_file_is_named(seqsup: Cli, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "agents.toml")
    ended = seqsup("start")
    assert (ended.code, ended.stderr) == (2, "seqsup: agents.toml is not a regular file\n")


def test_a_folder_is_taken_for_its_profile(seqsup: Cli, tmp_path: Path) -> None:
    (folder := tmp_path / "project").mkdir()
    write(folder, shell("a", "touch ran"))
    ended = seqsup("start", "project")
    assert (ended.code, (folder / "ran").exists()) == (0, True)
    assert "seqsup: using project/nightly.toml" in ended.stderr
    for command in (["status", "./project"], ["report", "project/", "-o", "-"], ["logs", "./project", "a"]):
        assert seqsup(*command).code == 0, command
    assert "has completed every agent" in seqsup("start", "--resume", "project").stderr


def test_resume_without_a_profile_continues_the_last_run(seqsup: Cli, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "echo a >> ran"), shell("b", "echo b >> ran; test -e go"), name="agents")
    assert seqsup("start").code == 1
    (tmp_path / "go").touch()
    assert seqsup("start", "--resume").code == 0
    assert (tmp_path / "ran").read_text().split() == ["a", "b", "b"]


def test_doctor_checks_the_profile_of_the_folder_too(seqsup: Cli, tmp_path: Path) -> None:
    without = seqsup("doctor")
    assert "using" not in without.stderr
    write(tmp_path, shell("a", "true"))
    ended = seqsup("doctor")
    assert "seqsup: using nightly.toml" in ended.stderr
    assert "nightly: 1 agent" in ended.stdout
    write(tmp_path, shell("a", "true"), name="other")
    assert seqsup("doctor").stderr == ""  # of several none is meant: the machine is checked


def test_init_writes_into_a_folder_and_a_unit_needs_no_name(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert seqsup("init", "sub").code == 0
    assert (tmp_path / "sub" / "agents.toml").exists()
    write(tmp_path / "sub", shell("a", "true"), name="agents")
    assert f"{tmp_path}/sub/agents.toml" in seqsup("init", "--systemd", cwd=tmp_path / "sub").stdout


def test_json_log_lines_stay_json(seqsup: Cli, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true"))
    ended = seqsup("start", "--log-format", "json")
    assert all(json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{"))
    assert "using" not in ended.stderr


# -- names of other tools


@pytest.mark.parametrize(("word", "ours"), ELSEWHERE.items())
def test_a_name_of_another_tool_leads_to_ours(seqsup: Cli, word: str, ours: str) -> None:
    ended = seqsup(word, "-a")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == f'seqsup: unknown command "{word}"; did you mean: seqsup {ours}\ntry: seqsup -h\n'
    assert any(ours.split()[0] in section for section in COMMANDS.values())
    assert all(option in seqsup(ours.split()[0], "-h").stdout for option in ours.split()[1:])


@pytest.mark.parametrize(
    ("words", "asked"), [(["help"], ["-h"]), (["help", "start"], ["start", "-h"]),
                         (["help", "artifacts", "show"], ["artifacts", "show", "-h"])]
)  # fmt: skip
def test_help_is_a_command_too(seqsup: Cli, words: list[str], asked: list[str]) -> None:
    assert seqsup(*words) == seqsup(*asked)
