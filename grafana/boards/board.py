"""The parts of a dashboard. Classic format, schemaVersion 42: what Grafana provisions from files. It refuses the newer
v2 there.
"""

import json
from collections.abc import Iterable
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = c.DataSourceRef(type_val="prometheus", uid="${datasource}")
PROCESS = 'job=~"$job",instance=~"$instance"'

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
NEAR = steps((None, "green"), (0.75, "orange"), (1, "red"))


def kept(now: str, then: str) -> str:
    """What is true now; once nothing runs, what was true last in this time."""
    return f"{now} or ({then} unless on () {now})"


def number(x: int, title: str, about: str, unit: str, *asked: Any, colours: Any, text: bool = False) -> Any:
    made = (
        place(stat.Panel(), x, 0, 3, 4, title, about, unit, *asked)
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


def stacked(panel: Any) -> Any:
    return panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL)).fill_opacity(60)


def columns_of(
    x: int, y: int, w: int, h: int, title: str, about: str, by: str, columns: dict[str, str], units: dict[str, str]
) -> Any:  # fmt: skip
    """Make a table with a line for each value of the label `by`. `columns` are its queries, `units` those of some."""
    refs = "ABCDEFGH"[: len(columns)]
    made = place(
        table.Panel(), x, y, w, h, title, about, "none", *(query(each, as_table=True) for each in columns.values())
    )
    made = made.with_transformation(d.DataTransformerConfig(id_val="merge", options={})).with_transformation(
        d.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {by: 0, **{f"Value #{ref}": n for n, ref in enumerate(refs, 1)}},
                "renameByName": {f"Value #{ref}": name for ref, name in zip(refs, columns, strict=True)},
            },
        )
    )  # fmt: skip
    for name, unit in units.items():
        made = made.override_by_name(name, [d.DynamicConfigValue(id_val="unit", value=unit)])
    return made


def shades() -> Any:
    """One colour for any number of agents: red is only for memory.hard."""
    return dashboard.FieldColor().mode(d.FieldColorModeId.SHADES).fixed_color("blue")


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


def blank(title: str, uid: str, about: str, *tags: str) -> Any:
    """Return a dashboard with nothing but a choice of the data source."""
    return (
        dashboard.Dashboard(title)
        .uid(uid).tags(["seqsup", *tags]).readonly().refresh("10s").time("now-1h", "now")
        .description(about)
        .tooltip(d.DashboardCursorSync.CROSSHAIR).timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )  # fmt: skip


def row(y: int, title: str) -> Any:
    return dashboard.Row(title).grid_pos(d.GridPos(x=0, y=y, w=24, h=1))


def finished(made: Any, panels: Iterable[Any], marked: str) -> Json:
    """Return a dashboard with its panels, as JSON. The marks are in the panel of the title `marked`."""
    for panel in panels:
        made = made.with_row(panel) if isinstance(panel, dashboard.Row) else made.with_panel(panel)
    return _clean(json.loads(json.dumps(made.build(), cls=JSONEncoder)), marked)


def _clean(made: Json, marked: str) -> Json:
    """Number the panels, place the marks, and remove what the SDK adds unasked."""
    for number, panel in enumerate(made["panels"], 1):
        panel["id"] = number
        panel.get("options", {}).pop("footer", None)
    for each in made["templating"]["list"]:
        for key in [key for key in each if key.startswith("auto")]:
            del each[key]
    for each in made["annotations"]["list"]:
        each.pop("placement", None)
        in_it = [panel["id"] for panel in made["panels"] if panel["title"] == marked]
        each["filter"] = {"exclude": False, "ids": in_it}
    return made
