"""Every metric that seqsup has: name, type, labels and meaning. docs, dashboard and alerts are held against it."""

from enum import StrEnum

from msgspec import Struct

from seqsup.model.conversation import Tokens
from seqsup.model.enums import Restart
from seqsup.model.reason import CONSEQUENCES, EndedBy, Reason, ended_by
from seqsup.model.run_view import AgentState, RunState


class RunPhase(StrEnum):
    """Activity of the supervisor."""

    IDLE = "idle"  # the run is over, and the figures can still be read
    STARTING = "starting"
    RUNNING = "running"
    GC = "gc"
    DRAINING = "draining"
    KILLING = "killing"
    BACKOFF = "backoff"
    COMPANIONS = "companions"
    STOPPING = "stopping"


class Swept(StrEnum):
    """Signal that stopped a leftover process."""

    TERM = "term"
    KILL = "kill"
    APART = "apart"  # found outside the agent's tree, by its mark


class Collected(StrEnum):
    """Result of a requested collection."""

    FREED = "freed"
    NO_EFFECT = "no_effect"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its processes ended first


PROFILE, QUEUE = "profile", "queue"


class Metric(Struct, frozen=True):
    name: str  # without seqsup_
    kind: str  # gauge | counter | histogram
    help: str
    labels: tuple[str, ...] = ()  # after that of `of`
    values: tuple[str, ...] = ()  # of the last label, if each has a sample from the start
    of: str = PROFILE  # the first label of all metrics of its kind


# An agent is in exactly one of these, so that the queue adds up to the plan
STATES = (
    AgentState.PENDING, AgentState.RUNNING, AgentState.COMPLETED, AgentState.GAVE_UP, AgentState.HALTED,
    AgentState.SKIPPED,
)  # fmt: skip
TOLD_AS = {
    AgentState.DRAINING: AgentState.RUNNING, AgentState.BACKOFF: AgentState.RUNNING,
    AgentState.LOST: AgentState.PENDING,  # a resumed run takes it again
}  # fmt: skip
LEFTOVER = "leftover"  # reason of a kill after the agent's exit, without a limit
EXITS = tuple(reason for reason in Reason if CONSEQUENCES[reason].by is not EndedBy.NOTHING)
KILLS = (*ended_by(EndedBy.KERNEL, EndedBy.SEQSUP, EndedBy.USER), LEFTOVER)
RESTARTS = tuple(reason for reason in Restart if reason is not Restart.RUN_ENDED)
RUNS = (RunState.COMPLETED, RunState.FAILED, RunState.STOPPED)
DRAINS = DRAINED, TIMED_OUT = "drained", "timed_out"
TOKENS = Tokens.__struct_fields__
JOBS = ("waiting", "ready", "running", "done", "failed", "cancelled")  # the states of a job
JOB_ENDS = JOBS[3:]
BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds

G, C, H = "gauge", "counter", "histogram"
_AGENT = ("agent",)
_COMPANION = ("companion",)
_WORKER = ("worker",)

