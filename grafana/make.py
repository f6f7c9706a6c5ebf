"""Writes dashboards/seqsup-memory.json: `python grafana/make.py`. A test holds the file to it.

Classic format, schemaVersion 42: what Grafana provisions from files. It refuses the newer v2 there.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "supervisor"))

from grafana_foundation_sdk.builders import bargauge, common, dashboard, gauge, prometheus, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from seqsup.model.reason import AT_A_LIMIT, OF_MEMORY

FILE = Path(__file__).parent / "dashboards" / "seqsup-memory.json"
UID = "seqsup-memory"
SOURCE = c.DataSourceRef(type_val="prometheus", uid="${datasource}")

RUN = 'job=~"$job",instance=~"$instance",profile=~"$profile"'
AGENT = f'{RUN},agent=~"$agent"'
PROCESS = 'job=~"$job",instance=~"$instance"'
STATUSES = {  # in the order of their numbers: the timeline shows the highest
    "pending": "#8e8e8e", "running": "blue", "completed": "green", "gave-up": "red", "halted": "orange",
    "skipped": "#5a5a5a",
}  # fmt: skip
WHY = {
    "|".join(OF_MEMORY): "red",
    "|".join(reason for reason in AT_A_LIMIT if reason not in OF_MEMORY): "orange",
    "leftover": "purple",
}

Json = dict[str, Any]


def query(expr: str, legend: str = "", *, instant: bool = False, as_table: bool = False, ref: str = "A") -> Any:
    made = prometheus.Dataquery().expr(expr).ref_id(ref).legend_format(legend).datasource(SOURCE)
    made = made.instant() if instant or as_table else made.range()
    return made.format(PromQueryFormat.TABLE) if as_table else made


def place(panel: Any, x: int, y: int, w: int, h: int, title: str, about: str, unit: str, *queries: Any) -> Any:
    panel = panel.title(title).description(about).unit(unit).datasource(SOURCE)
    for letter, each in zip("ABCDEFGHIJ", queries, strict=False):
        panel = panel.with_target(each.ref_id(letter))
    return panel.grid_pos(d.GridPos(x=x, y=y, w=w, h=h))


def steps(*pairs: tuple[float | None, str]) -> Any:
    return (
        dashboard.ThresholdsConfig()
        .mode(d.ThresholdsMode.ABSOLUTE)
        .steps([d.Threshold(value=value, color=colour) for value, colour in pairs])
    )


NONE = steps((None, "text"))
NEAR = steps((None, "green"), (0.75, "orange"), (0.9, "red"))


def number(x: int, title: str, about: str, unit: str, asked: Any, colours: Any, *, text: bool = False) -> Any:
    made = (
        place(stat.Panel(), x, 0, 3, 4, title, about, unit, asked)
        .thresholds(colours)
        .color_mode(c.BigValueColorMode.VALUE)
        .graph_mode(c.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return made.text_mode(c.BigValueTextMode.NAME).no_value("none") if text else made.no_value("–")


def lines(x: int, y: int, w: int, h: int, title: str, about: str, unit: str, *queries: Any) -> Any:
    return (
        place(series.Panel(), x, y, w, h, title, about, unit, *queries)
        .min(0)
        .line_width(2)
        .fill_opacity(10)
        .show_points(c.VisibilityMode.NEVER)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC))
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .legend(legend())
    )


def bars(x: int, y: int, title: str, about: str, unit: str, asked: Any) -> Any:
    return lines(x, y, 8, 7, title, about, unit, asked).draw_style(c.GraphDrawStyle.BARS).fill_opacity(70)


def legend(*calcs: str, right: bool = False) -> Any:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(c.LegendDisplayMode.TABLE if calcs else c.LegendDisplayMode.LIST)
        .placement(c.LegendPlacement.RIGHT if right else c.LegendPlacement.BOTTOM)
        .calcs(list(calcs))
    )


def dashed(colour: str) -> list[d.DynamicConfigValue]:
    return [
        d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour}),
        d.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]}),
        d.DynamicConfigValue(id_val="custom.lineWidth", value=1),
        d.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        d.DynamicConfigValue(id_val="custom.lineInterpolation", value="stepAfter"),  # a limit never slopes
    ]


def faint() -> list[d.DynamicConfigValue]:
    """Dotted grey, and not in the legend."""
    return [
        d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "#8e8e8e"}),
        d.DynamicConfigValue(id_val="custom.hideFrom", value={"legend": True, "tooltip": False, "viz": False}),
        d.DynamicConfigValue(id_val="custom.lineWidth", value=1),
        d.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        d.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dot", "dash": [2, 6]}),
    ]


# -- what runs, how near its limit, what was stopped


def now() -> list[Any]:
    rss, limit = f"seqsup_agent_tree_rss_bytes{{{AGENT}}}", f"seqsup_agent_memory_limit_bytes{{{AGENT}}}"
    of_limit = f"{rss} / on (job, instance, profile, agent) {limit}"
    available = f"seqsup_host_memory_available_bytes{{{RUN}}} / seqsup_host_memory_total_bytes{{{RUN}}}"
    kills = f"sum(round(increase(seqsup_agent_kills_total{{{AGENT}}}[$__range])))"
    ended = 'status=~"completed|gave-up|halted|skipped"'
    queue = f"sum(seqsup_queue_agents{{{RUN},{ended}}}) / sum(seqsup_queue_agents{{{RUN}}})"
    peak = f"max(max_over_time(seqsup_agent_tree_rss_peak_bytes{{{AGENT}}}[$__range]))"
    few = steps((None, "red"), (0.1, "orange"), (0.25, "green"))
    used = (
        place(
            gauge.Panel(), 6, 0, 3, 4, "Used of limit", "Memory of the running agent's tree, of its memory.hard.",
            "percentunit", query(of_limit, "{{agent}}", instant=True),
        )
        .min(0).max(1).thresholds(NEAR).no_value("–")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip
    return [
        number(
            0, "Phase", "What the supervisor does now.", "none",
            query(f"seqsup_phase{{{RUN}}} == 1", "{{phase}}", instant=True), NONE, text=True,
        ),
        number(
            3, "Agent", "The agent that runs now.", "none", query(rss, "{{agent}}", instant=True), NONE, text=True
        ),
        used,
        number(9, "Tree RSS", "Memory of the running agent's tree.", "bytes", query(f"sum({rss})"), NONE)
        .graph_mode(c.BigValueGraphMode.AREA),
        number(
            12, "Highest peak", "Highest sample of any agent in this time.", "bytes", query(peak, instant=True), NONE
        ),
        number(15, "Host available", "MemAvailable of the machine.", "percentunit", query(available), few),
        number(
            18, "Kills", "Attempts stopped in this time, leftovers too.", "none", query(kills, instant=True),
            steps((None, "green"), (1, "red")),
        ),
        number(
            21, "Plan done", "Agents of the plan that are over.", "percentunit", query(queue, instant=True), NONE
        ),
    ]  # fmt: skip


def memory() -> Any:
    rss = f"seqsup_agent_tree_rss_bytes{{{AGENT}}}"
    limit, soft = (
        f"max(seqsup_agent_memory_{kind}_bytes{{{AGENT}}} and on (job, instance, profile, agent) {rss})"
        for kind in ("limit", "gc_threshold")
    )
    return (
        lines(
            0, 4, 17, 11, "Tree RSS by agent",
            "Memory of the running agent's whole tree, as its limits count it; the highest sample of the last minute"
            " dotted, its limits dashed. Red marks are kills.",
            "bytes",
            query(rss, "{{agent}}"),
            query(f"seqsup_agent_tree_rss_recent_max_bytes{{{AGENT}}}", "{{agent}} spikes"),
            query(limit, "hard"),
            query(soft, "soft"),
        )
        .fill_opacity(25)
        .legend(legend("max", right=True))
        .override_by_name("hard", dashed("red"))
        .override_by_name("soft", dashed("orange"))
        .override_by_regexp("/ spikes$/", faint())
    )  # fmt: skip


def why() -> Any:
    """Exits by reason. Leftover processes count as kills only."""
    ended = f'seqsup_agent_exits_total{{{AGENT},reason!="completed"}}'
    left = f'seqsup_agent_kills_total{{{AGENT},reason="leftover"}}'
    ends, leftovers = (
        f"sum by (agent, reason) (round(increase({counted}[$__range]))) > 0" for counted in (ended, left)
    )
    made = (
        place(
            bargauge.Panel(), 17, 4, 7, 11, "What ended badly, and why",
            "Attempts that did not complete in this time, by agent and reason. Red: memory;"
            " orange: time; purple: attempts that left processes over; yellow: other.",
            "none", query(f"sort_desc({ends} or {leftovers})", "{{agent}}: {{reason}}", instant=True),
        )
        .min(0).orientation(c.VizOrientation.HORIZONTAL).display_mode(c.BarGaugeDisplayMode.BASIC)
        .name_placement(c.BarGaugeNamePlacement.TOP).thresholds(steps((None, "yellow"))).no_value("nothing")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip
    for reasons, colour in WHY.items():
        made = made.override_by_regexp(
            f"/: ({reasons})$/", [d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})]
        )
    return made


def inside() -> list[Any]:
    rss = f"seqsup_agent_tree_rss_bytes{{{AGENT}}}"
    left = f"seqsup_agent_memory_limit_bytes{{{AGENT}}} - on (job, instance, profile, agent) {rss}"
    growth = f"deriv({rss}[2m]) and {rss}"  # the derivative covers the whole window after an agent's exit
    minutes = f"clamp_min(({left}) / on (job, instance, profile, agent) (({growth}) > 0), 0) / 60 < 60"
    heap = ("used", "total", "limit")
    return [
        lines(
            0, 16, 12, 8, "Processes of the agent",
            "The tree by program, the five largest and other: together the tree's memory.", "bytes",
            query(f"sum by (process) (seqsup_agent_process_rss_bytes{{{AGENT}}})", "{{process}}"),
        )
        .stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))
        .fill_opacity(60),
        lines(
            12, 16, 12, 8, "Node.js heap",
            "What the agent's V8 says of itself. Used near its limit: a leak of objects; external growing: Buffers.",
            "bytes",
            *(query(f"max(seqsup_nodejs_heap_size_{part}_bytes{{{AGENT}}})", part) for part in heap),
            query(f"max(seqsup_nodejs_external_memory_bytes{{{AGENT}}})", "external"),
        ).override_by_name("limit", dashed("red")),
        lines(
            0, 24, 12, 7, "Growth", "By how much the tree grows, over two minutes.", "binBps",
            query(growth, "{{agent}}"),
        ).min(None),
        lines(
            12, 24, 12, 7, "Time to limit", "Until memory.hard, if it keeps growing as in the last two minutes.", "m",
            query(minutes, "{{agent}}"),
        ),
    ]  # fmt: skip


# -- the agents


def agents() -> list[Any]:
    columns = {
        "peak": f"max by (agent) (max_over_time(seqsup_agent_tree_rss_peak_bytes{{{AGENT}}}[$__range]))",
        "last run": f"max by (agent) (last_over_time(seqsup_agent_last_run_duration_seconds{{{AGENT}}}[$__range]))",
        "exit": f"max by (agent) (last_over_time(seqsup_agent_last_run_exit_code{{{AGENT}}}[$__range]))",
        "kills": f"sum by (agent) (round(increase(seqsup_agent_kills_total{{{AGENT}}}[$__range])))",
        "retries": f"sum by (agent) (round(increase(seqsup_agent_retries_total{{{AGENT}}}[$__range])))",
        "gc freed": f"sum by (agent) (increase(seqsup_gc_freed_bytes_total{{{AGENT}}}[$__range]))",
        "since success": "time() - max by (agent) "
        f"(last_over_time(seqsup_agent_last_success_timestamp_seconds{{{AGENT}}}[$__range]))",
    }
    units = {"peak": "bytes", "last run": "s", "gc freed": "bytes", "since success": "s"}
    of_limit = (
        f"sort_desc(max by (agent) (max_over_time(seqsup_agent_tree_rss_peak_bytes{{{AGENT}}}[$__range]))"
        f" / on (agent) max by (agent) (seqsup_agent_memory_limit_bytes{{{AGENT}}}))"
    )
    states = " or ".join(
        f'seqsup_agent_status{{{AGENT},status="{status}"}} * {n}' for n, status in enumerate(STATUSES, 1)
    )
    listed = (
        place(
            table.Panel(), 0, 32, 24, 12, "Agents",
            "Each agent's last run, and what became of it in this time.", "none",
            *(query(expr, as_table=True) for expr in columns.values()),
        )
        .with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            d.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {"agent": 0, **{f"Value #{ref}": n for n, ref in enumerate("ABCDEFG", 1)}},
                    "renameByName": {f"Value #{ref}": name for ref, name in zip("ABCDEFG", columns, strict=True)},
                },
            )
        )
    )  # fmt: skip
    for name, unit in units.items():
        listed = listed.override_by_name(name, [d.DynamicConfigValue(id_val="unit", value=unit)])
    bad = {"mode": "absolute", "steps": [{"value": None, "color": "text"}, {"value": 1, "color": "red"}]}
    for name in ("kills", "exit"):
        coloured = [("thresholds", bad), ("custom.cellOptions", {"type": "color-text"})]
        listed = listed.override_by_name(name, [d.DynamicConfigValue(id_val=i, value=v) for i, v in coloured])
    return [
        listed.sort_by([common.TableSortByFieldState().display_name("peak").desc(True)]),
        place(
            bargauge.Panel(), 0, 44, 12, 10, "Peak of each agent, of its limit",
            "How much of its memory.hard each agent came to need: what to set limits by.", "percentunit",
            query(of_limit, "{{agent}}", instant=True),
        )
        .min(0).max(1).thresholds(NEAR).orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])),
        place(
            statetimeline.Panel(), 12, 44, 12, 10, "What ran when", "The state of each agent.", "none",
            query(f"max by (agent) ({states})", "{{agent}}"),
        )
        .mappings([
            d.ValueMap(
                options={
                    str(n): d.ValueMappingResult(text=status, color=colour, index=n)
                    for n, (status, colour) in enumerate(STATUSES.items(), 1)
                }
            )
        ])
        .thresholds(NONE).show_value(c.VisibilityMode.NEVER).merge_values(True)
        .legend(legend()),
    ]  # fmt: skip


# -- between agents, beside them, below them


def between() -> list[Any]:
    took, count = (f"sum(rate(seqsup_drain_duration_seconds_{part}{{{RUN}}}[1h]))" for part in ("sum", "count"))
    average = f"{took} / {count}"
    drains = f"sum by (le) (rate(seqsup_drain_duration_seconds_bucket{{{RUN}}}[1h]))"
    freed = f"sum by (agent) (increase(seqsup_gc_freed_bytes_total{{{AGENT}}}[$__rate_interval])) > 0"
    reaped = (
        f"sum by (agent) (round(increase(seqsup_leftover_processes_reaped_total{{{AGENT}}}[$__rate_interval]))) > 0"
    )
    return [
        bars(
            0, 55, "Freed by GC", "Memory gone after collections that were asked for.", "bytes",
            query(freed, "{{agent}}"),
        ),
        lines(
            8, 55, 8, 7, "Drain time", "From an agent's end until its memory was proven to be back.", "s",
            query(f"{average} >= 0", "on average"),
            query(f"histogram_quantile(0.95, {drains}) >= 0", "95 % below"),
        ),
        bars(
            16, 55, "Left-over processes reaped", "Processes that outlived their agent and were stopped.", "none",
            query(reaped, "{{agent}}"),
        ),
    ]  # fmt: skip


def beside() -> list[Any]:
    pressure = "seqsup_host_pressure_memory_{}_seconds_total"
    right = [
        d.DynamicConfigValue(id_val="unit", value="percentunit"),
        d.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
        d.DynamicConfigValue(id_val="max", value=1),
    ]
    cpu = [
        d.DynamicConfigValue(id_val="unit", value="percentunit"),
        d.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
    ]
    return [
        lines(
            0, 63, 8, 8, "Companions", "Memory of what lives beside the agents.", "bytes",
            query(f"seqsup_companion_tree_rss_bytes{{{RUN}}}", "{{companion}}"),
        ),
        lines(
            8, 63, 8, 8, "Host memory",
            "MemAvailable of the machine; on the right the share of time in which tasks waited for memory.", "bytes",
            query(f"seqsup_host_memory_available_bytes{{{RUN}}}", "available"),
            *(
                query(f"rate({pressure.format(kind)}{{{RUN}}}[$__rate_interval])", kind)
                for kind in ("waiting", "stalled")
            ),
        )
        .override_by_name("waiting", right)
        .override_by_name("stalled", right),
        lines(
            16, 63, 8, 8, "seqsup itself", "The supervisor's own memory, and on the right its share of a core.",
            "bytes",
            query(f"process_resident_memory_bytes{{{PROCESS}}}", "memory"),
            query(f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])", "cpu"),
        ).override_by_name("cpu", cpu),
    ]  # fmt: skip


# -- the whole


def variable(name: str, label: str, asked: str) -> Any:
    return (
        dashboard.QueryVariable(name)
        .label(label).query(asked).datasource(SOURCE)
        .multi(True).include_all(True).all_value(".+")
        .current(d.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(d.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip


def marks(name: str, colour: str, metric: str, by: str, *, shown: bool) -> Any:
    """A mark at the very moment: the value is the time, in milliseconds."""
    return (
        dashboard.AnnotationQuery()
        .name(name).enable(shown).icon_color(colour).datasource(SOURCE)
        .target(prometheus.Dataquery().ref_id("Anno").expr(f"{metric} * 1000").interval("1s"))
        .title_format(name).text_format(by).use_value_for_time(True)
    )  # fmt: skip


def build() -> Json:
    made = (
        dashboard.Dashboard("seqsup: memory of agents")
        .uid(UID).tags(["seqsup", "memory", "agents"]).readonly().refresh("10s").time("now-1h", "now")
        .description("What runs, how near its limit it is, what was stopped and why.")
        .tooltip(d.DashboardCursorSync.CROSSHAIR).timezone("browser")
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(variable("job", "Job", "label_values(seqsup_build_info, job)"))
        .with_variable(variable("instance", "Instance", 'label_values(seqsup_build_info{job=~"$job"}, instance)'))
        .with_variable(variable("profile", "Profile", f"label_values(seqsup_build_info{{{PROCESS}}}, profile)"))
        .with_variable(variable("agent", "Agent", f"label_values(seqsup_agent_status{{{RUN}}}, agent)"))
    )  # fmt: skip
    kinds = (
        ("Kills", "red", f"seqsup_agent_last_kill_timestamp_seconds{{{AGENT}}}", "{{agent}}: {{reason}}", True),
        (
            "Companion restarts", "purple", f"seqsup_companion_last_restart_timestamp_seconds{{{RUN}}}",
            "{{companion}}", True,
        ),
        ("Agent starts", "blue", f"seqsup_agent_last_start_timestamp_seconds{{{AGENT}}}", "{{agent}}", False),
        ("GC requests", "yellow", f"seqsup_agent_last_gc_timestamp_seconds{{{AGENT}}}", "{{agent}}", False),
    )  # fmt: skip
    for name, colour, metric, by, shown in kinds:
        made = made.annotation(marks(name, colour, metric, by, shown=shown))
    panels: list[Any] = [*now(), memory(), why()]
    for y, title, some in (
        (15, "Inside the agent", inside()),
        (31, "Agents", agents()),
        (54, "Between agents", between()),
        (62, "Beside and below", beside()),
    ):
        panels += [dashboard.Row(title).grid_pos(d.GridPos(x=0, y=y, w=24, h=1)), *some]
    for panel in panels:
        made = made.with_row(panel) if isinstance(panel, dashboard.Row) else made.with_panel(panel)
    return _clean(json.loads(json.dumps(made.build(), cls=JSONEncoder)))


def _clean(made: Json) -> Json:
    """Number the panels, and remove defaults that the SDK adds."""
    for number, panel in enumerate(made["panels"], 1):
        panel["id"] = number
        panel.get("options", {}).pop("footer", None)
    for each in made["templating"]["list"]:
        for key in [key for key in each if key.startswith("auto")]:
            del each[key]
    for each in made["annotations"]["list"]:
        each.pop("placement", None)
    return made


def text() -> str:
    return json.dumps(build(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
