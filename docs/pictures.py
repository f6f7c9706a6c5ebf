"""Draws terminal.svg, README's picture of a terminal: `python docs/terminal.py`, some five minutes. A real run of
grafana/preview/run.toml in a real terminal (tmux), as it looked while an agent leaked, and at its end."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 100, 40  # characters
ABOVE_VIEW = 9  # lines of the log
CELL_W, CELL_H, EDGE = 8.4, 18, 16  # pixels
PAPER, INK, FAINT = "#11151c", "#d3d7de", "#7d8590"
COLOURS = {31: "#ff7b72", 32: "#56d364", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea"}
LEAKS = re.compile(r"▶ embed  attempt 2.*\n mem .* (?:6|7|8)\d %")
OVER = re.compile(r"^next: ", re.MULTILINE)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        view, end = session(Path(folder))
    (Path(__file__).parent / "terminal.svg").write_text("\n".join(svg(cut(view, end))) + "\n")


def cut(view: list[str], end: list[str]) -> list[str | None]:
    """The last of the log and the view; the table."""
    rule = next(n for n, line in enumerate(view) if "───" in line)
    first = next(
        n for n, line in enumerate(end) if " completed" in line and " gave up" in line and "highest peak" in line
    )
    return [*view[max(0, rule - ABOVE_VIEW) :], None, *end[first:]]


def session(folder: Path) -> tuple[list[str], list[str]]:
    """Record the terminal while the agent leaked, and at the end."""
    tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
    env = {**os.environ, "SEQSUP_STATE_DIR": str(folder / "state"), "LC_ALL": "C.UTF-8"}
    for name in ("CI", "NO_COLOR", "TMUX"):
        env.pop(name, None)

    def call(*words: str) -> str:
        return subprocess.run([*tmux, *words], env=env, capture_output=True, text=True, check=True).stdout

    def when(seen: re.Pattern[str]) -> list[str]:
        while not seen.search(call("capture-pane", "-p")):
            time.sleep(0.1)
        return call("capture-pane", "-pe").rstrip("\n").splitlines()

    command = f"{sys.executable} -m seqsup start run.toml; cat"
    size = ("-x", str(WIDTH), "-y", str(HEIGHT))
    call("new-session", "-d", *size, "-c", str(ROOT / "grafana/preview"), command)
    try:
        call("set", "-g", "status", "off")
        return when(LEAKS), when(OVER)
    finally:
        call("kill-server")


# -- drawn


def svg(lines: list[str | None]) -> Iterator[str]:
    """Each line is a text; None is a rule between two pictures of the same terminal."""
    width, height = WIDTH * CELL_W + 2 * EDGE, len(lines) * CELL_H + 2 * EDGE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
    yield ' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">'
    yield "<title>seqsup start: the live view while an agent leaks, and the table at the end</title>"
    yield f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>'
    for row, line in enumerate(lines):
        y = EDGE + row * CELL_H
        if line is None:
            yield f'<path d="M0 {y + CELL_H // 2}H{width:.0f}" stroke="{FAINT}" stroke-dasharray="3 5"/>'
            continue
        for column, text, style in pieces(line):
            x, length = EDGE + column * CELL_W, len(text) * CELL_W
            yield f'<text x="{x:.1f}" y="{y + 13}" textLength="{length:.1f}" {style}>{escape(text, quote=False)}</text>'
    yield "</svg>"


def pieces(line: str) -> Iterator[tuple[int, str, str]]:
    """Split a line into words with their column and look. Symbols differ in width, so each is a piece of its own."""
    column, look = 0, dict[str, str]()
    for codes, text in re.findall(r"\x1b\[([\d;]*)m|([^\x1b]+)", line):
        if not text:
            look = styled(look, [int(code or 0) for code in codes.split(";")])
            continue
        for word in re.finditer(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*|[^\x20-\x7e]", text):
            style = " ".join(f'{key}="{value}"' for key, value in {"fill": INK, **look}.items())
            yield column + word.start(), word[0], style
        column += len(text)


def styled(look: dict[str, str], codes: list[int]) -> dict[str, str]:
    for code in codes:
        if code == 0:
            look = {}
        elif code == 1:
            look = {**look, "font-weight": "bold"}
        elif code == 2:
            look = {**look, "fill": FAINT}
        elif code == 39:
            look = {key: value for key, value in look.items() if key != "fill"}
        elif code in COLOURS:
            look = {**look, "fill": COLOURS[code]}
    return look


if __name__ == "__main__":
    main()
