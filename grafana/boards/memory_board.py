"""The dashboard "seqsup: memory of agents"."""

from typing import Any

from board import (
    NEAR,
    NONE,
    PROCESS,
    Json,
    blank,
    columns_of,
    dashed,
    faint,
    finished,
    kept,
    legend,
    lines,
    marks,
    number,
    place,
    query,
    row,
    shades,
    stacked,
    steps,
    variable,
)
from grafana_foundation_sdk.builders import bargauge, common, gauge, statetimeline
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d

from seqsup.model.reason import AT_A_LIMIT, OF_MEMORY, Reason

RUN = 'job=~"$job",instance=~"$instance",profile=~"$profile"'
AGENT = f'{RUN},agent=~"$agent"'
OF_RUNS = f"and on (job, instance) seqsup_build_info{{{RUN}}}"
STATUSES = {  # in the order of their numbers: the timeline shows the highest
    "pending": "#8e8e8e", "running": "blue", "completed": "green", "gave-up": "red", "halted": "orange",
    "skipped": "#5a5a5a",
}  # fmt: skip
AT_HARD = (Reason.HARD, Reason.KERNEL_OOM)
WHY = {
    "|".join(AT_HARD): "red",
    "|".join(reason for reason in OF_MEMORY if reason not in AT_HARD): "orange",
    "|".join(reason for reason in AT_A_LIMIT if reason not in OF_MEMORY): "yellow",
    "leftover": "purple",
}

TREE, PEAKS = "Memory by agent", "Peak memory, of memory.hard"


# -- what runs, how near its limit, what was stopped


