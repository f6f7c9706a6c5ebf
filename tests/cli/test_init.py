"""`seqsup init`: what it writes can be planned, and it writes over nothing."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import Result
from helpers.profiles import shell
from helpers.profiles import write as write_profile
from helpers.terminals import Open, in_tmux
from helpers.waiting import wait_for
from seqsup.cli.shipped import examples
from seqsup.model.preset import prompt_presets
from seqsup.profile.parse import parse
from seqsup.profile.placeholders import escape_foreign, finish
from seqsup.profile.starter import write

Cli = Callable[..., Result]


@pytest.fixture
def clis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts programs of these names on PATH."""

    def install(*names: str) -> None:
        for name in names:
            program = tmp_path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text("#!/bin/sh\nexit 0\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    return install


@pytest.mark.parametrize("name", prompt_presets())
def test_profile_that_init_writes_can_be_planned(
    seqsup: Cli, clis: Callable[..., None], tmp_path: Path, name: str
) -> None:
    clis(name)
    ended = seqsup("init")
    assert (ended.code, ended.stdout) == (0, "")
    assert "next: seqsup plan agents.toml" in ended.stderr
    planned = seqsup("plan", "agents.toml", "-v")
    assert (planned.code, planned.stderr) == (0, "")
    assert "agents  2 agents, one at a time" in planned.stdout
    assert f"$ {name} " in planned.stdout
    assert parse((tmp_path / "agents.toml").read_text(), "agents.toml").agents[0].preset == name
    assert '"seqsup profile"' in (tmp_path / "seqsup.schema.json").read_text()
    assert f"wrote agents.toml (agents run {name}) and seqsup.schema.json (for editors)" in ended.stderr


def test_profile_does_not_complete_without_any_cli(seqsup: Cli, clis: Callable[..., None], tmp_path: Path) -> None:
    clis()
    ended = seqsup("init")
    assert ended.code == 0
    assert "no known CLI is on PATH (claude, codex, " in ended.stderr
    assert "next: seqsup init --example demo" in ended.stderr
    planned = seqsup("plan", "agents.toml")
    assert (planned.code, "no program claude on PATH" in planned.stdout) == (2, True)


def test_example_writes_over_nothing(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    hook = tmp_path / "hooks/post-agent-execution.sh"
    hook.write_text("mine")
    ended = seqsup("init", "--example", "nightly")
    assert (ended.code, hook.read_text()) == (2, "mine")
    assert "hooks/post-agent-execution.sh exists already" in ended.stderr
    assert not (tmp_path / "nightly.toml").exists()


def test_examples_are_listed_with_a_line_each(seqsup: Cli, tmp_path: Path) -> None:
    listed = seqsup("init", "--example")
    assert (listed.code, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(examples())
    assert all(len(line) <= 80 for line in listed.stdout.splitlines())
    refused = seqsup("init", "--example", "nigthly")
    assert refused.code == 2
    assert listed.stdout in refused.stderr
    assert "unknown example nigthly (did you mean nightly?)" in refused.stderr
    assert list(tmp_path.glob("*.toml")) == []


def test_a_prompt_that_no_profile_can_hold_is_refused(seqsup: Cli, tmp_path: Path) -> None:
    refused = seqsup("init", "--prompt", "fine", "--prompt", "not \udcff")
    assert (refused.code, refused.stderr.splitlines()[0]) == (2, "seqsup: --prompt: contains bytes that are not UTF-8")
    assert not (tmp_path / "agents.toml").exists()


def test_prompts_and_preset_are_taken_from_the_command_line(
    seqsup: Cli, clis: Callable[..., None], tmp_path: Path
) -> None:
    clis("claude", "gemini")
    words = ["init", "night.toml", "--preset", "gemini", "--prompt", 'say "hi"', "--prompt", "and\tbye"]
    assert seqsup(*words).code == 0
    agents = parse((tmp_path / "night.toml").read_text(), "night.toml").agents
    assert [(agent.preset, agent.prompt) for agent in agents] == [("gemini", 'say "hi"'), ("gemini", "and\tbye")]
    assert agents[1].needs == ("agent-1",)


def test_init_reports_a_cli_that_is_not_installed(seqsup: Cli, clis: Callable[..., None]) -> None:
    clis("claude")
    assert "codex is not on PATH" in seqsup("init", "later.toml", "--preset", "codex").stderr
    assert "on PATH" not in seqsup("init", "now.toml", "--preset", "claude").stderr


def test_init_overwrites_only_with_force(seqsup: Cli, clis: Callable[..., None], tmp_path: Path) -> None:
    clis()
    (tmp_path / "agents.toml").write_text("mine")
    (tmp_path / "seqsup.schema.json").write_text("mine as well")
    ended = seqsup("init")
    assert ended.code == 2
    assert "exists already" in ended.stderr
    assert (tmp_path / "agents.toml").read_text() == "mine"
    assert seqsup("init", "--force").code == 0
    assert (tmp_path / "agents.toml").read_text() != "mine"
    assert (tmp_path / "seqsup.schema.json").read_text() == "mine as well"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--preset", "gemeni"], "unknown preset gemeni (did you mean gemini?)"),
        (["profile.yaml"], "ends in .toml: try profile.yaml.toml"),
        (["x.toml", "--timer", "--prompt", "x"], "write no profile"),
        (["--example", "demo", "--preset", "claude"], "--example takes no other option"),
        (["my.toml", "--example", "demo"], "name a folder instead of my.toml"),
        (["--timer"], "no profile in"),
        (["x.toml", "--memory"], "--memory is for --systemd and --timer"),
    ],
)
def test_init_reports_a_typing_error(seqsup: Cli, words: list[str], told: str) -> None:
    ended = seqsup("init", *words)
    assert ended.code == 2
    assert told in ended.stderr


@given(
    st.sampled_from([*prompt_presets()]),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(str.strip),
        max_size=3,
    ),
    st.integers(2**30, 2**40),
)
def test_any_prompt_comes_back_as_it_was(program: str, prompts: list[str], hard: int) -> None:
    agents = parse(write(program, hard, prompts), "x.toml").agents
    if prompts:
        assert [finish(escape_foreign(agent.prompt or "")) for agent in agents] == prompts


