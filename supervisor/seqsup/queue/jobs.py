"""Values of the queue: a job, its order, its states and its result. Times are seconds of the epoch."""

from enum import StrEnum

import msgspec
from msgspec import Struct

SCHEMA = 1  # of an order; an older worker leaves orders of a newer schema alone
MAX_LOST = 2  # machines, or supervisors, that a job may outlive
LOWEST, HIGHEST = -100, 100  # priorities


class JobState(StrEnum):
    WAITING = "waiting"  # for its time, or for other jobs
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class CommandOptions(Struct, frozen=True, kw_only=True):
    """The options of `seqsup run` that `seqsup add` has too, as typed."""

    preset: str | None = None
    model: str | None = None
    name: str | None = None
    soft: str | None = None
    hard: str | None = None
    retries: int = 0
    timeout: str | None = None


class Order(Struct, frozen=True, kw_only=True):
    """What a worker is to carry out: a profile, or one command. It travels to the worker as JSON."""

    folder: str  # where relative paths begin, on the machine that it was added on
    profile: str | None = None  # the text of the profile; None: `command`
    path: str | None = None  # of the profile, on the machine that it was added on
    task: str = ""
    only: tuple[str, ...] = ()
    items: dict[str, str] | None = None  # copies of for_each with their items, of a job made by --spread
    command: tuple[str, ...] = ()  # or the words of a prompt, if options.preset is set
    options: CommandOptions = CommandOptions()
    workspace: str | None = None  # GIT[@REF]; it wins over that of the profile
    files: dict[str, bytes] = {}  # small files that the profile names: relative path -> content
    origin: str = ""  # id of the machine that it was added on: elsewhere `folder` means nothing
    schema: int = SCHEMA


class NewJob(Struct, frozen=True, kw_only=True):
    """A job to be added. Numbers in `after` below zero mean earlier jobs of the same call: -1 is its first."""

    name: str
    order: Order
    priority: int = 0
    not_before: float | None = None
    after: tuple[int, ...] = ()
    by: str = ""  # user@host that added it


class Job(Struct, frozen=True, kw_only=True):
    """A job as the queue knows it."""

    number: int
    name: str
    state: JobState
    priority: int
    added: float
    by: str
    not_before: float | None
    after: tuple[int, ...]  # jobs that it needs; it is ready once all of them are done
    lost: int  # machines that it has outlived
    stop_wanted: bool = False  # it is running and was asked to end
    worker: str | None = None  # that runs it or ran it
    run: str | None = None  # its run there, such as r42
    cookie: str | None = None  # of its run, by which the machine that has the run knows it
    state_dir: str | None = None  # there
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    why: str = ""  # why it ended so, waits, or runs again
    note: str = ""  # what its worker last said of it: the agent and how near to its limit

    @property
    def label(self) -> str:
        return job_label(self.number)


class Taken(Struct, frozen=True, kw_only=True):
    """A job in a worker's hands. `token` fences it: a later taker has another one."""

    number: int
    name: str
    order: Order
    token: str
    cookie: str  # of its run; a job that runs again keeps it, so that the same machine finds the run
    lost: int
    resumed: bool = False  # this worker had it before, and its run may exist already
    retried: float | None = None  # when `retry` made it ready: an end of its run before that does not count


class JobResult(Struct, frozen=True, kw_only=True):
    """How a job's run ended. Exit code 0: done; any other: failed, unless its stop was requested."""

    exit_code: int
    run: str | None
    why: str = ""
    cancelled: bool = False  # it ended because the job was dropped
    seconds: float | None = None
    branches: tuple[str, ...] = ()  # lines on the work that it leaves in git

    @property
    def state(self) -> JobState:
        if self.cancelled:
            return JobState.CANCELLED
        return JobState.FAILED if self.exit_code else JobState.DONE


def job_label(number: int) -> str:
    return f"#{number}"


def encode(order: Order) -> bytes:
    return msgspec.json.encode(order)
