"""Documents that are made from the code are up to date; links of all the others lead somewhere."""

import importlib
import re
import runpy
import tomllib
from html import unescape
from itertools import filterfalse
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from seqsup.model.reason import Reason
from seqsup.profile.parse import parse
from seqsup.profile.preset_text import parse_preset
from seqsup.profile.schema import schema
from seqsup.view.summary import COLUMNS

DOCUMENTS = [
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "grafana/*.md", "supervisor/*.md")
    for path in ROOT.glob(pattern)
]
FOR_CONTRIBUTORS = [
    path for path in DOCUMENTS if path.name in ("CONTRIBUTING.md", "DESIGN.md") or path.parent.name == "contributing"
]
VERBS = set(runpy.run_path(str(ROOT / "supervisor/__main__.py"))["VERBS"])
TARGETS = set(" ".join(re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)).split())
MAKE: dict[str, Any] = runpy.run_path(str(ROOT / "docs/make.py"))
REMAKE = "python3 supervisor pictures terminal"
MADE: dict[str, str] = MAKE["documents"]()


@pytest.mark.parametrize("path", MADE)
def test_generated_documents_are_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == MADE[path], "python docs/make.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_document_has_a_title_and_its_links_lead_somewhere(document: Path) -> None:
    text = (ROOT / document).read_text()
    assert re.search(r"^# \w", text, re.MULTILINE)
    for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
        assert (ROOT / document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_each_toml_block_is_a_preset_a_profile_or_a_part_of_one(document: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL):
        if "\ntitle = " in block:
            assert parse_preset(block, str(document), "preset").title
            continue
        agent = "" if "[[agents]]" in block else '\n[[agents]]\nname = "a"\ncommand = ["true"]\n'
        assert parse(block + agent, str(document)).agents


def test_start_page_leads_to_every_page() -> None:
    """The site has the pages in its order."""
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/index.md").read_text()))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("[!c]*/*.md")}
    assert pages <= linked


def test_page_about_the_guide_names_commands_keys_and_functions_that_exist() -> None:
    """What its tables say that it is here: `seqsup COMMAND --OPTION`, `seqsup.MODULE.FUNCTION` or `TABLE.KEY`."""
    sections = re.split(r"^## (seqsup .*)\n", MADE["docs/reference/cli.md"], flags=re.MULTILINE)
    commands = dict(zip(sections[1::2], sections[2::2], strict=True))
    here = [
        line.split(" | ")[1] for line in (ROOT / "docs/reference/seed.md").read_text().splitlines() if line[:2] == "| "
    ]
    named = re.findall(r"`([^`]+)`", " ".join(here))
    assert len(named) > 40
    for name in named:
        command, *options = re.split(r" (?=-)", name)
        if name.startswith("seqsup."):
            module, _, function = name.rpartition(".")
            assert function in importlib.import_module(module).__all__, name
        elif name.startswith("seqsup "):
            assert all(option in commands[command] for option in options), name
        else:
            assert key_exists(schema(), name.split(".")), name


def key_exists(table: dict[str, Any], path: list[str]) -> bool:
    if not path:
        return True
    inside = table.get("items", table).get("properties", {})
    return path[0] in inside and key_exists(inside[path[0]], path[1:])


def test_examples_of_tables_are_a_profile() -> None:
    assert parse((ROOT / "docs/tables.toml").read_text(), "tables.toml").agents


def test_documented_variables_are_those_of_the_code() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "supervisor/seqsup").rglob("*.py"))
    names = set(re.findall(r"\bSEQSUP_[A-Z_]*[A-Z]\b", code))
    documented = {name for table in MAKE["_variables"]().values() for name in table if name.startswith("SEQSUP_")}
    made = re.compile("SEQSUP_(COMPANION_.*|REASON)")  # names that the code puts together
    assert {*filterfalse(made.match, documented)} == {*filterfalse(made.match, names)}


def test_every_file_of_the_state_folder_is_documented() -> None:
    page = (ROOT / "docs/reference/state-folder.md").read_text()
    named = re.compile(r'^[A-Z_, ]+ = ("[@\w.-]+"(?:, "[@\w.-]+")*)  ?#?|^[A-Z]+ = ("[@\w.-]+")$', re.MULTILINE)
    for room in ("state/*.py", "runner/notifier.py", "runner/companion.py", "runner/hooks.py", "view/log.py"):
        for path in (ROOT / "supervisor/seqsup").glob(room):
            for match in named.finditer(path.read_text()):
                for name in re.findall(r'"(@\w+|[\w-]+\.\w+)"', match[0]):
                    assert name in page, f"{path.name}: {name}"


@pytest.mark.parametrize("document", FOR_CONTRIBUTORS, ids=str)
def test_every_path_in_documents_for_contributors_exists(document: Path) -> None:
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", (ROOT / document).read_text()):
        assert any((base / path).exists() for base in (ROOT, ROOT / "supervisor/seqsup")), path


def test_the_design_names_the_layers_in_their_order() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [name for layer in contract["layers"] for name in re.findall(r"\w+", layer) if name != "__main__"]
    _, _, table = (ROOT / "supervisor/DESIGN.md").read_text().partition("| folder | owns | does not know |\n")
    rows = [line.split(" | ")[0] for line in table.partition("\n\n")[0].splitlines()[1:]]
    assert [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row)] == layers


def test_each_dependency_has_a_reason() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    _, _, table = (ROOT / "docs/contributing/dependencies.md").read_text().partition("| runtime dependency | why |\n")
    reasons = re.findall(r"^\| ([a-z][a-z0-9-]*) \| \S", table, re.MULTILINE)
    assert sorted(reasons) == sorted(re.match(r"[\w-]+", package)[0] for package in packages)  # type: ignore[index]


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    """A | divides cells in `code` too, unless it is escaped."""
    for document in DOCUMENTS:
        prose = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
        for table in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE):
            head, *rows = [re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()]
            assert set(rows) == {head}, f"{document}: {table}"


def test_the_readme_begins_with_two_verbs_of_the_folder() -> None:
    assert re.findall(r"^python3 supervisor (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE) == ["demo", "test"]


def test_every_verb_in_the_documents_exists() -> None:
    for text in ((ROOT / document).read_text() for document in DOCUMENTS):
        assert set(re.findall(r"(?:^|`)python3 supervisor ([\w-]+)", text, re.MULTILINE)) <= VERBS
        assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)) <= TARGETS


def test_readme_fits_on_one_screen() -> None:
    """Rendered lines: a paragraph of links is one line, and so is a code line."""
    text = re.sub(r"^```.*\n|<!--.*-->\n", "", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(re.sub(r"(?<=·)\n", " ", text).splitlines()) <= 50


def test_page_on_pypi_makes_sense_without_a_clone() -> None:
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
    page = runpy.run_path(str(ROOT / "setup.py"))["page"]((ROOT / "README.md").read_text(), repository, "1.2.3")
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert [target for target in targets if not target.startswith("https://")] == []
    ours = [target.partition("/1.2.3/")[2].partition("#")[0] for target in targets if "/1.2.3/" in target]
    assert len(ours) > 15
    assert all((ROOT / path).is_file() for path in ours)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page)
    assert len(pictures) == 1
    assert all(picture.startswith("https://raw.githubusercontent.com/seqsup/seqsup/1.2.3/") for picture in pictures)
    assert "python3 supervisor" not in page
    assert "make check" not in page
    assert set(re.findall(r"install '?([^\s'`]+)", page)) >= {"seqsup", "seqsup[node]"}
    assert not re.search(r"install '?\.", page)


# -- pictures of a terminal: whether they show what the code prints today, as far as no run is needed


@pytest.mark.parametrize("name", ["plan", "live", "table"])
def test_picture_has_only_words_that_the_code_or_its_run_has(name: str) -> None:
    files = [*(ROOT / "supervisor/seqsup").rglob("*.py"), *(ROOT / "supervisor/seqsup").rglob("*.toml")]
    files += [ROOT / "grafana/preview/run.toml", ROOT / "grafana/preview/agent.mjs"]
    known = set(re.findall(r"[a-z]{4,}", " ".join(file.read_text() for file in files)))
    shown = [word for word in " ".join(_shown(name)).split() if "/" not in word]
    stale = {part for word in shown for part in re.findall(r"[a-z]{4,}", word)} - known
    assert stale == set(), REMAKE


def test_picture_of_the_table_has_the_columns_and_agents_of_today() -> None:
    lines = _shown("table")
    agents = [agent.name for agent in parse((ROOT / "grafana/preview/run.toml").read_text(), "run.toml").agents]
    head = next(line for line in lines if line.split()[:1] == ["agent"])
    titles = [column.title for column in COLUMNS if column.title not in ("turns", "cost")]  # its agents have no stream
    assert re.split(r"  +", head.strip()) == titles, "python3 supervisor pictures terminal"
    begin = lines.index(head) + 1  # below the table are the agents' results
    rows = {line.split()[0]: line for line in lines[begin : begin + len(agents)]}
    assert list(rows) == agents
    assert {reason for row in rows.values() for reason in row.split() if reason in set(Reason)} > {Reason.COMPLETED}


def _shown(name: str) -> list[str]:
    """The lines of a picture, as they stand in the terminal."""
    cell, lines = 8.4, dict[str, str]()
    text = r'<text x="([\d.]+)" y="(\d+)"[^>]*>([^<]*)</text>'
    for x, y, piece in re.findall(text, (ROOT / f"docs/pictures/{name}.svg").read_text()):
        lines[y] = lines.get(y, "").ljust(round((float(x) - 16) / cell)) + unescape(piece)
    return list(lines.values())


def test_npx_names_a_version_in_documents_and_profiles() -> None:
    """Without one, the publisher of the next version runs code beside a user's agents."""
    profiles = [*ROOT.glob("profiles/*"), *ROOT.glob("tests/data/*"), *ROOT.glob("supervisor/seqsup/model/presets/*")]
    files = [*map(ROOT.joinpath, DOCUMENTS), *(path for path in profiles if path.is_file())]
    command = re.compile(r"""npx["', ]+(?:-y|--yes)["', ]+([^"'`\s]+)""")
    packages = [(path.name, package) for path in files for package in command.findall(path.read_text())]
    assert packages
    assert [each for each in packages if not re.fullmatch(r"@?[^@]+@\d[\w.-]*", each[1])] == []


def test_make_has_every_verb() -> None:
    assert TARGETS == VERBS