def test_a_timer_is_printed_that_systemd_takes(seqsup: Cli, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, shell("a", "true"))
    assert seqsup("plan", profile).code == 0  # which leaves our folder on the PATH of this interpreter
    ended = seqsup("init", profile, "--timer")
    assert ended.code == 0
    assert f"start {profile} --quiet" in ended.stdout
    assert "seqsup-nightly.timer" in ended.stdout
    assert re.search(r"^# {3}\*/5 \* \* \* \*  .* mem --log \S+/memory.ndjson --threshold \S+ \|\|", ended.stdout, re.M)
    assert f"init {profile} --memory --systemd --timer" in ended.stdout
    assert "seqsup/host/bin" not in ended.stdout + seqsup("init", profile, "--systemd").stdout  # it works in runs only
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze to ask")
    (tmp_path / "seqsup-nightly.timer").write_text(ended.stdout)
    (tmp_path / "seqsup-nightly.service").write_text(seqsup("init", profile, "--systemd").stdout)
    asked = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "seqsup-nightly.timer"], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert [line for line in asked.stderr.splitlines() if "seqsup" in line] == []


def test_a_unit_of_a_worker_is_printed_that_systemd_takes(seqsup: Cli, tmp_path: Path) -> None:
    printed = seqsup("init", "--unit", "worker", env={"SEQSUP_QUEUE": "postgresql://queue.example/jobs"})
    assert printed.code == 0, printed.stderr
    assert re.search(r"^ExecStart=.*seqsup work$", printed.stdout, re.M)
    assert "\nEnvironment=SEQSUP_QUEUE=postgresql://queue.example/jobs\n" in printed.stdout
    assert f"\nEnvironment=SEQSUP_STATE_DIR={os.environ['SEQSUP_STATE_DIR']}\n" in printed.stdout
    assert "init --unit worker > " in printed.stdout
    assert seqsup("init", "agents.toml", "--unit", "worker").code == 2
    assert seqsup("init", "--unit", "other").code == 2
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze to ask")
    unit = tmp_path / "seqsup-worker.service"
    unit.write_text(printed.stdout)
    asked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert str(unit) not in asked.stderr, asked.stderr


