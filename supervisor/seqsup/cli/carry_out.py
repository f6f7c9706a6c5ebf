"""What a worker does for a job: it starts the process of the job, and passes on news and requests to stop."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from seqsup.cli.job_process import JobStart, Line
from seqsup.cli.job_starter import Child, start_job
from seqsup.host.slim_asyncio import asyncio
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.queue.jobs import JobResult, Taken, job_label
from seqsup.queue.store import Lease, Unfinished
from seqsup.runner.run_plan import queue_up
from seqsup.runner.stop_request import StopRequest
from seqsup.state.turn import Ticket, introduced
from seqsup.units import format_duration

_LOOK = 0.2  # seconds between two looks at what is wanted
_LAST_WORDS = 5.0  # seconds that lines of a process that has ended may take
_LONGEST_LINE = 1024 * 1024  # bytes
_SIGNALS = {Halt.AFTER_AGENT: signal.SIGUSR1, Halt.NOW: signal.SIGTERM, Halt.KILL: signal.SIGINT}

Say = Callable[[str, str, str], None]
"""Say a message for people, with the word by which programs know it, and the label of its run, if any."""


class LentTurn:
    """The machine's turn for several runs at a time. A run that waits outside lets no further one join them."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._ticket: Ticket | None = None
        self._users = 0
        self._wake = Wake()

    async def enter(self, stop: StopRequest) -> tuple[int, int] | None:
        """Return the place of the next run; None: a stop was requested first."""
        wake = self._wake.branch()
        while self._ticket is not None and self._ticket.awaited():
            if stop.halt:
                return None
            await wake.wait(_LOOK)
        if self._ticket is None:
            self._ticket = queue_up(introduced(f"worker {self._worker}"))
        self._users += 1
        return self._ticket.pass_on()

    def leave(self) -> None:
        self._users -= 1
        if not self._users and self._ticket is not None:
            self._ticket.leave()
            self._ticket = None
            self._wake.poke()


class Carrier:
    """Carries out the jobs of a worker, each in a process of its own."""

    def __init__(
        self, stop: StopRequest, say: Say, turn: LentTurn | None, *, log_level: str | None, log_json: bool
    ) -> None:  # fmt: skip
        """Without a `turn` each run takes one of its own."""
        self._stop, self._say, self._turn = stop, say, turn
        self._log_level, self._log_json = log_level, log_json
        self.failed = 0  # jobs

    async def __call__(self, lease: Lease) -> JobResult:
        """Carry a job out. Unfinished: this worker stops, or the supervisor of the run was killed."""
        if self._turn is None:
            return await self._carry_out(lease, None)
        place = await self._turn.enter(self._stop)
        if place is None:
            raise Unfinished("its worker stopped before it started")
        try:
            return await self._carry_out(lease, place)
        finally:
            self._turn.leave()

    async def _carry_out(self, lease: Lease, place: tuple[int, int] | None) -> JobResult:
        start = JobStart(
            taken=lease.taken,
            place=place,
            lease_file=lease.lease_file,
            log_level=self._log_level,
            log_json=self._log_json,
        )
        job = _Job(lease, await start_job(start), self._stop, self._say)
        began = time.monotonic()
        try:
            await job.watch()
            result = job.result()
        except Unfinished as why:
            job.say(f"not finished: {why}", "job_unfinished")
            raise
        finally:
            job.close()
        self.failed += result.exit_code != 0 and not result.cancelled
        seconds = time.monotonic() - began if result.seconds is None else result.seconds
        said = f": {result.why}" if result.why else ""
        job.say(f"{result.state} after {format_duration(seconds)}{said}", f"job_{result.state}")
        return result


class _Job:
    """One job in the hands of this worker."""

    def __init__(self, lease: Lease, child: Child, stop: StopRequest, say: Say) -> None:
        self._lease, self._child, self._stop, self._say = lease, child, stop, say
        self._sent, self._asked = Halt.NONE, Halt.NONE  # `asked`: by the queue
        self._run, self._last = "", Line()

    @property
    def _taken(self) -> Taken:
        return self._lease.taken

    def say(self, message: str, event: str) -> None:
        self._say(f"{job_label(self._taken.number)} {self._taken.name}: {message}", event, self._run)

    async def watch(self) -> None:
        """Follow the process until its last line or its end."""
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._child.lines
        )
        reading = asyncio.create_task(self._read(reader))
        try:
            while not reading.done() and not self._child.gone():
                self._ask()
                await asyncio.wait([reading], timeout=_LOOK)
            await asyncio.wait([reading], timeout=_LAST_WORDS)
        finally:
            reading.cancel()
            transport.close()
        with suppress(asyncio.CancelledError):
            await reading

    def _ask(self) -> None:
        """Pass on what the queue or this worker's user wants, each more urgent request once."""
        self._asked = max(self._asked, self._lease.wanted())
        halt = max(self._asked, self._stop.halt)
        if halt > self._sent:
            self._sent = halt
            if halt is Halt.KILL:  # a Ctrl-C kills only after another request
                self._child.signal(signal.SIGTERM)
            self._child.signal(_SIGNALS[halt])

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while text := await reader.readline():
            try:
                line = msgspec.json.decode(text, type=Line)
            except msgspec.DecodeError:  # cut by a kill
                return
            if line.result is not None:
                self._last = line
                return
            self._hear(line)

    def _hear(self, line: Line) -> None:
        if line.run is not None:
            self._run = line.run
            self._lease.begin(line.run, line.state_dir or "")
            self.say(f"{line.began} {line.run}", "job_started")
        if line.note:
            self._lease.note(line.note)
        if line.said:
            self.say(line.said, "notice")

    def result(self) -> JobResult:
        """Return how the job ended. Unfinished: it did not."""
        last = self._last
        if last.result is None:
            said = self._child.said()
            raise Unfinished("its supervisor was killed" + (f": {said}" if said else ""), lost=True)
        if not last.stopped:
            return last.result
        if self._stop.halt and not self._asked:
            raise Unfinished("its worker stopped; a worker resumes it")
        return msgspec.structs.replace(last.result, cancelled=True)

    def close(self) -> None:
        self._child.close()
