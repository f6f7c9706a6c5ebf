"""Mistakes in a dashboard that loads: unknown keys, wrong units, queries without a meaning.

Three layers, all in Python: a round trip through the SDK's types, rules of our own, and each query's syntax and metric
names compared with the catalogue. Grafana's own TypeScript types and a real Prometheus, two more, are in test_grafana.
"""

import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
from grafana_foundation_sdk import models
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from seqsup.metrics.catalogue import METRICS, OF_QUEUE, PROCESS, full_name

Json = dict[str, Any]
SCHEMA_VERSION = 42
MATCHERS = ('job=~"$job"', 'instance=~"$instance"')
INTERVALS = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s"}
_UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
_PANELS = {module.name for module in pkgutil.iter_modules(models.__path__)}
_COUNTING = ("rate", "increase", "irate", "histogram_quantile")


def faults(made: Json) -> list[str]:
    found = [*_round_trip(made), *_rules(made)]
    variables = {f"${variable['name']}" for variable in made["templating"]["list"]} | set(INTERVALS)
    for where, expr in queries(made):
        found += [f"{where}: {fault}" for fault in _query(expr)]
        found += [f"{where}: no variable {name}" for name in set(re.findall(r"\$\w+", expr)) - variables]
    return found


def queries(made: Json) -> Iterator[tuple[str, str]]:
    """Yield each expression with its place."""
    for panel in panels(made):
        for target in panel.get("targets", []):
            yield f"{panel.get('title')}/{target.get('refId')}", target.get("expr", "")
    for each in made["annotations"]["list"]:
        yield f"annotation {each['name']}", each.get("target", {}).get("expr", "")


def panels(made: Json) -> Iterator[Json]:
    for panel in made["panels"]:
        yield panel
        yield from panel.get("panels", [])


# -- the SDK's types: what they do not know is lost on the way through them


def _round_trip(made: Json) -> Iterator[str]:
    plugins.register_default_plugins()
    try:
        back = json.loads(json.dumps(Dashboard.from_json(made), cls=JSONEncoder))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        yield f"not a dashboard: {error!r}"
        return
    yield from _lost(made, back, "")


