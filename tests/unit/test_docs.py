"""The documents that follow from the code do; the others lead somewhere."""

import re
import runpy
from typing import Any

import pytest

from helpers.paths import ROOT

MAKE: dict[str, Any] = runpy.run_path(str(ROOT / "docs/make.py"))
MADE: dict[str, str] = MAKE["documents"]()


@pytest.mark.parametrize("path", MADE)
def test_what_is_made_from_the_code_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == MADE[path], "python docs/make.py"


def test_every_document_has_a_title_and_leads_somewhere() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        text = document.read_text()
        assert re.search(r"^# \w", text, re.MULTILINE), document
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    """A | divides cells in `code` too, unless it is escaped."""
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for table in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE):
            head, *rows = [re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()]
            assert set(rows) == {head}, f"{document.name}: {table}"
