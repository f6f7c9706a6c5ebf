"""The hooks in Claude Code's settings files: what never runs is reported with the file and the key's path."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from seqsup.doctor.claude_settings import claude_settings
from seqsup.doctor.finding import Finding, Level


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/.claude").mkdir(parents=True)
    (tmp_path / "home/.claude").mkdir(parents=True)
    return tmp_path / "project"


def checked(project: Path, text: str | bytes | dict[str, Any], name: str = ".claude/settings.json") -> list[Finding]:
    content = json.dumps(text) if isinstance(text, dict) else text
    file = project / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(claude_settings([project], [project.parent / "home"]))


def command(text: str, **more: Any) -> dict[str, Any]:
    return {"hooks": [{"type": "command", "command": text, **more}]}


def of(event: str, *groups: Any) -> dict[str, Any]:
    return {"hooks": {event: [*groups]}}


def test_doctor_accepts_every_type_of_hook(project: Path) -> None:
    hooks = [
        {"type": "command", "command": "jq -r .x >> log"},
        {"type": "command", "command": "echo", "args": ["done"]},
        {"type": "http", "url": "http://127.0.0.1:8100/"},
        {"type": "mcp_tool", "server": "memory", "tool": "save"},
        {"type": "prompt", "prompt": "Is it done?"},
        {"type": "agent", "prompt": "Check it."},
    ]
    found = checked(project, {"hooks": {"PostToolUse": [{"matcher": "Edit|Write", "hooks": hooks}], "Stop": []}})
    assert [(each.level, each.finding) for each in found] == [
        (Level.OK, f"{project}/.claude/settings.json: 6 hooks in 2 events")
    ]


@pytest.mark.parametrize(
    ("settings", "told", "remedy"),
    [
        (of("post-task", command("true")), "hooks.post-task is not an event", "SubagentStop"),
        (of("PostTolUse", command("true")), "hooks.PostTolUse is not an event", "did you mean PostToolUse"),
        (of("Stop", "x.sh"), "hooks.Stop[0] is a string", '{"hooks": [{"type": "command", "command": "x.sh"}]}'),
        (of("Stop", {"hooks": ["x"]}), "hooks.Stop[0].hooks[0] is a string", '{"type": "command", "command": "x"}'),
        (of("Stop", {"type": "command", "command": "x"}), "hooks.Stop[0] has no list `hooks`", '"command": "x"}]}'),
        (of("Stop", {"matcher": 3, "hooks": []}), "hooks.Stop[0].matcher is a number", "Edit|Write"),
        (of("Stop", {"hooks": "x"}), "hooks.Stop[0].hooks is a string", "a list"),
        (of("Stop", {"hooks": [{"command": "x"}]}), "hooks.Stop[0].hooks[0] has no `type`", '"type": "command"'),
        (of("Stop", {"hooks": [{"type": "comand"}]}), ".hooks[0].type is comand", "did you mean command"),
        (of("Stop", {"hooks": [{"type": "command"}]}), ".hooks[0] has no `command`", '"command": "'),
        (of("Stop", {"hooks": [{"type": "command", "command": ["x"]}]}), ".hooks[0].command is a list", "a string"),
        (of("Stop", {"hooks": [{"type": "http"}]}), ".hooks[0] has no `url`", '"url": "'),
        (of("Stop", None), "hooks.Stop[0] is null", '"type": "command"'),
        ({"hooks": {"Stop": "x"}}, "hooks.Stop is a string", "a list"),
        ({"hooks": []}, "hooks is a list", "an object"),
        (of("PreToolUse", {"matcher": 3, "hooks": []}), ".matcher is a number: no hook of this file runs", "Edit"),
        (of("PreToolUse", "x"), "hooks.PreToolUse[0] is a string: no hook of this file runs", "hooks"),
        ({"disableAllHooks": True}, "disableAllHooks is true: Claude Code runs no hook", "set it to false"),
        ({"disableAllHooks": "no"}, "disableAllHooks is a string: Claude Code ignores this file", "set it to false"),
        (of("PreToolUse", {"matcher": "Bash[", "hooks": []}), ".matcher Bash[ is not a regular expression", "Edit"),
        (of("SessionStart", {"matcher": "(a", "hooks": []}), ".matcher (a is not a regular expression", "Edit|Write"),
        (of("PreToolUse", {"matcher": "(?i)bash", "hooks": []}), "(?i)bash is not a regular", "Edit|Write"),
        (of("PreToolUse", {"matcher": "**", "hooks": []}), ".matcher ** is not a regular expression", "Edit|Write"),
        ("[]", "is a list", "an object"),
        ('{\n  "hooks": {\n    "Stop": [,]\n}}', "line 3: ", "fix the JSON"),
        ("", "line 1: ", "fix the JSON"),
        (b"\xff\xff\xff", "is not JSON", "fix the JSON"),
        ("[" * 100_000, "is not JSON", "fix the JSON"),
        (" " * 2**21, "larger than 1 MiB", ""),
    ],
)  # fmt: skip
def test_doctor_reports_a_hook_that_claude_cannot_run(
    project: Path, settings: str | bytes | dict[str, Any], told: str, remedy: str
) -> None:
    [found] = checked(project, settings)
    assert found.level is Level.WARN
    assert found.finding.startswith(f"{project}/.claude/settings.json")
    assert told in found.finding
    assert remedy in found.remedy


def test_doctor_reports_each_finding_on_its_own_line(project: Path) -> None:
    found = checked(project, {"hooks": {"Stop": ["a", "b"], "post-task": ["c"]}})
    assert [each.finding.split(": ")[1].split()[0] for each in found] == [
        "hooks.Stop[0]", "hooks.Stop[1]", "hooks.post-task",
    ]  # fmt: skip


def test_doctor_reports_only_the_first_of_many_findings(project: Path) -> None:
    found = checked(project, of("Stop", *["x"] * 100))
    assert len(found) == 11
    assert "90 more" in found[-1].finding


def test_doctor_names_the_line_of_each_finding(project: Path) -> None:
    text = """{
  "env": {"A": "}", "B": "[\\""},
  "hooks": {
    "post-task": [],
    "Stop": [
      {"hooks": []},
      {
        "hooks": [
          {
            "type": "command",
            "command": "./no.sh"
          },
          "x", 7
        ]
      }
    ],
    "PreToolUse": [
      {"hooks": [{"type": "command"}]}, {
        "matcher": "Bash[",
        "hooks": []
      }
    ]
  },
  "disableAllHooks": true
}
"""
    lines = dict(enumerate(text.splitlines(), 1))
    found = {}
    for each in checked(project, text):
        where, at, *_ = each.finding.removeprefix(f"{project}/.claude/settings.json, line ").split(": ", 1)
        found[at.split()[0].removesuffix(":")] = lines[int(where)].strip()
    assert found == {
        "disableAllHooks": '"disableAllHooks": true',
        "hooks.post-task": '"post-task": [],',
        "hooks.Stop[1].hooks[0].command": '"command": "./no.sh"',
        "hooks.Stop[1].hooks[1]": '"x", 7',
        "hooks.Stop[1].hooks[2]": '"x", 7',
        "hooks.PreToolUse[0].hooks[0]": '{"hooks": [{"type": "command"}]}, {',
        "hooks.PreToolUse[1].matcher": '"matcher": "Bash[",',
    }


def test_doctor_reports_a_key_that_is_there_twice(project: Path) -> None:
    """Claude Code reads the last one."""
    one, two = ('"Stop": [{"hooks": [{"type": "command", "command": "true"}]}]' for _ in range(2))
    [found] = checked(project, f'{{"hooks": {{{one}}},\n"x": {{"a": 1}}, "y": {{"a": 1}},\n"\\u0068ooks": {{{two}}}}}')
    assert found.level is Level.WARN
    assert found.finding.startswith(f"{project}/.claude/settings.json, line 3: hooks is there twice")
    assert "line 1" in found.finding
    found, *_ = checked(project, f'{{"hooks": {{{one},\n{two}}}}}')
    assert ", line 2: hooks.Stop is there twice" in found.finding


@pytest.mark.parametrize(
    "matcher", ["", "*", "Edit|Write", "mcp__.*", "^(?!Edit)", "(?<a>x)", r"\p{L}", "[[a]", "a{", "[^]"]
)
def test_doctor_accepts_what_javascript_accepts_as_a_matcher(project: Path, matcher: str) -> None:
    settings = of("PreToolUse", {**command("true"), "matcher": matcher})
    assert [each.level for each in checked(project, settings)] == [Level.OK]


@pytest.mark.parametrize("event", ["Stop", "UserPromptSubmit", "FileChanged"])
def test_doctor_ignores_the_matcher_of_an_event_that_has_none(project: Path, event: str) -> None:
    assert [each.level for each in checked(project, of(event, {**command("true"), "matcher": "x["}))] == [Level.OK]


def test_doctor_reads_settings_that_are_not_utf8_or_have_a_mark_at_their_begin(project: Path) -> None:
    text = json.dumps(of("Stop", command("true")))
    for content in (text.encode("utf-8-sig"), text.encode("utf-16")):
        assert [each.level for each in checked(project, content)] == [Level.OK]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo 'x", "Unterminated quoted string|unexpected EOF"),
        ("if true", "end of file"),
        ("true && && true", "unexpected"),
    ],
)
def test_doctor_reports_a_command_that_the_shell_refuses(project: Path, text: str, told: str) -> None:
    [found] = checked(project, of("PreToolUse", command(text)))
    assert "hooks.PreToolUse[0].hooks[0].command: the shell refuses it" in found.finding
    assert re.search(told, found.finding)
    assert "exit 2, which blocks the tool call" in found.finding
    assert "sh -n" in found.remedy
    [found] = checked(project, of("Notification", command(text)))
    assert "blocks" not in found.finding


@pytest.mark.parametrize(
    "text",
    [
        "./a\0b",
        "cd a\0b && ./c",
        f"cd {'x' * 5000} && ./c",
        f"./{'x' * 5000}",
        "./\ud800",
        "\ud800 'x",
        "./" + "a/" * 3000,
    ],
)
def test_doctor_survives_any_command(project: Path, text: str) -> None:
    assert len(checked(project, of("Stop", command(text)))) == 1


@pytest.mark.parametrize("first", [b"#!\0\n", b"#!/" + b"x" * 9000, b"#!\xff\xfe\n", b"#!./x.sh\n", b"#! \t\n"])
def test_doctor_survives_any_first_line(project: Path, first: bytes) -> None:
    script = project / "x.sh"
    script.write_bytes(first)
    script.chmod(0o755)
    assert len(checked(project, of("Stop", command("./x.sh")))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[" + "1," * 500_000 + "1]",
        '{"' + "k" * 400_000 + '": [' + "1," * 200_000 + "1]}",
        '{"a":[' * 300 + "]}" * 300,
        '{"hooks": {' + ",".join(f'"{n}": 1' for n in range(60_000)) + "}}",
        '{"a":1,"a":1,' * 1 + '"a":1,' * 100_000 + '"b":1}',
    ],
)
def test_doctor_survives_any_json(project: Path, text: str) -> None:
    assert len(checked(project, text)) <= 11


def test_doctor_runs_no_command_that_it_checks(project: Path) -> None:
    texts = [
        f"touch {project}/ran",
        f"x=$(touch {project}/ran)",
        f"trap 'touch {project}/ran' EXIT",
        "cat <<E\ndon't\nE",
    ]
    assert checked(project, of("Stop", *map(command, texts)))[0].level is Level.OK
    assert not (project / "ran").exists()


@pytest.mark.parametrize(
    ("first", "told", "remedy"),
    [
        ("#!/nope\n", "asks for /nope", ""),
        ("#!/usr/bin/env nope-nope\n", "nope-nope", ""),
        ("#!/bin/sh\r\n", "ends in CR", "sed -i"),
    ],
)
def test_doctor_reports_a_script_that_the_kernel_cannot_start(
    project: Path, first: str, told: str, remedy: str
) -> None:
    script = project / "x.sh"
    script.write_text(f"{first}true\n")
    script.chmod(0o755)
    [found] = checked(project, of("Stop", command("./x.sh")))
    assert found.level is Level.WARN
    assert told in found.finding
    assert remedy in found.finding + found.remedy
    assert checked(project, of("Stop", command("sh x.sh")))[0].level is Level.OK


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("cd hooks && ./no.sh", "hooks/no.sh"),
        ("cd hooks; ./no.sh --fast | tee log", "hooks/no.sh"),
        ("cd hooks\n# don't\n\nbash ./no.sh", "hooks/no.sh"),
        ('cd "$CLAUDE_PROJECT_DIR" && cd hooks && A=1 ./no.sh', "hooks/no.sh"),
        ("cd ./none && ./yes.sh", "none"),
        ("./no.sh>log", "no.sh"),
    ],
)
def test_doctor_follows_cd_to_a_script(project: Path, text: str, missing: str) -> None:
    (project / "hooks").mkdir()
    (project / "hooks/yes.sh").write_text("")
    (project / "hooks/yes.sh").chmod(0o755)
    [found] = checked(project, of("Stop", command(text)))
    assert f"command: there is no {project}/{missing}" in found.finding
    assert checked(project, of("Stop", command("cd hooks && ./yes.sh")))[0].level is Level.OK


@pytest.mark.parametrize(
    "script",
    [
        "hooks/x.sh",
        "$CLAUDE_PROJECT_DIR/hooks/x.sh",
        '"${CLAUDE_PROJECT_DIR}"/hooks/x.sh --fast',
        "A=1 ./hooks/x.sh",
        "hooks/x.sh&& true",
    ],
)
def test_doctor_reports_a_script_that_is_missing_or_not_executable(project: Path, script: str) -> None:
    settings = of("Stop", command(script))
    [found] = checked(project, settings)
    assert f"hooks.Stop[0].hooks[0].command: there is no {project}/hooks/x.sh" in found.finding
    (project / "hooks").mkdir()
    (project / "hooks/x.sh").write_text("#!/bin/sh\n")
    [found] = checked(project, settings)
    assert "hooks/x.sh is not executable" in found.finding
    assert found.remedy == f"chmod +x {project}/hooks/x.sh"
    (project / "hooks/x.sh").chmod(0o755)
    [found] = checked(project, settings)
    assert found.level is Level.OK


def test_doctor_looks_for_a_script_that_an_interpreter_runs(project: Path) -> None:
    [found] = checked(project, of("Stop", command("bash hooks/x.sh")))
    assert f"there is no {project}/hooks/x.sh" in found.finding
    (project / "hooks").mkdir()
    (project / "hooks/x.sh").write_text("true\n")
    assert checked(project, of("Stop", command("bash hooks/x.sh")))[0].level is Level.OK


def test_doctor_looks_for_a_program_with_arguments_of_its_own(project: Path) -> None:
    [found] = checked(project, of("Stop", command("/no/such dir/x", args=["a"])))
    assert "there is no /no/such dir/x" in found.finding


@pytest.mark.parametrize(
    "text",
    [
        "jq . | tee x",
        "if [ -f /no ]; then /no; fi",
        "$TOOLS/x.sh",
        "cd x || exit; ./y.sh",
        "cd $X && ./y.sh",
        "`which x`/y",
        "[ -x ./y.sh ] && ./y.sh",
        "cd - && ./y.sh",
        "(cd x && ./y.sh)",
        "$(dirname x)/y.sh",
        "cat <<E\ndon't\nE",
    ],
)
def test_doctor_does_not_guess_at_commands_of_the_shell(project: Path, text: str) -> None:
    assert [each.level for each in checked(project, of("Stop", command(text)))] == [Level.OK]


def test_doctor_reads_user_project_and_local_settings(project: Path) -> None:
    home = project.parent / "home"
    (home / ".claude/settings.json").write_text(json.dumps(of("Stop", "x")))
    (project / ".claude/settings.local.json").write_text(json.dumps(of("Stop", "x")))
    found = checked(project, of("Stop", "x"))
    assert [each.finding.partition(", line")[0] for each in found] == [
        f"{home}/.claude/settings.json", f"{project}/.claude/settings.json", f"{project}/.claude/settings.local.json",
    ]  # fmt: skip


def test_relative_scripts_in_a_users_settings_are_not_looked_for(project: Path) -> None:
    """Each project would have its own; `~` is known."""
    home = project.parent / "home"
    groups = [command("hooks/x.sh"), command("$CLAUDE_PROJECT_DIR/x.sh"), command("~/x.sh")]
    (home / ".claude/settings.json").write_text(json.dumps(of("Stop", *groups)))
    [found] = claude_settings([project], [home])
    assert f"hooks.Stop[2].hooks[0].command: there is no {home}/x.sh" in found.finding


def test_doctor_refuses_to_read_a_pipe(project: Path) -> None:
    os.mkfifo(project / ".claude/settings.json")
    [found] = claude_settings([project], [])
    assert (found.level, found.finding) == (Level.WARN, f"{project}/.claude/settings.json: this is not a regular file")


def test_doctor_says_nothing_where_there_are_no_settings(project: Path) -> None:
    assert list(claude_settings([project, project / "gone"], [project.parent / "home"])) == []
