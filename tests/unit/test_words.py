"""Plain English: no text of the repository has a word that docs/contributing/words.md lists."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator

import pytest

from helpers.paths import ROOT

PAGE = "docs/contributing/words.md"
SHOWS_WRONG_WORDS = {PAGE, "docs/contributing/style.md"}
OF_OTHERS = re.compile(r"LICENSE|tests/(data|snapshots)/|.*\.(svg|png|json|jsonl|css|html|j2)$")
COMMENT = re.compile(r"(?:^|\s)(?:#|//|\.\\\")\s.*")
FSTRING_MIDDLE = getattr(tokenize, "FSTRING_MIDDLE", -1)  # since Python 3.12


def _table(heading: str) -> list[tuple[list[str], str]]:
    """Read the rows below a heading of the first column: phrases, and the second cell."""
    _, _, rows = (ROOT / PAGE).read_text().partition(f"| {heading} |")
    lines = rows.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(phrases.split(", "), second) for phrases, second in cells]


def _any_of(phrases: list[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b", re.IGNORECASE)


AVOID = [(_any_of(phrases), better) for phrases, better in _table("avoid")]
ALL = _any_of([phrase for phrases, _ in _table("avoid") for phrase in phrases])
ALLOWED = _any_of([phrase for phrases, _ in _table("allowed") for phrase in phrases])


def texts(file: str, content: str) -> Iterator[tuple[int, str]]:
    """Yield what a file says, with line numbers."""
    if file.endswith(".py"):
        yield from _python(content, shown=file.startswith(("supervisor/", "docs/", "grafana/")))
    elif file.endswith(".md"):
        yield from _prose(content)
    else:
        for number, line in enumerate(content.splitlines(), 1):
            if found := COMMENT.search(line):
                yield number, found[0]


def _prose(content: str) -> Iterator[tuple[int, str]]:
    code = False
    for number, line in enumerate(content.splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        if not code:
            yield number, re.sub(r"`[^`]*`", "`", line)


def _python(content: str, *, shown: bool) -> Iterator[tuple[int, str]]:
    """Yield comments, docstrings and names of tests; with `shown` all strings of several words."""
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(content))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    }
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        text = token.string
        if token.type == tokenize.NAME and text.startswith("test_"):
            yield token.start[0], text.replace("_", " ")
        elif token.type == tokenize.COMMENT or (
            token.type in (tokenize.STRING, FSTRING_MIDDLE)
            and (token.start[0] in docstrings or (shown and " " in text.strip()))
        ):
            yield from enumerate(text.splitlines(), token.start[0])


def wrong(file: str, content: str) -> list[str]:
    """Return each wrong word with its place and a better one."""
    if not ALL.search(content.replace("_", " ")):
        return []
    return [
        f"{file}:{number}: {found[0]!r}; write: {better}"
        for number, text in texts(file, content)
        if ALL.search(text)
        for pattern, better in AVOID
        for found in pattern.finditer(ALLOWED.sub("", text))
    ]


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("a.py", "x = 1  # goes on\n", ["a.py:1: 'goes on'; write: continues, resumes, is active, still runs"]),
        ("a.py", "def test_it_begun(): ...\n", ["a.py:1: 'begun'; write: started"]),
        ("a.py", 'x = "begun"\n', []),
        ("supervisor/a.py", 'x = (\n"has begun")\n', ["supervisor/a.py:2: 'begun'; write: started"]),
        ("a.md", "one\nLest\n", ["a.md:2: 'Lest'; write: so that … not, or"]),
        ("a.md", "```\nlest\n```\n`lest`\n", []),
        ("a.md", "A user who reads, and a process that runs as the user nobody.\n", []),
        ("a.sh", "anew=1\n# begun\n", ["a.sh:2: 'begun'; write: started"]),
    ],
)  # fmt: skip
def test_wrong_word_is_reported_with_its_line_and_a_better_one(file: str, content: str, found: list[str]) -> None:
    assert wrong(file, content) == found


def test_texts_have_no_word_to_avoid() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git repository")
    files = [file for file in listed.stdout.splitlines() if (ROOT / file).is_file()]
    found = []
    for file in files:
        if file not in SHOWS_WRONG_WORDS and not OF_OTHERS.match(file):
            found += wrong(file, (ROOT / file).read_text())
    if found:
        pytest.fail("\n".join([f"{len(found)} words to avoid ({PAGE}):", *found]), pytrace=False)
