"""The hooks in Claude Code's settings files: what never runs is reported with the file and the key's path."""

import json
import os
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
    assert [each.finding.partition(": ")[2].split()[0] for each in found] == [
        "hooks.Stop[0]", "hooks.Stop[1]", "hooks.post-task",
    ]  # fmt: skip


def test_doctor_reports_only_the_first_of_many_findings(project: Path) -> None:
    found = checked(project, of("Stop", *["x"] * 100))
    assert len(found) == 11
    assert "90 more" in found[-1].finding


@pytest.mark.parametrize(
    "script",
    [
        "hooks/x.sh",
        "$CLAUDE_PROJECT_DIR/hooks/x.sh",
        '"${CLAUDE_PROJECT_DIR}"/hooks/x.sh --fast',
        "A=1 ./hooks/x.sh",
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
    ["jq . | tee x", "if [ -f /no ]; then :; fi", "$TOOLS/x.sh", "'unclosed", "cd /no && x", "`which x`/y"],
)
def test_doctor_does_not_guess_at_commands_of_the_shell(project: Path, text: str) -> None:
    assert [each.level for each in checked(project, of("Stop", command(text)))] == [Level.OK]


def test_doctor_reads_user_project_and_local_settings(project: Path) -> None:
    home = project.parent / "home"
    (home / ".claude/settings.json").write_text(json.dumps(of("Stop", "x")))
    (project / ".claude/settings.local.json").write_text(json.dumps(of("Stop", "x")))
    found = checked(project, of("Stop", "x"))
    assert [each.finding.partition(": ")[0] for each in found] == [
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