METRICS = (
    # the agent that runs: gone with it
    Metric(
        "agent_tree_rss_bytes", G,
        "Memory of the running agent's tree, as its limits count it: resident without pages of files, shared memory"
        " once. It can be below PSS, which has its part of those files.",
        _AGENT,
    ),
    Metric("agent_tree_rss_recent_max_bytes", G, "Highest sample of the tree in the last 60 s.", _AGENT),
    Metric("agent_tree_pss_bytes", G, "Proportional set size of the tree; not told above 64 processes.", _AGENT),
    Metric("agent_tree_swap_bytes", G, "Swapped memory of the tree; not told above 64 processes.", _AGENT),
    Metric(
        "agent_process_rss_bytes", G, "Memory of the tree by program: the five largest and other, which add up to it.",
        ("agent", "process"),
    ),
    Metric("agent_processes", G, "Processes in the tree.", _AGENT),
    Metric("nodejs_heap_size_used_bytes", G, "V8 heap in use, of the agent's main Node process.", _AGENT),
    Metric("nodejs_heap_size_total_bytes", G, "V8 heap reserved.", _AGENT),
    Metric("nodejs_heap_size_limit_bytes", G, "V8 heap limit.", _AGENT),
    Metric("nodejs_external_memory_bytes", G, "Memory of objects outside the V8 heap that it holds on to.", _AGENT),
    Metric("nodejs_array_buffers_bytes", G, "Memory of ArrayBuffers and Buffers; part of external.", _AGENT),
    # each agent, always
    Metric("agent_memory_limit_bytes", G, "memory.hard of the profile.", _AGENT),
    Metric("agent_memory_gc_threshold_bytes", G, "memory.soft of the profile: from here on something is done.", _AGENT),
    Metric("agent_tree_rss_peak_bytes", G, "Highest memory of all attempts in this run.", _AGENT),
    Metric("agent_status", G, "1 for the state that the agent is in, 0 for the others.", ("agent", "status"), STATES),
    Metric("agent_starts_total", C, "Attempts started.", _AGENT),
    Metric("agent_exits_total", C, "Attempts ended, by reason.", ("agent", "reason"), EXITS),
    Metric("agent_kills_total", C, "Attempts that seqsup stopped, by reason.", ("agent", "reason"), KILLS),
    Metric("agent_tools_killed_total", C, "Processes of tools that were killed to spare the agent.", _AGENT),
    Metric("agent_kill_escalations_total", C, "Attempts whose tree needed SIGKILL after its grace.", _AGENT),
    Metric("agent_retries_total", C, "Further attempts scheduled.", _AGENT),
    Metric("agent_run_seconds_total", C, "Wall time in attempts.", _AGENT),
    Metric("agent_last_run_duration_seconds", G, "Wall time of the last attempt.", _AGENT),
    Metric("agent_last_run_exit_code", G, "Exit code of the last attempt; 128+n for signal n.", _AGENT),
    Metric("agent_last_start_timestamp_seconds", G, "When the last attempt began.", _AGENT),
    Metric("agent_last_end_timestamp_seconds", G, "When the last attempt ended.", _AGENT),
    Metric("agent_last_success_timestamp_seconds", G, "When the agent last completed.", _AGENT),
    Metric("agent_last_kill_timestamp_seconds", G, "When the agent was last stopped.", ("agent", "reason")),
    # each agent whose CLI reports its conversation
    Metric("agent_turns_total", C, "Requests to the model that it answered.", _AGENT),
    Metric("agent_tokens_total", C, "Tokens by kind; input is what no cache had.", ("agent", "kind"), TOKENS),
    Metric("agent_cost_usd_total", C, "Cost that the agent's CLI reported, in USD.", _AGENT),
    Metric("usage_limit_ratio", G, "Share used of the provider's usage limit, as the agent's CLI reported it.", _AGENT),
    # collections, drains, leftovers
    Metric(
        "gc_requests_total", C, "Collections asked for, by what came of them.", ("agent", "result"), tuple(Collected),
    ),
    Metric("gc_freed_bytes_total", C, "Memory gone after collections.", _AGENT),
    Metric("agent_last_gc_timestamp_seconds", G, "When a collection was last asked for.", _AGENT),
    Metric("drain_duration_seconds", H, "Time from an attempt's end until memory was back.", ("result",), DRAINS),
    Metric("drain_baseline_bytes", G, "What the run held before its first agent."),
    Metric("drain_residual_bytes", G, "What it held beyond that after the last drain."),
    Metric("leftover_processes_reaped_total", C, "Processes left behind and stopped.", ("agent", "how"), tuple(Swept)),
    Metric("leftover_processes", G, "Processes that took SIGKILL and are still there."),
    Metric("sequence_violations_total", C, "Pairs of attempts that ran at the same time in one lane; must stay 0."),
    # run and queue
    Metric("phase", G, "1 for what the supervisor does, 0 for the others.", ("phase",), tuple(RunPhase)),
    Metric("queue_agents", G, "Agents by state; they add up to the plan.", ("status",), STATES),
    Metric("runs_total", C, "Runs ended, by outcome. What was refused is none.", ("outcome",), RUNS),
    Metric("run_duration_seconds", G, "Duration of the run, once it ended."),
    Metric("run_concurrency", G, "Agents at a time; more than 1 is at the user's risk."),
    Metric("run_start_timestamp_seconds", G, "When the run began, with its label such as r42.", ("run",)),
    Metric("run_end_timestamp_seconds", G, "When the run ended."),
    Metric("run_last_success_timestamp_seconds", G, "When a run last completed: what to alert on."),
    # companions
    Metric("companion_up", G, "1 while the companion lives.", _COMPANION),
    Metric("companion_tree_rss_bytes", G, "Memory of the companion's tree.", _COMPANION),
    Metric("companion_restarts_total", C, "Restarts of the companion, by reason.", ("companion", "reason"), RESTARTS),
    Metric(
        "companion_gc_requests_total", C, "Collections requested from the companion, by result.",
        ("companion", "result"), tuple(Collected),
    ),
    Metric("companion_agents_since_restart", G, "Agents that ended since it was last started.", _COMPANION),
    Metric("companion_last_restart_timestamp_seconds", G, "When it was last started again.", _COMPANION),
    # host, sampler, build
    Metric("host_memory_total_bytes", G, "Memory of the machine, or of the container where that has less."),
    Metric("host_memory_available_bytes", G, "MemAvailable of the machine, or what its container has left, if less."),
    Metric("host_swap_used_bytes", G, "Swap in use."),
    Metric("host_pressure_memory_waiting_seconds_total", C, "Time in which some task waited for memory."),
    Metric("host_pressure_memory_stalled_seconds_total", C, "Time in which all tasks waited for memory."),
    Metric("host_oom_kills_total", C, "Kills by the kernel because memory was short, since boot."),
    Metric("samples_total", C, "Looks at an agent's tree."),
    Metric("sample_duration_seconds", G, "Duration of the last look."),
    Metric("last_sample_timestamp_seconds", G, "Time of the last measurement. It must advance while an agent runs."),
    Metric("containment_info", G, "What keeps an agent's tree together on this machine.", ("tier",)),
    Metric("build_info", G, "What runs here.", ("version", "python_version")),
)  # fmt: skip
# Of `seqsup work --listen`
OF_QUEUE = (
    # the queue: each worker tells the same
    Metric("queue_jobs", G, "Jobs by state.", ("state",), JOBS, QUEUE),
    Metric("queue_oldest_wait_seconds", G, "How long the oldest ready job has waited; 0 if none is ready.", of=QUEUE),
    Metric("queue_paused", G, "1 while the queue is paused.", of=QUEUE),
    Metric("queue_workers", G, "Workers of the queue that live.", of=QUEUE),
    # the worker that is scraped
    Metric("worker_slots", G, "Jobs that the worker runs at a time, at most.", _WORKER, of=QUEUE),
    Metric("worker_jobs", G, "Jobs that the worker runs.", _WORKER, of=QUEUE),
    Metric("worker_jobs_ended_total", C, "Jobs that ended here, by state.", ("worker", "state"), JOB_ENDS, QUEUE),
    Metric("worker_last_heartbeat_timestamp_seconds", G, "When the queue last answered the worker.", _WORKER, of=QUEUE),
    Metric("worker_jobs_rescued_total", C, "Jobs of lost workers that this one rescued.", _WORKER, of=QUEUE),
    Metric("worker_last_rescue_timestamp_seconds", G, "When it last rescued one.", _WORKER, of=QUEUE),
    Metric(
        "worker_jobs_given_up_total", C, "Jobs that failed because they lost too many workers, as this one found.",
        _WORKER, of=QUEUE,
    ),
    Metric("worker_last_given_up_timestamp_seconds", G, "When it last found one.", _WORKER, of=QUEUE),
    Metric("worker_info", G, "What the worker is.", ("worker", "version"), of=QUEUE),
)  # fmt: skip
# Of the supervisor itself. A scrape has them, and more, from the library
PROCESS = (
    Metric("process_resident_memory_bytes", G, "Resident memory size in bytes."),
    Metric("process_cpu_seconds_total", C, "Total user and system CPU time spent in seconds."),
)
BY_NAME = {metric.name: metric for metric in (*METRICS, *OF_QUEUE, *PROCESS)}


def full_name(metric: Metric) -> str:
    return metric.name if metric in PROCESS else f"seqsup_{metric.name}"
