"""Rules of the house: which room may import or wait for what, and that the documents agree with the code."""

import ast
import importlib
import importlib.util
import os
import pkgutil
import re
import runpy
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import seqsup
from helpers.paths import ROOT
from seqsup.cli.app import FAULT, INTERRUPTED, ISSUES, PIPE_CLOSED
from seqsup.errors import SeqsupError
from seqsup.model.profile import SHARED
from seqsup.model.reason import Reason
from seqsup.profile.schema import schema
from seqsup.runner.run import AT_USAGE_LIMIT, COMPLETED, GAVE_UP, STOPPED_BY_POLICY

SUPERVISOR = ROOT / "supervisor"
PACKAGE = SUPERVISOR / "seqsup"
README = (ROOT / "README.md").read_text()
REASONS, EXIT_CODES, KEYS = (
    (ROOT / f"docs/reference/{name}.md").read_text() for name in ("reasons", "exit-codes", "profile")
)

FILES = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]

# Files that may sleep, and why that delays nothing
SLEEPERS = {
    "runner/bench.py": "a benchmark has no event loop that a sleep could delay",
    "runner/bench_box.py": "the same",
    "runner/bench_agent_main.py": "a test agent",
    "cli/find_run.py": "only looks, from a process of its own",
    "cli/jobs.py": "only looks, from a process of its own",
    "cli/commands/queue.py": "only looks, from a process of its own",
    "cli/job_process.py": "waits for a run of another process, which that watches",
    "cli/commands/stop.py": "waits for another process to end; it watches nothing",
    "memory.py": "for programs of the user's own; nothing of ours calls it",
    "containment/fast_kill.py": "for half a millisecond, once in an agent that was killed",
    "containment/cgroup/tiers.py": "before the run: there is no loop yet, and no event to wait for",
}
# Files that may wait outside of wait.Wake
ASYNC_SLEEPERS = {
    "host/wake.py": "the one place that waits",
    "runner/stream_watch.py": "reads the rest of a stream in pieces, between which others get their turn",
    "view/relay.py": "hands output on beside the watch, which never waits for it",
}
# Files that may import a library
OWNERS = {
    "jinja2": {"view/report/page.py"},
    "loguru": {"view/log.py"},
    "prometheus_client": {"metrics/exposition.py"},
    "tenacity": {"runner/agent.py"},
}


@cache
def parsed(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text())


def rows(text: str, header: str) -> dict[str, str]:
    """The table under this header: first cell to second."""
    lines = iter(text.splitlines())
    assert any(line.startswith(f"| {header} |") for line in lines), header
    found: dict[str, str] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        first, second = (cell.strip() for cell in line.strip("|").split(" | ")[:2])
        found[first] = second
    return found


def test_the_folder_supervisor_is_no_package() -> None:
    assert not (SUPERVISOR / "__init__.py").exists()


# -- rules for single files


@pytest.mark.parametrize(("library", "owners"), OWNERS.items(), ids=OWNERS)
def test_a_library_is_known_in_one_place(library: str, owners: set[str]) -> None:
    assert {file for file in FILES if library in _libraries(parsed(file))} == owners


def _libraries(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_only_listed_files_sleep() -> None:
    assert {file for file in FILES if "time.sleep" in _names(parsed(file))} == set(SLEEPERS)
    assert {file for file in FILES if _names(parsed(file)) & {"asyncio.sleep", "asyncio.wait_for"}} == set(
        ASYNC_SLEEPERS
    )


def test_no_file_hides_a_sleep_behind_another_name() -> None:
    hidden = [
        file
        for file in FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ImportFrom)
        and node.module in ("time", "asyncio")
        and {"sleep", "wait_for"} & {alias.name for alias in node.names}
    ]
    assert hidden == []


def test_tiers_sleeps_in_one_function_only() -> None:
    functions = [node for node in ast.walk(parsed("containment/cgroup/tiers.py")) if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions if "time.sleep" in _names(function)] == ["_in_time"]


def _names(tree: ast.AST) -> set[str]:
    """Every `module.name` that is used."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


# -- the documents


def test_the_guide_to_endings_has_every_reason_and_no_other() -> None:
    said = [reason for reason in rows(REASONS, "reason") if "--" not in reason]
    assert sorted(said) == sorted(Reason)


def test_the_guide_to_runs_has_every_exit_code() -> None:
    said = {int(code) for code in rows(EXIT_CODES, "exit code") if code.isdigit()}
    assert "128+n" in rows(EXIT_CODES, "exit code")
    ours = {COMPLETED, GAVE_UP, STOPPED_BY_POLICY, AT_USAGE_LIMIT, FAULT, *_refusals()}
    assert ours <= said
    assert all(code > 128 for code in (INTERRUPTED, PIPE_CLOSED))


def _refusals() -> set[int]:
    """Return the exit codes of all our errors."""
    for module in pkgutil.walk_packages(seqsup.__path__, "seqsup."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, todo = set(), [SeqsupError]
    while todo:
        error = todo.pop()
        found.add(error.exit_code)
        todo += error.__subclasses__()
    return found


def _keys(table: dict[str, Any]) -> Iterator[str]:
    """The names of a table's keys, and of the tables in it."""
    for name, value in table.get("properties", {}).items():
        yield name
        for inner in (value, value.get("items", {}), *value.get("anyOf", ())):
            yield from _keys(inner)


def _tables() -> dict[str, list[str]]:
    """Return the keys that the reference must list, by heading."""
    top = schema()["properties"]
    tables = {"(top)": ["name"]}
    for name, table in top.items():
        if name == "agents":
            own = {key: value for key, value in table["items"]["properties"].items() if key not in SHARED}
            tables["[[agents]]"] = list(_keys({"properties": own}))
        elif table["type"] == "array":
            tables[f"[[{name}]]"] = list(_keys(table["items"]))
        elif table["type"] == "object":
            tables[f"[{name}]"] = list(_keys(table))
    return tables


def test_the_document_of_keys_has_every_key_of_a_profile_in_its_table_and_no_other() -> None:
    said = {}
    for section in KEYS.split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        said[heading] = [cell.strip("`").rpartition(".")[2] for cell in rows(text, "key") if "--" not in cell]
    assert {name: sorted(keys) for name, keys in said.items()} == {
        name: sorted(keys) for name, keys in _tables().items()
    }


def test_the_changelog_has_this_version_and_the_readme_leads_to_it() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog")
    assert re.search(rf"^## {re.escape(seqsup.__version__)} \(.+\)$", text, re.MULTILINE)
    assert "(CHANGELOG.md)" in README


def test_version_is_in_one_place() -> None:
    version = f'"{seqsup.__version__}"'
    said = [file for file in PACKAGE.rglob("*.py") if version in file.read_text()]
    assert said == [PACKAGE / "__init__.py"]
    project = (ROOT / "pyproject.toml").read_text()
    assert "seqsup.__version__" in project
    assert version not in project


def test_an_internal_error_names_the_issues_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Issues"] == ISSUES


@pytest.mark.parametrize("there", [True, False])
def test_checkout_of_another_user_is_reported(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root had run it there first, with a Python of its own: a traceback."""
    prepare = runpy.run_path(str(SUPERVISOR / "__main__.py"))["prepare"]
    if not there:
        monkeypatch.setitem(prepare.__globals__, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SystemExit):
        prepare()
    assert "a clone of your own" in capsys.readouterr().err


def test_public_class_names_are_unique() -> None:
    names = [
        node.name for file in FILES for node in ast.walk(parsed(file))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]  # fmt: skip
    assert [name for name, times in Counter(names).items() if times > 1] == []
