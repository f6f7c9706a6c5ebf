"""`seqsup work`: take jobs from the queue, and carry them out."""

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import click

from seqsup.cli.arguments import log_options, queue_option, whole
from seqsup.cli.carry_out import Carrier, LentTurn
from seqsup.cli.job_starter import prepare
from seqsup.host.slim_asyncio import asyncio
from seqsup.model.enums import Halt
from seqsup.model.profile import address
from seqsup.policy.usage import is_open
from seqsup.queue.address import HERE, open_queue
from seqsup.queue.exporter import WorkerExporter, counted
from seqsup.queue.store import Queue
from seqsup.runner.stop_request import StopRequest
from seqsup.runner.supervisor import SIGNALS, must_be_outside
from seqsup.text import message
from seqsup.units import parse_window

_STOPS = {
    Halt.AFTER_AGENT: "takes no further job, and stops after the running agent; again: stops it now",
    Halt.NOW: "stops the running agent now, with its grace period; again: kills it",
    Halt.KILL: "kills the running agent",
}


def window(value: str) -> str:
    try:
        parse_window(value)
    except ValueError as error:
        raise click.BadParameter(str(error).split("\n")[0]) from None
    return value


def listen_at(value: str) -> str | None:
    try:
        return address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(short_help="Take jobs from the queue, and carry them out.")
@click.option("--slots", type=whole(1, 1000), metavar="N", default="1", show_default=True, help="Jobs at a time.")
@click.option("--until-empty", is_flag=True, help="Exit once no job can start by itself. Exit code 1: a job failed.")
@click.option("--window", type=window, metavar="FROM-TO", help="Take jobs only between these times: 22:00-07:00.")
@click.option("--name", metavar="NAME", help="Name of this worker. Default: the name of the machine.")
@queue_option
@click.option(
    "--listen", type=listen_at, metavar="HOST:PORT", help="Serve metrics of worker and queue: 127.0.0.1:9473."
)
@log_options
def work(
    slots: int, until_empty: bool, window: str | None, name: str | None, url: str | None, listen: str | None,
    log_level: str | None, log_format: str,
) -> int:  # fmt: skip
    """Take one job after another from the queue, and carry each out as `seqsup start` would.

    \b
    Ctrl-C, SIGTERM   take no further job, and stop after the running agent
    twice             stop it now with its grace period
    three times       kill

    A job that was stopped so is not over: the next worker resumes it. If a worker is killed, its runs continue, and the
    next worker of its name waits for them. A running job may end after --window.

    With several --slots the agents of several jobs run at the same time. Each starts only if the memory that it needs
    is available.
    """
    must_be_outside()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until they are heard
    prepare()
    with closing(open_queue(url)) as queue, ExitStack() as ends:
        worker = _Worker(name or default_name(), queue, as_json=log_format == "json")
        if listen is not None:
            ends.enter_context(worker.metrics(listen, lambda: open_queue(url)))
        return asyncio.run(
            worker.serve(slots=slots, until_empty=until_empty, window=window, log_level=log_level and log_level.upper())
        )


def default_name() -> str:
    """Return the name of the machine."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:63] or "worker"


class _Worker:
    def __init__(self, name: str, queue: Queue, *, as_json: bool) -> None:
        self._name, self._queue, self._as_json = name, queue, as_json
        self._stop = StopRequest()

    @contextmanager
    def metrics(self, listen: str, another: Callable[[], Queue]) -> Iterator[None]:
        """Serve metrics meanwhile. PortTaken: the address is not available. `another` opens the queue once more."""
        queue = default_name() if self._queue.address == HERE else self._queue.address
        exporter = WorkerExporter(listen, queue, self._name, self._queue.figures, another)
        self._say(f"metrics at http://{exporter.open()}/metrics", "metrics_served")
        try:
            yield
        finally:
            exporter.close()

    async def serve(self, *, slots: int, until_empty: bool, window: str | None, log_level: str | None) -> int:
        """Take jobs until the end, and return the exit code."""
        self._listen()
        turn = LentTurn(self._name) if slots > 1 else None
        carrier = Carrier(self._stop, self._say, turn, log_level=log_level, log_json=self._as_json)
        several = f", {slots} at a time" if slots > 1 else ""
        between = f", from {window.replace('-', ' to ')}" if window is not None else ""
        takes = f"worker {self._name} takes jobs{several}{between} (queue: {self._queue.address})"
        told = asyncio.get_running_loop().call_soon(self._say, takes, "worker_started")  # once the queue has let it in
        self._queue.figures.slots = slots
        self._queue.say = lambda said: self._say(said, "queue")
        counting = counted(carrier, self._queue.figures)
        try:
            await self._queue.serve(
                self._name, counting, slots=slots, until_empty=until_empty,
                open_now=lambda: window is None or is_open(window, time.time()), stop=self._stop,
            )  # fmt: skip
        finally:
            told.cancel()
        if self._stop.signal is not None:
            return 128 + self._stop.signal
        return 1 if until_empty and carrier.failed else 0

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # under nohup, or behind the & of a script
                loop.add_signal_handler(signum, self._stop.interrupt, signum)
        self._stop.subscribe(lambda asked: self._say(f"worker {self._name} {_STOPS[asked.halt]}", "worker_stops"))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _say(self, text: str, event: str, run: str = "") -> None:
        if self._as_json:
            from seqsup.view.log import spoken

            click.echo(spoken(text, event, run=run), err=True)
        else:
            click.echo(message(text), err=True)