def test_units_that_log_memory_are_printed_and_work(seqsup: Cli, tmp_path: Path) -> None:
    odd = tmp_path / "100% a b"
    odd.mkdir()
    profile = write_profile(odd, shell("a", "true"), memory={"soft": "300MiB", "hard": "500MiB"})
    env = {"SEQSUP_STATE_DIR": str(tmp_path / "new" / "state")}
    service, timer = (seqsup("init", profile, "--memory", option, env=env) for option in ("--systemd", "--timer"))
    assert (service.code, timer.code) == (0, 0)
    assert (
        seqsup("init", profile, "--memory", "--systemd", "--timer", env=env).stdout
        == f"{service.stdout}\n{timer.stdout}"
    )
    assert "Type=oneshot\n" in service.stdout
    assert "OnCalendar=*:0/5\n" in timer.stdout
    assert "start" not in service.stdout.partition("[Unit]")[2]
    [line] = re.findall("^ExecStart=(.*)$", service.stdout, re.M)
    *_, command, option, log, threshold, size = words = shlex.split(line.replace("%%", "%"))
    assert (command, option, log) == ("mem", "--log", f"{tmp_path}/new/state/memory.ndjson")
    assert (threshold, size) == ("--threshold", "300MiB")
    assert subprocess.run(words, env={**os.environ, **env}, check=False).returncode == 0
    [entry] = Path(log).read_text().splitlines()
    assert json.loads(entry)["host"]["available"] > 0
    assert Path(log).parent.stat().st_mode & 0o777 == 0o700
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze to ask")
    units = [tmp_path / f"seqsup-nightly-memory.{kind}" for kind in ("service", "timer")]
    for unit, printed in zip(units, (service, timer), strict=True):
        assert f"> /etc/systemd/system/{unit.name}" in printed.stdout or os.geteuid()
        unit.write_text(printed.stdout)
    asked = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert [line for line in asked.stderr.splitlines() if "seqsup" in line] == []


def test_units_look_at_the_state_folder_of_the_profile(seqsup: Cli, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, shell("a", "true"), run={"state_dir": "own"})
    text = seqsup("init", profile, "--memory", "--systemd").stdout
    assert f"--log {tmp_path}/own/memory.ndjson" in text
    assert f"Environment=SEQSUP_STATE_DIR={tmp_path}/own\n" in text


@in_tmux
@pytest.mark.parametrize("key", ["C-c", "C-d"])
def test_init_can_be_left_at_a_question(terminal: Open, tmp_path: Path, key: str) -> None:
    term = terminal()
    term.type("init")
    term.shows("one line for each agent", "1:")
    term.press(key)
    assert term.code() == 130
    assert "Traceback" not in term.shown()
    assert not (tmp_path / "agents.toml").exists()


@in_tmux
@pytest.mark.long
def test_init_asks_in_a_terminal(terminal: Open, clis: Callable[..., None], tmp_path: Path) -> None:
    clis("claude", "qwen")
    term = terminal()
    term.type("init")
    wait_for(lambda: "Which CLI runs your agents?" in term.shown())
    term._call("send-keys", "-l", "qwen")
    term.press("Enter")
    wait_for(lambda: "one line for each agent" in term.shown())
    for line in ("find bugs", "mend them", ""):
        term._call("send-keys", "-l", line) if line else None
        term.press("Enter")
    assert term.code() == 0
    agents = parse((tmp_path / "agents.toml").read_text(), "agents.toml").agents
    assert [(agent.preset, agent.prompt) for agent in agents] == [("qwen", "find bugs"), ("qwen", "mend them")]
