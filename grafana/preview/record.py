"""One real run under a real Prometheus, and what the dashboard's queries answer about it: the data of the picture."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.monitoring import Server, free_port  # noqa: E402
from helpers.monitoring import prometheus as prometheus  # noqa: E402

SCRAPE = 1  # seconds
BEFORE_ITS_END = 4  # seconds: the picture is taken while the last agent runs

Json = dict[str, Any]


def record(folder: Path, shown: Json) -> Json:
    """Run run.toml, some four minutes, and ask what `shown`, the dashboard, asks."""
    listen = f"127.0.0.1:{free_port()}"
    jobs = f"[{{job_name: seqsup, scrape_interval: {SCRAPE}s, static_configs: [{{targets: ['{listen}']}}]}}]"
    env = {**os.environ, "SEQSUP_METRICS_LISTEN": listen, "SEQSUP_STATE_DIR": str(folder / "state")}
    with prometheus(folder, f"scrape_configs: {jobs}\n") as server:
        begun = time.time()
        subprocess.run([sys.executable, "-m", "seqsup", "start", HERE / "run.toml"], env=env, check=False)
        ran = server.query_range("seqsup_agent_tree_rss_bytes", begun, time.time(), SCRAPE)
        now = max(float(series["values"][-1][0]) for series in ran) - BEFORE_ITS_END
        return answers(server, shown, begun, now)


def answers(server: Server, shown: Json, begun: float, now: float) -> Json:
    panels, marks = _panels(server, shown, begun, now), _marks(server, shown, begun, now)
    return {"from": begun, "to": now, "step": SCRAPE, "panels": list(panels), "marks": list(marks)}


def _panels(server: Server, shown: Json, begun: float, now: float) -> Iterator[list[Json]]:
    """Yield each panel with the answers to its queries."""
    for panel in shown["panels"]:
        answered = []
        for target in panel.get("targets", []):
            expr = _filled(target["expr"], now - begun)
            if target.get("instant"):
                found = [{**one, "values": [one["value"]]} for one in server.query(expr, now)]
            else:
                found = server.query_range(expr, begun, now, SCRAPE)
            answered.append({
                "refId": target["refId"], "format": target.get("format"), "legend": target.get("legendFormat", ""),
                "series": [{"metric": one["metric"], "values": one["values"]} for one in found],
            })  # fmt: skip
        yield answered


def _marks(server: Server, shown: Json, begun: float, now: float) -> Iterator[Json]:
    """The moments of the annotations that are on: each value is one."""
    for each in shown["annotations"]["list"]:
        if each["enable"]:
            found = server.query_range(_filled(each["target"]["expr"], now - begun), begun, now, SCRAPE)
            times = {float(value) for series in found for _, value in series["values"]}
            yield {
                "colour": each["iconColor"],
                "panels": each["filter"]["ids"],
                "times": sorted(t for t in times if begun * 1000 < t < now * 1000),
            }


def _filled(expr: str, seconds: float) -> str:
    """With Grafana's variables filled in: everything is chosen."""
    for name, value in {"$__range": f"{seconds:.0f}s", "$__rate_interval": f"{4 * SCRAPE}s"}.items():
        expr = expr.replace(name, value)
    return re.sub(r'"\$\w+"', '".+"', expr)
