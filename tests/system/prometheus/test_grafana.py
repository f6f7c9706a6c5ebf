"""grafana/: the dashboard is up to date and free of mistakes, seeded mistakes are found, and alerts fire when they
should. On a real run each query has an answer.
"""

import copy
import json
import platform
import re
import runpy
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.command_line import Result, Started
from helpers.dashboards import faults, names, panels, plain, queries
from helpers.monitoring import Server, free_port, prometheus, promtool
from helpers.npm import package
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write
from helpers.waiting import wait_for
from seqsup import __version__
from seqsup.metrics.catalogue import METRICS, OF_QUEUE, full_name

GRAFANA = ROOT / "grafana"
MADE = runpy.run_path(str(GRAFANA / "make.py"))
Json = dict[str, Any]


@pytest.fixture(scope="module")
def board() -> Json:
    return read("seqsup-memory.json")


@pytest.fixture(scope="module")
def fleet() -> Json:
    return read("seqsup-fleet.json")


def read(name: str) -> Json:
    made: Json = json.loads((GRAFANA / "dashboards" / name).read_text())
    return made


def test_the_dashboards_are_what_their_program_makes() -> None:
    written = {file.name: file.read_text() for file in (GRAFANA / "dashboards").iterdir()}
    assert written == MADE["texts"](), "python grafana/make.py"


@pytest.mark.parametrize("name", MADE["texts"]())
def test_the_dashboard_has_no_fault(name: str) -> None:
    assert faults(read(name)) == []


def test_every_metric_of_worker_and_queue_is_on_the_dashboard(fleet: Json) -> None:
    shown = {name for _, expr in queries(fleet) for name in names(expr)}
    assert {full_name(metric) for metric in OF_QUEUE} <= shown


def test_every_metric_of_the_running_agent_has_a_panel(board: Json) -> None:
    shown = {name for _, expr in queries(board) for name in names(expr)}
    assert {"seqsup_agent_tree_rss_bytes", "seqsup_agent_process_rss_bytes", "seqsup_phase"} <= shown
    assert len([panel for panel in panels(board) if panel["type"] != "row"]) == 26


# -- seeded faults


def _panel(made: Json, title: str) -> Json:
    return next(panel for panel in made["panels"] if panel["title"] == title and panel["type"] != "row")


def _set(panel: str, *path: Any, value: Any) -> Callable[[Json], None]:
    def change(made: Json) -> None:
        at: Any = _panel(made, panel)
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def _rename(panel: str, *path: Any, to: str) -> Callable[[Json], None]:
    def change(made: Json) -> None:
        at: Any = _panel(made, panel)
        for key in path[:-1]:
            at = at[key]
        at[to] = at.pop(path[-1])

    return change


