"""The dashboard "seqsup: fleet"."""

from typing import Any

from board import (
    NONE,
    PROCESS,
    Json,
    blank,
    columns_of,
    dashed,
    finished,
    lines,
    marks,
    number,
    query,
    row,
    shades,
    stacked,
    steps,
    variable,
)
from grafana_foundation_sdk.models import common as c

QUEUE = f'{PROCESS},queue=~"$queue"'
WORKER = f'{QUEUE},worker=~"$worker"'
JOBS = "Jobs by state"


def jobs(state: str) -> str:
    """All workers of a queue tell the same of it."""
    return f'sum(max by (queue) (seqsup_queue_jobs{{{QUEUE},state="{state}"}}))'


def ended(state: str) -> str:
    return f'sum(round(increase(seqsup_worker_jobs_ended_total{{{WORKER},state="{state}"}}[$__range])))'


def now() -> list[Any]:
    oldest = f"max(seqsup_queue_oldest_wait_seconds{{{QUEUE}}})"
    slots, running = (f"sum(seqsup_worker_{of}{{{WORKER}}})" for of in ("slots", "jobs"))
    lost, poison = (
        f"sum(round(increase(seqsup_worker_jobs_{what}_total{{{WORKER}}}[$__range])))"
        for what in ("rescued", "given_up")
    )
    bad = steps((None, "text"), (1, "red"))
    none = steps((None, "red"), (1, "text"))
    return [
        number(
            0, "Ready", "Jobs that wait for a worker, and jobs that wait for their time or for other jobs.", "none",
            query(jobs("ready"), "ready", instant=True), query(jobs("waiting"), "waiting", instant=True), colours=NONE,
        ).text_mode(c.BigValueTextMode.VALUE_AND_NAME),
        number(
            3, "Oldest wait", "How long the oldest ready job has waited.", "s", query(oldest, instant=True),
            colours=steps((None, "text"), (3600, "orange"), (6 * 3600, "red")),
        ),
        number(
            6, "Workers", "Workers that live, as the queue knows them.", "none",
            query(f"sum(max by (queue) (seqsup_queue_workers{{{QUEUE}}}))", instant=True), colours=none,
        ),
        number(
            9, "Slots in use", "Jobs that run, as a share of the slots of all workers.", "percentunit",
            query(f"{running} / {slots}", instant=True), colours=NONE,
        ),
        number(12, "Done", "Jobs done in this time.", "none", query(ended("done"), instant=True), colours=NONE),
        number(15, "Failed", "Jobs failed in this time.", "none", query(ended("failed"), instant=True), colours=bad),
        number(
            18, "Lost and poison",
            "Jobs of lost workers that another one rescued in this time, and jobs that lost too many.", "none",
            query(lost, "rescued", instant=True), query(poison, "poison", instant=True), colours=bad,
        ).text_mode(c.BigValueTextMode.VALUE_AND_NAME),
        number(
            21, "Paused", "Queues that are paused: their workers take no jobs.", "none",
            query(f"sum(max by (queue) (seqsup_queue_paused{{{QUEUE}}}))", instant=True),
            colours=steps((None, "text"), (1, "orange")),
        ),
    ]  # fmt: skip


def over_time() -> list[Any]:
    by_state = f'sum by (state) (max by (queue, state) (seqsup_queue_jobs{{{QUEUE},state=~"waiting|ready|running"}}))'
    slots, running = (f"sum(seqsup_worker_{of}{{{WORKER}}})" for of in ("slots", "jobs"))
    return [
        stacked(lines(
            0, 4, 16, 9, JOBS,
            "Jobs that are not over. Orange marks: a job of a lost worker was rescued. Red ones: a poison job was given"
            " up.", "none",
            query(by_state, "{{state}}"),
        )),
        lines(
            16, 4, 8, 9, "Oldest wait over time", "How long the oldest ready job of each queue has waited.", "s",
            query(f"max by (queue) (seqsup_queue_oldest_wait_seconds{{{QUEUE}}})", "{{queue}}"),
        ),
        stacked(lines(
            0, 13, 16, 8, "Jobs ended in the last hour", "Jobs that ended in the hour before, by state.", "none",
            query(f"sum by (state) (increase(seqsup_worker_jobs_ended_total{{{WORKER}}}[1h]))", "{{state}}"),
        )),
        lines(
            16, 13, 8, 8, "Slots", "Jobs that run, and the slots of all workers.", "none",
            query(running, "in use"), query(slots, "slots"),
        ).override_by_name("slots", dashed("orange")),
    ]  # fmt: skip


def workers() -> list[Any]:
    counted = "sum by (worker) (round(increase(seqsup_worker_jobs_{}[$__range])))"
    columns = {
        "slots": f"sum by (worker) (seqsup_worker_slots{{{WORKER}}})",
        "running": f"sum by (worker) (seqsup_worker_jobs{{{WORKER}}})",
        "done": counted.format(f'ended_total{{{WORKER},state="done"}}'),
        "failed": counted.format(f'ended_total{{{WORKER},state="failed"}}'),
        "rescued": counted.format(f"rescued_total{{{WORKER}}}"),
        "last heartbeat, ago": "time() - max by (worker) "
        f"(last_over_time(seqsup_worker_last_heartbeat_timestamp_seconds{{{WORKER}}}[$__range]))",
        "up": f"max by (worker, version) (seqsup_worker_info{{{WORKER}}})",
    }
    of_workers = f"and on (job, instance) seqsup_worker_info{{{WORKER}}}"
    return [
        columns_of(
            0, 22, 24, 10, "Workers in this time", "Each worker. One without slots is gone.", "worker",
            columns, {"last heartbeat, ago": "s"},
        ),
        lines(
            0, 32, 8, 8, "Jobs by worker", "Jobs that each worker runs.", "none",
            query(f"sum by (worker) (seqsup_worker_jobs{{{WORKER}}})", "{{worker}}"),
        ).color_scheme(shades()),
        lines(
            8, 32, 8, 8, "CPU of workers", "Share of one core that each worker uses, without the runs of its jobs.",
            "percentunit",
            query(f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval]) {of_workers}", "{{instance}}"),
        ).color_scheme(shades()),
        lines(
            16, 32, 8, 8, "Memory of workers", "Resident memory of each worker, without the runs of its jobs.", "bytes",
            query(f"process_resident_memory_bytes{{{PROCESS}}} {of_workers}", "{{instance}}"),
        ).color_scheme(shades()),
    ]  # fmt: skip


def build() -> Json:
    made = (
        blank(
            "seqsup: fleet", "seqsup-fleet", "What waits in the queue, which workers run it, and which were lost.",
            "queue", "fleet",
        )
        .with_variable(variable("job", "Job", "label_values(seqsup_worker_info, job)"))
        .with_variable(variable("instance", "Instance", 'label_values(seqsup_worker_info{job=~"$job"}, instance)'))
        .with_variable(variable("queue", "Queue", f"label_values(seqsup_worker_info{{{PROCESS}}}, queue)"))
        .with_variable(variable("worker", "Worker", f"label_values(seqsup_worker_info{{{QUEUE}}}, worker)"))
    )  # fmt: skip
    for name, colour, what in (("Rescues", "orange", "rescue"), ("Poison jobs", "red", "given_up")):
        metric = f"seqsup_worker_last_{what}_timestamp_seconds{{{WORKER}}}"
        made = made.annotation(marks(name, colour, metric, "{{worker}}", shown=True))
    return finished(made, [*now(), *over_time(), row(21, "Workers"), *workers()], JOBS)
