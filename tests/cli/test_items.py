"""An agent with for_each shows which item each copy has, and its copies are found by their items."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import of, parsed, shell, write

Cli = Callable[..., Result]
LONG = "src/components/of/a/very/deep/tree/with-a-long-name.test.tsx"


def items(seqsup: Cli) -> dict[str, str]:
    """Each agent's item, as programs are told."""
    return {agent["name"]: agent["item"] for agent in json.loads(seqsup("status", "--json").stdout)["agents"]}


@pytest.fixture
def done(seqsup: Cli, tmp_path: Path) -> Path:
    """A folder in which an agent ran for ten files, of which the tenth failed."""
    (tmp_path / "items").mkdir()
    for n in range(1, 11):
        (tmp_path / "items" / f"f{n}.md").write_text(f"text {n}\n")
    script = 'cat "$0"; case $0 in *f10*) exit 3;; esac'
    each = shell("file", script, for_each={"glob": "items/*.md"})
    each["command"].append("{item}")
    write(tmp_path, each, name="agents")
    assert seqsup("start").code == 1
    return tmp_path


def test_copies_are_numbered_in_natural_order(done: Path, seqsup: Cli) -> None:
    (begun,) = of(parsed(seqsup("events").stdout), "run_started")
    assert begun["items"] == {f"file.{n}": f"items/f{n}.md" for n in range(1, 11)}


def test_item_is_shown_wherever_the_agent_is(done: Path, seqsup: Cli, tmp_path: Path) -> None:
    label = "file.10 items/f10.md"
    status = seqsup("status")
    assert f"\n  {label} " in status.stdout
    assert f"why {label} failed" in status.stdout
    for command in (["plan", "-v"], ["report", "-o", "-"], ["logs"]):
        assert label in seqsup(*command).stdout, command
    assert label in seqsup("plan", "--only", "file.10").stdout
    assert items(seqsup)["file.10"] == "items/f10.md"
    assert json.loads(seqsup("plan", "--json").stdout)["steps"][9]["item"] == "items/f10.md"
    log = seqsup("start", "--retry-failed").stderr
    assert f"✖ {label}" in log
    assert "seqsup logs r1 file.10" in log


@pytest.mark.parametrize(
    "words",
    [
        ["file.2"], ["file", "items/f2.md"], ["file", "./items/f2.md"], ["file.2", "items/f2.md"], ["items/f2.md"],
        ["r1", "file.2"], ["r1", "file", "items/f2.md"], ["r1", "items/f2.md"], ["agents", "file", "items/f2.md"],
        ["agents.toml", "file.2"], ["file.2 items/f2.md"], ["file", "f2.md"], ["f2.md"],
    ],
)  # fmt: skip
def test_logs_finds_a_copy_by_its_item(done: Path, seqsup: Cli, words: list[str]) -> None:
    assert seqsup("logs", *words) == (0, "text 2\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["file"], "file of r1 has 10 items: add the one you mean, such as file items/f1.md"),
        (["file", "items/f77.md"], 'file of r1 has no item "items/f77.md" (did you mean items/f'),
        (["r1", "file", "items/f77.md"], 'file of r1 has no item "items/f77.md"'),
        (["file.3", "items/f2.md"], 'no run "file.3"'),
    ],
)
def test_item_that_no_copy_has_is_refused(done: Path, seqsup: Cli, words: list[str], told: str) -> None:
    ended = seqsup("logs", *words)
    assert (ended.code, ended.stdout) == (2, "")
    assert told in ended.stderr


def test_artifacts_are_found_by_item_too(done: Path, seqsup: Cli) -> None:
    assert seqsup("artifacts", "summary", "file", "items/f2.md").stdout == "text 2\n"


def test_item_of_two_agents_needs_a_name(seqsup: Cli, tmp_path: Path) -> None:
    for_each = ["x", LONG]
    write(tmp_path, *(shell(name, f"echo {name} $0", for_each=for_each) for name in ("a", "b")))
    assert seqsup("start").code == 0
    refused = seqsup("logs", "x")
    assert (refused.code, "r1 has several agents for x: say which of a.1, b.1" in refused.stderr) == (2, True)
    assert seqsup("logs", "b", "x").stdout.startswith("b ")


def test_long_item_is_cut_in_its_middle_and_still_found(seqsup: Cli, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "echo hi", for_each=["one", LONG]))
    assert seqsup("start").code == 0
    row = next(line for line in seqsup("status").stdout.splitlines() if line.startswith("  a.2 "))
    label = " ".join(row.split()[:2])
    assert (len(label), label[:8], label[-8:], "…" in label) == (32, "a.2 src/", "test.tsx", True)
    for words in (["a", LONG], label.split()):
        assert seqsup("logs", *words).stdout == "hi\n"


def test_odd_items_break_no_line_and_no_json(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_bytes(b"two\twords\n\x1b[31mred\n")
    write(tmp_path, shell("a", "true", for_each={"lines": "items.txt"}))
    ended = seqsup("start", "--json")
    assert ended.code == 0, ended.stderr
    assert "\x1b" not in seqsup("status").stdout
    assert items(seqsup) == {"a.1": "two\twords", "a.2": "\x1b[31mred".replace("\x1b", " ")}
    assert seqsup("plan").code == 0
    (tmp_path / "items.txt").write_bytes(b"\xff\xfe bytes\n")
    refused = seqsup("plan")
    assert (refused.code, "not UTF-8" in refused.stderr) == (2, True)