def _lost(given: Any, back: Any, at: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key in back:
                yield from _lost(value, back[key], f"{at}.{key}")
            elif value is not None:
                yield f"{at}.{key}: unknown"
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for n, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from _lost(one, other, f"{at}[{n}]")
    elif given != back:
        yield f"{at}: {given!r} became {back!r}"


# -- rules of our own


def _rules(made: Json) -> Iterator[str]:
    if made.get("schemaVersion") != SCHEMA_VERSION:
        yield "schemaVersion"
    if made.get("editable") is not False:
        yield "editable"
    named = [variable["name"] for variable in made["templating"]["list"]]
    if not {"datasource", "job", "instance"} <= set(named):
        yield "variables"
    ids = [panel.get("id") for panel in panels(made)]
    if len(set(ids)) != len(ids) or None in ids:
        yield "panel ids"
    yield from _overlaps(made["panels"])
    for panel in panels(made):
        yield from (f"{panel.get('title')}: {fault}" for fault in _panel(panel))


def _panel(panel: Json) -> Iterator[str]:
    grid = panel.get("gridPos", {})
    if not all(isinstance(grid.get(key), int) for key in "xywh") or grid["x"] + grid["w"] > 24:
        yield "gridPos"
    if not panel.get("title"):
        yield "no title"
    if panel.get("type") == "row":
        return
    if str(panel.get("type")).replace("-", "") not in _PANELS:
        yield f"type {panel.get('type')}"
    if not panel.get("description"):
        yield "no description"
    told = [panel.get("fieldConfig", {}).get("defaults", {}).get("unit")]
    for override in panel.get("fieldConfig", {}).get("overrides", []):
        told += [each["value"] for each in override["properties"] if each["id"] == "unit"]
    yield from (f"unit {unit}" for unit in told if unit not in _UNITS)
    targets = panel.get("targets", [])
    yield from _named(panel)
    yield from _measured(panel)
    refs = [target.get("refId") for target in targets]
    if not refs or None in refs or len(set(refs)) != len(refs):
        yield "refIds"
    for source in [panel.get("datasource"), *(target.get("datasource") for target in targets)]:
        if source != {"type": "prometheus", "uid": "${datasource}"}:
            yield "datasource"
    if panel.get("type") in ("gauge", "bargauge") and not all(target.get("instant") for target in targets):
        yield "a range query: each agent that ever ran would have a gauge"


def _named(panel: Json) -> Iterator[str]:
    """Overrides and columns speak of what is there."""
    targets = panel.get("targets", [])
    for target in targets:
        known = set().union(*map(labels, names(target.get("expr", ""))))
        shown = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        yield from (f"a legend of {label}, which nothing has" for label in shown - known)
    legends = {target.get("legendFormat") for target in targets}
    columns = {f"Value #{target.get('refId')}" for target in targets}
    for each in panel.get("transformations", []):
        renamed = each["options"].get("renameByName", {})
        yield from (f"no column {column}" for column in set(renamed) - columns)
        legends |= set(renamed.values())
    for override in panel.get("fieldConfig", {}).get("overrides", []):
        matcher = override["matcher"]
        if matcher["id"] == "byName" and matcher["options"] not in legends:
            yield f"an override of {matcher['options']}, which nothing is called"


def _measured(panel: Json) -> Iterator[str]:
    """Check that a metric shown without arithmetic has the unit of its name."""
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
    for target in panel.get("targets", []):
        bare = re.fullmatch(r"(?:sum|max)?(?: by \(\w+\) )?\(?\w+_(bytes|seconds)\{[^}]*\}\)?", target.get("expr", ""))
        shown = panel.get("options", {}).get("textMode") != "name"
        if bare and shown and unit != {"bytes": "bytes", "seconds": "s"}[bare[1]]:
            yield f"unit {unit} for {bare[1]}"


def _overlaps(listed: list[Json]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in listed:
        grid = panel.get("gridPos", {})
        if not all(isinstance(grid.get(key), int) for key in "xywh"):
            continue
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                if (x, y) in taken:
                    yield f"{panel.get('title')} lies over {taken[x, y]}"
                    return
                taken[x, y] = str(panel.get("title"))


# -- queries


def known() -> dict[str, str]:
    """Every name that a scrape has, and its kind."""
    found: dict[str, str] = {}
    for metric in (*METRICS, *OF_QUEUE, *PROCESS):
        name = full_name(metric)
        if metric.kind == "histogram":
            found |= {f"{name}_{part}": "counter" for part in ("bucket", "count", "sum")}
        else:
            found[name] = metric.kind
    return found


def labels(name: str) -> set[str]:
    """Return the labels of a metric."""
    for metric in (*METRICS, *OF_QUEUE):
        if re.fullmatch(full_name(metric) + ("_(bucket|count|sum)" if metric.kind == "histogram" else ""), name):
            of_buckets = {"le"} if name.endswith("_bucket") else set()
            return {"job", "instance", metric.of, *metric.labels} | of_buckets
    return {"job", "instance"}


def names(expr: str) -> set[str]:
    return set(re.findall(r"\b((?:seqsup|process)_\w+)\s*\{", expr))


def plain(expr: str) -> str:
    """As Prometheus takes it: with Grafana's variables filled in."""
    for variable, value in INTERVALS.items():
        expr = expr.replace(variable, value)
    return re.sub(r'"\$\w+"', '".+"', expr)


def _query(expr: str) -> Iterator[str]:
    try:
        promql_parser.parse(plain(expr))
    except ValueError as error:
        yield f"not PromQL: {error}"
        return
    kinds = known()
    if not names(expr):
        yield "asks for nothing"
    for selector in re.findall(r"\b(?:seqsup|process)_\w+\s*(\{[^}]*\})?", expr):
        if not all(matcher in selector for matcher in MATCHERS):
            yield f"a selector without {', '.join(MATCHERS)}"
    for name, selector in re.findall(r"\b((?:seqsup|process)_\w+)\{([^}]*)\}", expr):
        yield from (f"{name} has no {label}" for label in set(re.findall(r"(\w+)[!=]", selector)) - labels(name))
    kept = {word for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr) for word in re.findall(r"\w+", listed)}
    yield from (f"nothing has {label}" for label in kept - set().union(*map(labels, names(expr))))
    for name in names(expr):
        if name not in kinds:
            yield f"no metric {name}"
        elif kinds[name] == "counter" and not re.search(rf"({'|'.join(_COUNTING)})\((sum[^(]*\()?[^()]*{name}\b", expr):
            yield f"{name} is a counter and needs rate or increase"
