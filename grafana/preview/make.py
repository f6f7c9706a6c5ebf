"""Draws the dashboard: `python3 supervisor pictures dashboard`. A real run of some four minutes, a real Prometheus,
Grafana's own components (npm: @grafana/ui) in a headless Chromium. Writes grafana/dashboard.png, and its first screen.

    python grafana/preview/make.py [again]      again: draws the last run once more, as after a change of the dashboard
"""

import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from photograph import photograph
from record import HERE, ROOT, Json, answers, prometheus, record

PAGE = HERE / "page"
WORK = ROOT / "build" / "dashboard-preview"
WHOLE, TOP = ROOT / "grafana" / "dashboard.png", ROOT / "grafana" / "dashboard-top.png"
WIDTH, HEAD, LINE = 1600, 44, 38  # pixels, as in page/main.jsx
FIRST_SCREEN = 24  # lines
LOADERS = ("--loader:.svg=dataurl", "--loader:.woff2=dataurl", "--loader:.woff=empty", "--loader:.ttf=empty")


def main(arguments: list[str]) -> None:
    shown = json.loads((ROOT / "grafana/dashboards/seqsup-memory.json").read_text())
    run, site = WORK / "run", WORK / "site"
    if "again" not in arguments:
        shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    built(site)
    (site / "dashboard.json").write_text(json.dumps(shown))
    data = asked_again(run, shown) if "again" in arguments else record(run, shown)
    (run / "data.json").write_text(json.dumps(data))
    shutil.copy(run / "data.json", site)
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown["panels"])
    with served(site) as url:
        photograph(url, WIDTH, HEAD + lines * LINE, WORK / "picture.png")
    call("node", "shrink.mjs", WORK / "picture.png", WHOLE, TOP, HEAD + FIRST_SCREEN * LINE)


def asked_again(run: Path, shown: Json) -> Json:
    before = json.loads((run / "data.json").read_text())
    with prometheus(run) as server:
        return answers(server, shown, before["from"], before["to"])


def built(site: Path) -> None:
    """The page with all that it imports, in one script."""
    pinned = (PAGE / "package.json").read_text()
    if not (WORK / "package.json").exists() or (WORK / "package.json").read_text() != pinned:
        shutil.copy(PAGE / "package.json", WORK)
        call("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
    for file in PAGE.iterdir():
        shutil.copy(file, WORK)
    defined = '--define:process.env.NODE_ENV="production"'
    bundled = ("--bundle", "--format=esm", "--jsx=automatic", f"--outfile={site / 'main.js'}", "--log-level=error")
    call(WORK / "node_modules/.bin/esbuild", "main.jsx", *bundled, defined, *LOADERS)
    shutil.copy(PAGE / "index.html", site)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def call(*command: object) -> None:
    subprocess.run([*map(str, command)], cwd=WORK, stdin=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