def now() -> list[Any]:
    rss, limit = (
        f"max by (agent) ({{}}(seqsup_agent_{name}_bytes{{{{{AGENT}}}}}{{}}))" for name in ("tree_rss", "memory_limit")
    )
    live, over = ("", ""), ("last_over_time", "[$__range]")
    last = f"topk(1, max by (agent) (last_over_time(seqsup_agent_last_start_timestamp_seconds{{{AGENT}}}[$__range])))"
    at_last = f"{rss.format(*over)} and on (agent) {last}"
    of_limit = kept(
        f"({rss.format(*live)} / on (agent) {limit.format(*live)})", f"(({at_last}) / on (agent) {limit.format(*over)})"
    )
    run = f"topk(1, max by (run, profile) (last_over_time(seqsup_run_start_timestamp_seconds{{{RUN}}}[$__range])))"
    phase = kept(f"(seqsup_phase{{{RUN}}} == 1)", f"(last_over_time(seqsup_phase{{{RUN}}}[$__range]) == 1)")
    available = f"seqsup_host_memory_available_bytes{{{RUN}}} / seqsup_host_memory_total_bytes{{{RUN}}}"
    kills = f'sum(round(increase(seqsup_agent_kills_total{{{AGENT},reason!="leftover"}}[$__range])))'
    attempts = f"sum(round(increase(seqsup_agent_exits_total{{{AGENT}}}[$__range])))"
    ended = 'status=~"completed|gave-up|halted|skipped"'
    over_of_plan, plan = (
        f"sum(last_over_time(seqsup_queue_agents{{{RUN}{which}}}[$__range]))" for which in (f",{ended}", "")
    )
    peak = f"max(max_over_time(seqsup_agent_tree_rss_peak_bytes{{{AGENT}}}[$__range]))"
    few = steps((None, "orange"), (0.1, "yellow"), (0.25, "green"))
    used = (
        place(
            gauge.Panel(), 9, 0, 3, 4, "Used of limit",
            "Memory of the running agent, as a share of its memory.hard; after a run, of the last agent.",
            "percentunit", query(of_limit, "{{agent}}", instant=True),
        )
        .min(0).max(1).thresholds(NEAR).no_value("–")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip
    return [
        number(
            0, "Last run", "Label and profile of the last run in this time: seqsup report LABEL shows it.", "none",
            query(run, "{{run}} {{profile}}", instant=True), colours=NONE, text=True,
        ),
        number(
            3, "Phase", "What the supervisor does; after a run, what it did at the last scrape.", "none",
            query(phase, "{{phase}}", instant=True), colours=NONE, text=True,
        ),
        number(
            6, "Agent", "The agent that is running; after a run, the agent that started last.", "none",
            query(kept(rss.format(*live), last), "{{agent}}", instant=True), colours=NONE, text=True,
        ),
        used,
        number(
            12, "Highest peak", "Highest memory of any agent in this time.", "bytes", query(peak, instant=True),
            colours=NONE,
        ),
        number(15, "Host available", "MemAvailable of the machine.", "percentunit", query(available), colours=few),
        number(
            18, "Kills", "Attempts that were stopped in this time, and all attempts that ended. Leftover processes do"
            " not count.", "none", query(kills, "kills", instant=True), query(attempts, "of attempts", instant=True),
            colours=NONE,
        ).text_mode(c.BigValueTextMode.VALUE_AND_NAME),
        number(
            21, "Plan progress", "Share of the plan's agents that have ended.", "percentunit",
            query(f"{over_of_plan} / {plan}", instant=True), colours=NONE,
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
            0, 4, 17, 11, TREE,
            "Memory of the running agent with all its processes, as its limits count it. Dotted: the highest sample of"
            " the last minute. Dashed: its limits. Red marks are kills, purple ones restarts of companions.",
            "bytes",
            query(rss, "{{agent}}"),
            query(f"seqsup_agent_tree_rss_recent_max_bytes{{{AGENT}}}", "{{agent}} spikes"),
            query(limit, "hard"),
            query(soft, "soft"),
        )
        .fill_opacity(25)
        .color_scheme(shades())
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
            bargauge.Panel(), 17, 4, 7, 11, "Attempts that failed, by reason",
            "Attempts that did not complete in this time. Red: memory.hard; orange: other memory limits; yellow: time;"
            " blue: other. Purple: attempts that left processes behind.",
            "none", query(f"sort_desc({ends} or {leftovers})", "{{agent}}: {{reason}}", instant=True),
        )
        .min(0).orientation(c.VizOrientation.HORIZONTAL).display_mode(c.BarGaugeDisplayMode.BASIC)
        .name_placement(c.BarGaugeNamePlacement.TOP).thresholds(steps((None, "blue"))).no_value("none")
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
    growth = f"clamp_min(deriv({rss}[2m]), 0) and {rss}"  # a derivative is there for two minutes after an agent's end
    seconds = f"clamp_min(({left}) / on (job, instance, profile, agent) (({growth}) > 0), 1) < 3600"
    logarithmic = common.ScaleDistributionConfig().type(c.ScaleDistribution.LOG).log(10)
    heap = ("used", "total", "limit")
    return [
        stacked(lines(
            0, 16, 12, 8, "Processes of the agent",
            "Memory of the agent by program: the five largest, and all others.", "bytes",
            query(f"sum by (process) (seqsup_agent_process_rss_bytes{{{AGENT}}})", "{{process}}"),
        )),
        lines(
            12, 16, 12, 8, "Node.js heap",
            "What V8 reports. Used near its limit: objects leak. External memory that grows: Buffers leak.",
            "bytes",
            *(query(f"max(seqsup_nodejs_heap_size_{part}_bytes{{{AGENT}}})", part) for part in heap),
            query(f"max(seqsup_nodejs_external_memory_bytes{{{AGENT}}})", "external"),
        ).override_by_name("limit", dashed("orange")),
        lines(
            0, 24, 12, 7, "Growth", "How fast the agent's memory grows, over two minutes.", "binBps",
            query(growth, "{{agent}}"),
        ).color_scheme(shades()),
        lines(
            12, 24, 12, 7, "Time until memory.hard",
            "If memory grows as in the last two minutes. The scale is logarithmic: the last seconds matter most.", "s",
            query(seconds, "{{agent}}"),
        )
        .color_scheme(shades()).min(1).max(3600).scale_distribution(logarithmic),
    ]  # fmt: skip


# -- the agents


def agents() -> list[Any]:
    return [listed_agents(), shares_of_hard(), states_over_time()]


def listed_agents() -> Any:
    columns = {
        "peak": f"max by (agent) (max_over_time(seqsup_agent_tree_rss_peak_bytes{{{AGENT}}}[$__range]))",
        "last run": f"max by (agent) (last_over_time(seqsup_agent_last_run_duration_seconds{{{AGENT}}}[$__range]))",
        "exit": f"max by (agent) (last_over_time(seqsup_agent_last_run_exit_code{{{AGENT}}}[$__range]))",
        "kills": f'sum by (agent) (round(increase(seqsup_agent_kills_total{{{AGENT},reason!="leftover"}}[$__range])))',
        "retries": f"sum by (agent) (round(increase(seqsup_agent_retries_total{{{AGENT}}}[$__range])))",
        "gc freed": f"sum by (agent) (increase(seqsup_gc_freed_bytes_total{{{AGENT}}}[$__range]))",
        "leftover processes": "sum by (agent) "
        f"(round(increase(seqsup_leftover_processes_reaped_total{{{AGENT}}}[$__range])))",
        "last success, ago": "time() - max by (agent) "
        f"(last_over_time(seqsup_agent_last_success_timestamp_seconds{{{AGENT}}}[$__range]))",
    }
    units = {"peak": "bytes", "last run": "s", "gc freed": "bytes", "last success, ago": "s"}
    listed = columns_of(
        0, 32, 24, 12, "Agents",
        "Each agent in this time: its highest memory, its last attempt, kills, retries and leftover processes.",
        "agent", columns, units,
    )  # fmt: skip
    bad = {"mode": "absolute", "steps": [{"value": None, "color": "text"}, {"value": 1, "color": "orange"}]}
    for name in ("kills", "exit"):
        coloured = [("thresholds", bad), ("custom.cellOptions", {"type": "color-text"})]
        listed = listed.override_by_name(name, [d.DynamicConfigValue(id_val=i, value=v) for i, v in coloured])
    return listed.sort_by([common.TableSortByFieldState().display_name("peak").desc(True)])


def shares_of_hard() -> Any:
    of_limit = (
        f"sort_desc(max by (agent) (max_over_time(seqsup_agent_tree_rss_peak_bytes{{{AGENT}}}[$__range]))"
        f" / on (agent) max by (agent) (max_over_time(seqsup_agent_memory_limit_bytes{{{AGENT}}}[$__range])))"
    )
    return (
        place(
            bargauge.Panel(), 0, 44, 12, 10, PEAKS,
            "The share of its memory.hard that each agent needed. Set limits by it.", "percentunit",
            query(of_limit, "{{agent}}", instant=True),
        )
        .min(0).max(1).thresholds(NEAR).orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip


def states_over_time() -> Any:
    states = " or ".join(
        f'seqsup_agent_status{{{AGENT},status="{status}"}} * {n}' for n, status in enumerate(STATUSES, 1)
    )
    return (
        place(
            statetimeline.Panel(), 12, 44, 12, 10, "Agents over time", "The state of each agent.", "none",
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
        .legend(legend())
    )  # fmt: skip


# -- between agents, and beside them


def between() -> list[Any]:
    took, count = (f"sum(rate(seqsup_drain_duration_seconds_{part}{{{RUN}}}[1h]))" for part in ("sum", "count"))
    drains = f"sum by (le) (rate(seqsup_drain_duration_seconds_bucket{{{RUN}}}[1h]))"
    pressure = "seqsup_host_pressure_memory_{}_seconds_total"
    return [
        lines(
            0, 55, 8, 7, "Drain time", "From the end of an agent until its memory was free again.", "s",
            query(f"{took} / {count} >= 0", "average"),
            query(f"histogram_quantile(0.95, {drains}) >= 0", "95th percentile"),
        ),
        lines(
            8, 55, 8, 7, "Memory pressure of the host",
            "Share of time in which some task (waiting) or every task (stalled) waited for memory.", "percentunit",
            *(
                query(f"rate({pressure.format(kind)}{{{RUN}}}[$__rate_interval])", kind)
                for kind in ("waiting", "stalled")
            ),
        ),
        lines(
            16, 55, 8, 7, "CPU of seqsup", "Share of one core that the supervisor uses.", "percentunit",
            query(f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval]) {OF_RUNS}", "cpu"),
        ),
    ]  # fmt: skip


def beside() -> list[Any]:
    return [
        lines(
            0, 63, 8, 8, "Companions", "Memory of each companion with its processes.", "bytes",
            query(f"seqsup_companion_tree_rss_bytes{{{RUN}}}", "{{companion}}"),
        ).color_scheme(shades()),
        lines(
            8, 63, 8, 8, "Host memory", "MemAvailable of the machine.", "bytes",
            query(f"seqsup_host_memory_available_bytes{{{RUN}}}", "available"),
        ),
        lines(
            16, 63, 8, 8, "Memory of seqsup", "Resident memory of the supervisor.", "bytes",
            query(f"process_resident_memory_bytes{{{PROCESS}}} {OF_RUNS}", "memory"),
        ),
    ]  # fmt: skip


def conversations() -> list[Any]:
    """What the CLIs report."""
    return [
        lines(
            0, 72, 8, 8, "Cost in the last hour", "Cost that the CLI of each agent reported in the hour before.",
            "currencyUSD", query(f"increase(seqsup_agent_cost_usd_total{{{AGENT}}}[1h])", "{{agent}}"),
        ).color_scheme(shades()),
        stacked(lines(
            8, 72, 8, 8, "Tokens in the last hour",
            "Tokens in the hour before by kind: input is what the provider's cache did not have.", "short",
            query(f"sum by (kind) (increase(seqsup_agent_tokens_total{{{AGENT}}}[1h]))", "{{kind}}"),
        )),
        lines(
            16, 72, 8, 8, "Usage limit", "Share used of the provider's usage limit, as the CLI reported it.",
            "percentunit",
            query(f"seqsup_usage_limit_ratio{{{AGENT}}}", "{{agent}}"),
        ).min(0).max(1),
    ]  # fmt: skip


# -- the whole


def build() -> Json:
    made = (
        blank(
            "seqsup: memory of agents", "seqsup-memory",
            "What runs, how near its limit it is, what was stopped and why.", "memory", "agents",
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
        (54, "Drains and load", between()),
        (62, "Companions, host and seqsup", beside()),
        (71, "Conversations", conversations()),
    ):
        panels += [row(y, title), *some]
    return finished(made, panels, TREE)
