"""`seqsup plan`: what it shows at a glance, and what with -v."""

import json
from collections.abc import Callable
from pathlib import Path

from helpers.command_line import Result
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write

Cli = Callable[..., Result]
WIDE = {"COLUMNS": "100"}


def test_plan_of_two_agents_fits_on_a_screen(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("triage", "true"), shell("report", "true", needs=["triage"]))
    lines = seqsup("plan", profile, env=WIDE).stdout.splitlines()
    assert len(lines) <= 20
    assert [line.split()[1:3] for line in lines if line.endswith(("–", "triage"))] == [
        ["triage", "sh"],
        ["report", "sh"],
    ]
    assert lines[-1].startswith("-v shows")


def test_copies_are_folded_into_one_row(seqsup: Cli, tmp_path: Path) -> None:
    items = [f"f{number}.md" for number in range(30)]
    copies = agent("file", ["sh", "-c", "echo {item}"], for_each=items, needs=["first"])
    profile = write(tmp_path, shell("first", "true"), copies, shell("last", "true", needs=["file"]))
    lines = seqsup("plan", profile, env=WIDE).stdout.splitlines()
    assert len(lines) <= 20
    rows = [line.split() for line in lines if "×30" in line]
    assert [row[:4] for row in rows] == [["2–31", "file", "×30", "sh"], ["32", "last", "sh", rows[1][3]]]
    assert rows[1][-2:] == ["file", "×30"]


def test_one_copy_of_a_name_that_looks_like_copies_is_not_folded(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("v.1", "true"), shell("v.2", "true", memory={"hard": "300MiB"}))
    lines = seqsup("plan", profile, env=WIDE).stdout.splitlines()
    assert [line.split()[:2] for line in lines if " sh " in line] == [["1", "v.1"], ["2", "v.2"]]


def test_details_are_shown_with_v(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("triage", "echo hello"))
    brief, full = seqsup("plan", profile).stdout, seqsup("plan", profile, "-v").stdout
    for detail in ("echo hello", "NODE_OPTIONS", "drained", "retried", "execution_mode"):
        assert (detail in brief, detail in full) == (False, True)


def test_bound_of_processes_is_resolved_for_programs(seqsup: Cli, tmp_path: Path) -> None:
    usual = shell("usual", "true")
    none = shell("none", "true", rlimits={"processes": "none"})
    some = shell("some", "true", rlimits={"processes": 300})
    steps = json.loads(seqsup("plan", write(tmp_path, usual, none, some), "--json").stdout)["steps"]
    auto, *others = (step["rlimits"]["processes"] for step in steps)
    assert isinstance(auto, int)
    assert others == [None, 300]


def test_advice_says_how_long_many_agents_take(seqsup: Cli, tmp_path: Path) -> None:
    copies = agent("file", ["true", "{item}"], for_each=[f"f{n}.md" for n in range(52)], timeouts={"wall": "6m"})
    profile = write(tmp_path, copies, retry={"attempts": 3})
    said = seqsup("plan", profile, env={"COLUMNS": "200"})
    assert "\nadvice\n   52 agents × 6 min ≈ 5 h 12 min at most (timeouts.wall), or 15 h 36 min with" in said.stdout
    (told,) = json.loads(seqsup("plan", profile, "--json").stdout)["advice"]
    assert told in seqsup("plan", profile, "-v", env={"COLUMNS": "200"}).stdout
    page = ROOT / told.rpartition("/main/")[2]
    assert page.read_text().startswith("# When one at a time is the wrong choice")
    assert "advice" not in seqsup("plan", profile, "--only", "file.7").stdout


def test_advice_leaves_out_agents_that_completed(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), *(shell(f"b{n}", "test -e ok") for n in range(11)))
    assert seqsup("start", profile).code == 1
    (told,) = json.loads(seqsup("plan", profile, "--resume", "--json").stdout)["advice"]
    assert told.startswith("11 agents × ")


def test_plan_is_shown_without_its_cli_and_start_refuses_in_one_line(seqsup: Cli, tmp_path: Path) -> None:
    items = {"items": ["x", "y"]}
    profile = write(
        tmp_path, agent("a", ["no-such-cli", "-p"]), agent("b", ["no-such-cli", "{item}"], for_each=items),
        shell("c", "true"), agent("d", ["none-either"]),
    )  # fmt: skip
    told = "no program no-such-cli on PATH: install it, or give its path (3 agents need it)"
    shown = seqsup("plan", profile)
    assert (shown.code, shown.stdout.count("start would refuse: ")) == (2, 2)
    assert f"start would refuse: {told} " in " ".join(shown.stdout.split())
    assert "b ×2" in shown.stdout
    assert "start would refuse: no program none-either" in " ".join(seqsup("plan", profile, "-v").stdout.split())
    assert json.loads(seqsup("plan", profile, "--json").stdout)["missing"][0] == told
    refused = seqsup("start", profile)
    assert (refused.code, refused.stderr.count("no program ")) == (2, 2)
    assert f"agent a: command[0]: {told}" in " ".join(refused.stderr.split())
    assert seqsup("plan", profile, "--only", "c").code == 0
    assert seqsup("plan", write(tmp_path, agent("a", ["./gone.sh"]))).code == 2


def test_task_that_selects_no_agent_is_refused_and_starts_nothing(seqsup: Cli, tmp_path: Path) -> None:
    """The seed's row 3."""
    ran = f"echo $SEQSUP_AGENT >> {tmp_path}/ran"
    front, back = shell("front", ran, when=["button", "form"]), shell("back", ran, when=["/data(base)?/"])
    profile = write(tmp_path, front, back)
    for command in ("plan", "start"):
        refused = seqsup(command, profile, "--task", "Mend the css")
        assert refused.code == 2
        assert refused.stderr.splitlines()[:2] == [
            "seqsup: the task selects no agent of nightly. Words that would: button, form (front);"
            " /data(base)?/ (back)",
            "  hint: an agent with otherwise = true runs for any other task",
        ]
    assert not (tmp_path / "ran").exists()
    write(tmp_path, front, back, shell("rest", ran, otherwise=True))
    for task in ("Add two Buttons", "a databank", "Mend the css"):
        assert seqsup("start", profile, "--task", task).code == 0
    assert (tmp_path / "ran").read_text().split() == ["front", "back", "rest"]