TREE, USED, PEAKS = "Memory by agent", "Used of limit", "Peak memory, of memory.hard"
SEEDED: dict[str, Callable[[Json], None]] = {
    "exprr": _rename(TREE, "targets", 0, "expr", to="exprr"),
    "unit byte": _set(TREE, "fieldConfig", "defaults", "unit", value="byte"),
    "type timeserie": _set(TREE, "type", value="timeserie"),
    "lineWidht": _rename(TREE, "fieldConfig", "defaults", "custom", "lineWidth", to="lineWidht"),
    "gridPos.w is text": _set(TREE, "gridPos", "w", value="12"),
    "no schemaVersion": lambda made: made.pop("schemaVersion"),
    "titel": _rename(TREE, "title", to="titel"),
    "duplicate id": _set(USED, "id", value=1),
    "overlap": _set(USED, "gridPos", "x", value=4),
    "fixed datasource": _set(USED, "datasource", "uid", value="prometheus"),
    "duplicate refId": _set(TREE, "targets", 1, "refId", value="A"),
    "syntax": _set(TREE, "targets", 0, "expr", value='sum(seqsup_phase{job=~"$job",instance=~"$instance"}'),
    "unknown metric": _set(
        TREE, "targets", 0, "expr", value='seqsup_agent_rss_bytes{job=~"$job",instance=~"$instance"}'
    ),
    "no matchers": _set(TREE, "targets", 0, "expr", value="sum(seqsup_agent_tree_rss_bytes{})"),
    "bare counter": _set(
        "Kills", "targets", 0, "expr", value='seqsup_agent_kills_total{job=~"$job",instance=~"$instance"}'
    ),
    "rate of an instant": _set(
        "Kills", "targets", 0, "expr", value='rate(seqsup_agent_kills_total{job=~"$job",instance=~"$instance"})'
    ),
    "a range behind a gauge": _set(USED, "targets", 0, "instant", value=False),
    "no description": _set(TREE, "description", value=""),
    "a label that the metric has not": _set(
        TREE, "targets", 0, "expr",
        value='seqsup_agent_tree_rss_bytes{job=~"$job",instance=~"$instance",agnet=~"$agent"}',
    ),
    "summed by a label that nothing has": _set(
        TREE, "targets", 0, "expr",
        value='max by (agents) (seqsup_agent_tree_rss_bytes{job=~"$job",instance=~"$instance"})',
    ),
    "a legend of a label that nothing has": _set(TREE, "targets", 0, "legendFormat", value="{{name}}"),
    "a variable that is none": _set(
        TREE, "targets", 0, "expr",
        value='seqsup_agent_tree_rss_bytes{job=~"$job",instance=~"$instance",agent=~"$agents"}',
    ),
    "no variable for the data source": lambda made: made["templating"]["list"].pop(0),
    "seconds for bytes": _set(TREE, "fieldConfig", "defaults", "unit", value="s"),
    "an override of nothing": _set(TREE, "fieldConfig", "overrides", 0, "matcher", "options", value="limits"),
    "a column that no query fills": _rename(
        "Agents", "transformations", 1, "options", "renameByName", "Value #A", to="Value #Z"
    ),
    "a fixed datasource of a query": _set(TREE, "targets", 0, "datasource", "uid", value="prometheus"),
    "beyond the grid": _set(TREE, "gridPos", "w", value=25),
    "no panel for a mark": lambda made: made["annotations"]["list"][0]["target"].pop("expr"),
}  # fmt: skip
# Only Grafana's own types know these
FOR_TYPES: dict[str, Callable[[Json], None]] = {
    "legend in the middle": _set(TREE, "options", "legend", "placement", value="middle"),
    "threshold mode abs": _set(USED, "fieldConfig", "defaults", "thresholds", "mode", value="abs"),
    "display mode lcdd": _set(PEAKS, "options", "displayMode", value="lcdd"),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_fault_is_found(name: str, board: Json) -> None:
    made = copy.deepcopy(board)
    SEEDED[name](made)
    assert made != board
    assert faults(made) != []


IN_FLEET: dict[str, Callable[[Json], None]] = {
    "no queue": _set(
        "Oldest wait", "targets", 0, "expr",
        value='max(seqsup_queue_oldest_wait_seconds{job=~"$job",instance=~"$instance",profile=~"$queue"})',
    ),
    "a worker of the queue": _set(
        "Oldest wait", "targets", 0, "expr",
        value='max by (worker) (seqsup_queue_oldest_wait_seconds{job=~"$job",instance=~"$instance"})',
    ),
    "bare counter": _set(
        "Done", "targets", 0, "expr", value='seqsup_worker_jobs_ended_total{job=~"$job",instance=~"$instance"}'
    ),
    "a column that no query fills": _rename(
        "Workers in this time", "transformations", 1, "options", "renameByName", "Value #A", to="Value #Z"
    ),
    "an override of nothing": _set("Slots", "fieldConfig", "overrides", 0, "matcher", "options", value="slot"),
    "overlap": _set("Oldest wait", "gridPos", "x", value=1),
    "bytes for seconds": _set("Oldest wait", "fieldConfig", "defaults", "unit", value="bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_FLEET)
def test_a_seeded_fault_is_found_in_the_dashboard_of_a_fleet(name: str, fleet: Json) -> None:
    made = copy.deepcopy(fleet)
    IN_FLEET[name](made)
    assert made != fleet
    assert faults(made) != []


# -- Grafana's own types (npm: @grafana/schema)

_CHECK = """
import type {{ Dashboard, Panel, RowPanel }} from '@grafana/schema';
{imports}
type Plain<T> = T extends string ? (string extends T ? string : `${{T}}`)
  : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;
type Typed<O, F> = Plain<Omit<Panel, 'options' | 'fieldConfig'> & {{
  options: Partial<O>; // what a newer panel has besides, Grafana fills in
  fieldConfig: {{
    defaults: Omit<NonNullable<Panel['fieldConfig']>['defaults'], 'custom'> & {{ custom?: Partial<F> }};
    overrides: NonNullable<Panel['fieldConfig']>['overrides'];
  }};
}}>;
{constants}
"""
_CONFIG = {
    "compilerOptions": {
        "strict": True, "noEmit": True, "skipLibCheck": True, "module": "esnext", "moduleResolution": "bundler",
        "target": "es2022", "types": [],
    },
    "files": ["check.ts"],
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(600)
def test_grafanas_own_types_take_the_dashboards_and_refuse_what_is_wrong(
    board: Json, fleet: Json, tmp_path: Path
) -> None:
    assert _type_errors(board, tmp_path) == ""
    assert _type_errors(fleet, tmp_path) == ""
    for name, seed in {**FOR_TYPES, "lineWidht": SEEDED["lineWidht"], "titel": SEEDED["titel"]}.items():
        made = copy.deepcopy(board)
        seed(made)
        assert _type_errors(made, tmp_path) != "", name


def _type_errors(made: Json, folder: Path) -> str:
    """Return the messages of tsc about the dashboard, written as typed constants."""
    schema, tsc = package("@grafana/schema", "13.2.3"), package("typescript", "5.9.3") / "bin" / "tsc"
    constants, imports = [], {}
    for n, panel in enumerate(made["panels"]):
        kind = panel["type"].replace("-", "")
        if kind == "row":
            constants.append(f"const p{n}: Plain<RowPanel> = {json.dumps(panel)};")
            continue
        types = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{NAMES[kind]}PanelCfg_types.gen"
        imports[kind] = f"import type * as {kind} from '{types}';"
        custom = f"{kind}.FieldConfig" if kind in ("timeseries", "statetimeline", "table") else "Record<string, never>"
        constants.append(f"const p{n}: Typed<{kind}.Options, {custom}> = {json.dumps(panel)};")
    rest = {key: value for key, value in made.items() if key not in ("panels", "annotations")}
    constants.append(f"const rest: Plain<Omit<Dashboard, 'panels' | 'annotations'>> = {json.dumps(rest)};")
    (folder / "check.ts").write_text(_CHECK.format(imports="\n".join(imports.values()), constants="\n".join(constants)))
    (folder / "tsconfig.json").write_text(json.dumps(_CONFIG))
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(schema.parent.parent)
    done = subprocess.run(["node", tsc, "-p", folder], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


NAMES = {
    "timeseries": "TimeSeries", "stat": "Stat", "gauge": "Gauge", "bargauge": "BarGauge", "table": "Table",
    "statetimeline": "StateTimeline",
}  # fmt: skip


# -- files beside it


def test_prometheus_takes_its_files_and_the_alerts_fire_when_they_should() -> None:
    folder = GRAFANA / "prometheus"
    promtool("check", "config", folder / "prometheus.yml")
    promtool("test", "rules", folder / "seqsup.rules.test.yml")


def test_the_alerts_ask_for_metrics_that_exist_and_each_is_tested() -> None:
    folder = GRAFANA / "prometheus"
    groups = yaml.safe_load((folder / "seqsup.rules.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    known = {full_name(metric) for metric in (*METRICS, *OF_QUEUE)} | {"seqsup_drain_duration_seconds_count"}
    tests = (folder / "seqsup.rules.test.yml").read_text()
    for rule in rules:
        words = {word for word in _words(rule["expr"]) if word.startswith("seqsup_")}
        assert words
        assert words <= known, rule["alert"]
        assert tests.count(f"alertname: {rule['alert']}") >= 1


def _words(expr: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in expr).split()


def test_preview_draws_every_kind_of_panel_and_its_run_is_well_formed(
    board: Json, seqsup: Callable[..., Result]
) -> None:
    page = (GRAFANA / "preview/page/main.jsx").read_text()
    drawn = set(re.findall(r'^  "?([a-z-]+)"?: \(\{', page, re.MULTILINE))
    assert {panel["type"] for panel in panels(board)} - {"row"} == drawn
    assert "10 agents, one at a time" in seqsup("plan", GRAFANA / "preview/run.toml").stdout
    pictures = re.findall(r"\]\((\S+\.png)\)", (GRAFANA / "README.md").read_text())
    assert pictures
    assert all((GRAFANA / name).stat().st_size < 400_000 for name in pictures)


def test_the_files_fit_together() -> None:
    """Grafana finds dashboards and Prometheus where compose puts them, and that one scrapes the default port."""
    compose = yaml.safe_load((GRAFANA / "compose.yml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/seqsup.yml").read_text())["providers"]
    assert mounts["./dashboards"] == provider["options"]["path"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"].removeprefix("http://") in " ".join(compose["services"]["prometheus"]["command"])
    scraped = (GRAFANA / "prometheus/prometheus.yml").read_text()
    assert '"127.0.0.1:9472"' in scraped
    assert '"127.0.0.1:9473"' in scraped
    assert f"scrape_interval: {source['jsonData']['timeInterval']}" in scraped


def test_seqsup_grafana_writes_them_and_over_nothing(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    there = tmp_path / "a" / "b"
    assert "wrote" in seqsup("grafana", there).stderr
    written = {file.relative_to(there): file.read_bytes() for file in there.rglob("*") if file.is_file()}
    assert Path("prometheus/seqsup.rules.yml") in written
    assert written == {file: (GRAFANA / file).read_bytes() for file in written}
    again = seqsup("grafana", there)
    assert (again.code, "exists already" in again.stderr) == (2, True)
    assert {file.relative_to(there) for file in there.rglob("*") if file.is_file()} == set(written)
    in_the_way = seqsup("grafana", there / "compose.yml" / "c")
    assert (in_the_way.code, "a file is in the way" in in_the_way.stderr) == (2, True)
    nowhere = seqsup("grafana", "/proc/nowhere")
    assert (nowhere.code, "cannot create a folder in /proc" in nowhere.stderr) == (2, True)


# -- a real run

COMPANION = {"name": "mcp", "command": ["sleep", "600"], "ready": {"delay": "100ms"}, "restart_every": 1}


@pytest.mark.memory
@pytest.mark.timeout(300)
def test_each_query_has_an_answer_on_a_real_run(
    board: Json, seqsup: Callable[..., Result], seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    """A real Prometheus scrapes a run of four agents: one works as claude does, one leaves a process, one has its
    garbage collected, one leaks and is killed. A companion restarts after each. Then the same from the run's stored
    figures.
    """
    listen = f"127.0.0.1:{free_port()}"
    targets = tmp_path / "targets.json"
    config = (
        f"scrape_configs:\n- job_name: seqsup\n  scrape_interval: 250ms\n  file_sd_configs:\n  - files: [{targets}]\n"
    )
    # Dropped after seqsup has read the allocation sites (which makes V8 collect), and before a collection is requested
    drops = tmp_path / "drops.mjs"
    drops.write_text("""let kept = [];
      for (let n = 0; n < 2_000_000; n++) kept.push({ n, text: `message ${n}` });
      setTimeout(() => {
        kept = undefined;
        setInterval(() => { if (process.memoryUsage.rss() < 120 * 2 ** 20) setTimeout(process.exit, 2000); }, 100);
      }, 1500);
    """)
    unasked = ("--no-memory-reducer", "--no-incremental-marking")  # V8 collects nothing by itself meanwhile
    leak = ["python3", "-c", "import time\nheld = []\nwhile 1: held.append(b'x' * 2**20); time.sleep(0.03)"]
    stream = ROOT / "tests/data/streams/claude/usage-warning.ndjson"
    works = tmp_path / "claude"
    works.write_text(f"#!/bin/sh\nsed -n 2,4p {stream}\nsleep 4\nsed -n '5,$p' {stream}\nsleep 3\n")
    works.chmod(0o755)
    profile = write(
        tmp_path, agent("works", [works, "--output-format", "stream-json"], preset="claude"),
        shell("leaves", "sleep 60 & sleep 1.5"),
        agent("collects", ["node", *unasked, drops], memory={"soft": "150MiB", "hard": "800MiB", "sustain": "6s"}),
        agent("leaks", leak, memory={"hard": "120MiB", "enforce": "watch"}), run={"on_failure": "continue"},
        metrics={"listen": listen, "file_sd": str(targets), "linger": "10s"}, companions=[COMPANION],
    )  # fmt: skip
    with prometheus(tmp_path, config) as server:
        run = seqsup_started("start", profile)
        killed = wait_for(lambda: server.query('seqsup_agent_kills_total{agent="leaks",reason="hard"} == 1'), 90)
        now = float(killed[0]["value"][0])
        assert run.wait(60).code == 1
        assert unanswered(board, server, now, "5s") == []
    history = tmp_path / "history"
    history.mkdir()
    (history / "om.txt").write_text(seqsup("report", "--openmetrics").stdout)
    promtool("tsdb", "create-blocks-from", "openmetrics", history / "om.txt", history / "data")
    with prometheus(history, None, "--query.lookback-delta=1m") as server:
        assert unanswered(board, server, now, "20s") == []
        (of,) = server.query("seqsup_build_info", now)
        assert of["metric"] == {
            "__name__": "seqsup_build_info", "job": "seqsup", "instance": listen, "profile": "nightly",
            "version": __version__, "python_version": platform.python_version(),
        }  # fmt: skip
        morning = float(server.query("seqsup_run_end_timestamp_seconds", now + 15)[0]["value"][1]) + 90
        assert server.query("seqsup_phase", morning) == []
        assert without_last_figures(board, server, morning) == []
        assert attempts_and_kills(board, server, morning) == (4, 1)
        kills = 'round(increase(seqsup_agent_kills_total{agent="leaks",reason="hard"}[1m]))'
        assert server.value(kills, now + 15) == 1


def without_last_figures(board: Json, server: Server, morning: float) -> list[str]:
    """The panels that a run which is over has emptied."""
    empty = []
    for panel in panels(board):
        for target in panel.get("targets", []):
            expr = plain(target["expr"]).replace("[2m]", "[20s]").replace("[1m]", "[20s]")
            found = server.query(expr, morning)
            if not target.get("instant"):
                found = server.query_range(expr, morning - 600, morning, 0.25)
            if not found:
                empty.append(f"{panel['title']}: {target['expr']}")
    return empty


def attempts_and_kills(board: Json, server: Server, morning: float) -> tuple[float | None, float | None]:
    kills, attempts = (server.value(plain(target["expr"]), morning) for target in _panel(board, "Kills")["targets"])
    return attempts, kills


def unanswered(board: Json, server: Server, now: float, interval: str) -> list[str]:
    """The queries that had no answer since the run began."""
    empty = []
    for where, expr in queries(board):
        filled = plain(expr).replace("[2m]", f"[{interval}]").replace("[1m]", f"[{interval}]")
        if not server.query_range(filled, now - 120, now, 0.25):
            empty.append(f"{where}: {expr}")
    return empty


@pytest.mark.timeout(300)
def test_each_query_of_a_fleet_has_an_answer_on_a_real_worker(
    fleet: Json, seqsup: Callable[..., Result], seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    """A worker is killed while it has a job. The next one takes the job over, and carries out two more."""
    listen = f"127.0.0.1:{free_port()}"
    config = (
        f"scrape_configs: [{{job_name: fleet, scrape_interval: 250ms, static_configs: [{{targets: ['{listen}']}}]}}]\n"
    )
    goes = tmp_path / "goes"
    seqsup("add", "--", "sh", "-c", f"until [ -e {goes} ]; do sleep 0.1; done")
    seqsup("add", "--", "true")
    seqsup("add", "--", "false")
    with prometheus(tmp_path, config) as server:
        first = seqsup_started("work", "--name", "one", "--listen", listen)
        wait_for(lambda: server.query('seqsup_queue_jobs{state="running"} == 1'), 60)
        first.send(signal.SIGKILL)
        first.wait()
        second = seqsup_started("work", "--name", "two", "--listen", listen)
        wait_for(lambda: server.query("seqsup_worker_jobs_rescued_total == 1"), 60)
        goes.touch()
        wait_for(lambda: server.query('seqsup_worker_jobs_ended_total{worker="two",state="failed"} == 1'), 90)
        wait_for(lambda: server.query('seqsup_queue_jobs{state="done"} == 2'), 60)
        poison = "annotation Poison jobs: "  # it takes three lost supervisors
        now = time.time()
        assert [each for each in unanswered(fleet, server, now, "5s") if not each.startswith(poison)] == []
        second.send(signal.SIGTERM)
        second.wait()
