"""Makes the pictures of README and docs: `python3 supervisor pictures`, some ten minutes.

    python docs/pictures.py [terminal] [fleet] [dashboard]

`terminal` runs grafana/preview/run.toml in a real terminal (tmux). It draws the plan, the live view of a leaking agent,
the final table, and the page of the report if there is a headless Chromium. `fleet` shows
what fleet-demo prints. `dashboard` runs grafana/preview/make.py.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PREVIEW, PICTURES = ROOT / "grafana/preview", ROOT / "docs/pictures"
sys.path.insert(0, str(PREVIEW))

from photograph import browser, photograph  # noqa: E402

WIDTH, HEIGHT = 100, 40  # characters
SHOWN, LIB = "/home/me/agents", "/home/me/lib"  # in place of the temporary folder, and of this checkout
ABOVE_VIEW = 6  # lines of the log
REPORT = (1100, 900)  # pixels
CELL_W, CELL_H, EDGE = 8.4, 18, 16  # pixels
PAPER, INK, FAINT = "#11151c", "#d3d7de", "#7d8590"
COLOURS = {31: "#ff7b72", 32: "#56d364", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea"}
LEAKS = re.compile(r"▶ embed\b.*attempt 2[^▶]*?\b[678]\d %")


def main(wanted: list[str]) -> None:
    kinds = {"terminal": terminal, "fleet": fleet, "dashboard": dashboard}
    if unknown := set(wanted) - set(kinds):
        sys.exit(f"no picture {', '.join(unknown)}: choose from {', '.join(kinds)}")
    PICTURES.mkdir(exist_ok=True)
    for kind in wanted or kinds:
        kinds[kind]()


def dashboard() -> None:
    subprocess.run([sys.executable, str(PREVIEW / "make.py")], check=True)


def terminal() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("run.toml", "agent.mjs"):
            shutil.copy(PREVIEW / file, folder)
        env = {**os.environ, "SEQSUP_STATE_DIR": str(folder / "state"), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        for variable in ("CI", "NO_COLOR", "TMUX"):
            env.pop(variable, None)
        (plan,) = screens(folder, env, "plan run.toml", ended)
        draw("plan", "seqsup plan", [line.replace(name, SHOWN).replace(str(ROOT / "supervisor"), LIB) for line in plan])
        live, end = screens(folder, env, "start run.toml", leaks, ended)
        rule = next(n for n, line in enumerate(live) if "───" in line)
        draw("live", "seqsup start: the live view while an agent leaks", live[max(0, rule - ABOVE_VIEW) :])
        first = next(n for n, line in enumerate(end) if "highest peak" in line)
        draw("table", "seqsup start: the table at the end", end[first:])
        photograph_report(folder, env)


def fleet() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "supervisor/fleet_demo.py")], capture_output=True, text=True, check=True
    )  # fmt: skip
    lines = ran.stdout.splitlines()
    killed = next(n for n, line in enumerate(lines) if "kill -9" in line)
    header = next(n for n, line in enumerate(lines) if "accepted results" in line)
    again = next(n for n, line in enumerate(lines) if ", then" in line)
    table = [lines[header], "   …", *lines[again - 2 : again + 3], "   …", *lines[-4:]]
    draw("fleet", "python3 supervisor fleet-demo", [*lines[: killed + 5], " …", *table])


def photograph_report(folder: Path, env: dict[str, str]) -> None:
    page = folder / "report.html"
    subprocess.run([sys.executable, "-m", "seqsup", "report", "-o", str(page)], cwd=folder, env=env, check=True)
    page.write_text(page.read_text().replace(str(folder), SHOWN))
    if browser() is None:
        sys.stderr.write("no chromium: report.png stays as it is; tests/system/browser/install gets one\n")
        return
    photograph(page.as_uri(), *REPORT, PICTURES / "report.png")


def draw(name: str, title: str, lines: list[str]) -> None:
    (PICTURES / f"{name}.svg").write_text("\n".join(svg(title, lines)) + "\n")


# -- a terminal


class Terminal:
    """A window of tmux in which one command of seqsup runs; the file `over` appears when it has exited.

    Each has a server of its own: one that is ending takes no new window.
    """

    def __init__(self, folder: Path, env: dict[str, str], command: str) -> None:
        self.over = folder / "over"
        self.over.unlink(missing_ok=True)
        self._tmux, self._env = ("tmux", "-S", str(folder / command.split()[0]), "-f", "/dev/null"), env
        size = ("-x", str(WIDTH), "-y", str(HEIGHT), "-c", str(folder))
        self.call("new-session", "-d", *size, f"{sys.executable} -m seqsup {command}; touch {self.over}; cat")
        self.call("set", "-g", "status", "off")

    def call(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], env=self._env, capture_output=True, text=True, check=True).stdout

    def lines(self) -> list[str]:
        """Return all lines with their colours, also those that have scrolled away."""
        return self.call("capture-pane", "-peS", "-").rstrip("\n").splitlines()


def ended(window: Terminal) -> bool:
    return window.over.exists()


def leaks(window: Terminal) -> bool:
    return LEAKS.search(window.call("capture-pane", "-p")) is not None


def screens(folder: Path, env: dict[str, str], command: str, *facts: Callable[[Terminal], bool]) -> Iterator[list[str]]:
    """Yield the terminal's lines each time that the next fact has come true."""
    window = Terminal(folder, env, command)
    try:
        for fact in facts:
            while not fact(window):
                time.sleep(0.1)
            yield window.lines()
    finally:
        window.call("kill-server")


# -- drawn


def svg(title: str, lines: list[str]) -> Iterator[str]:
    """Yield the lines of an SVG file. Each text line has its colours as escape sequences."""
    width, height = WIDTH * CELL_W + 2 * EDGE, len(lines) * CELL_H + 2 * EDGE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
    yield ' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">'
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>'
    for row, line in enumerate(lines):
        y = EDGE + row * CELL_H
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
    main(sys.argv[1:])
