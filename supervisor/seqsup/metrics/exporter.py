"""The figures' way out: a reader of events and samples, and whatever the profile wants them served by."""

import contextlib
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seqsup import __version__
from seqsup.metrics import figures
from seqsup.metrics.endpoint import Endpoint, PortTaken
from seqsup.metrics.files import publish, targets
from seqsup.metrics.host_figures import look
from seqsup.metrics.rows import Row, rows
from seqsup.model.events import Recorded
from seqsup.model.plan import Plan
from seqsup.model.process import Observation
from seqsup.model.run_view import RunView

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

EVERY = 15.0  # seconds between two textfiles, or two pushes
_SHARED = 64  # processes whose proportional share a scrape reads: a Node's costs 0.8 ms
_PUSH_TIMEOUT = 5.0  # seconds
_LAST_WRITE = 10.0  # seconds that the last textfile and push may take


class Exporter:
    def __init__(
        self, plan: Plan, baseline: int, last_success: float | None, warn: Callable[[str], None],
        bounds: Callable[[], Iterable[tuple[int, int]]] = tuple,
    ) -> None:  # fmt: skip
        """`baseline` is what the supervisor holds now, in bytes; `last_success` is when a run of this profile last
        completed, in seconds since the epoch; `warn` may be called from any thread; `bounds` gives limit and room of
        each group with one that we live in."""
        self._wanted, self._profile, self._warn, self._bounds = plan.metrics, plan.name, warn, bounds
        self._figures = replace(figures.begin(plan, baseline), last_success=last_success)
        self._view = RunView()
        self._warned: set[str] = set()
        self._endpoint: Endpoint | None = None
        if listen := plan.metrics.listen:
            self._endpoint = Endpoint(listen, self._application)
        self._over = threading.Event()
        self._writer: threading.Thread | None = None

    def open(self) -> None:
        """Start to serve; PortTaken if the port is in use and the profile requires it."""
        wanted = self._wanted
        if self._endpoint is not None:
            try:
                self._endpoint.bind()
            except PortTaken as taken:
                if wanted.required:
                    raise PortTaken(
                        f"{taken}, and metrics.required is set: free it, or choose another address"
                    ) from None
                self._complain(f"{taken}; the run continues, and serves metrics once {taken.until}")
            self._endpoint.serve()
        if wanted.textfile or wanted.pushgateway or wanted.file_sd:
            self._writer = threading.Thread(target=self._write_on, name="metrics-writer", daemon=True)
            self._writer.start()

    @property
    def address(self) -> str | None:
        """Where figures are served now, if anywhere."""
        return self._endpoint.address if self._endpoint is not None else None

    # -- called for events

    def follow(self, view: RunView) -> None:
        """Follow the view of the run that starts: it is up to date at each event."""
        self._view = view

    def __call__(self, recorded: Recorded) -> None:
        self._figures = figures.apply(self._figures, recorded, self._view)

    def observe(self, seen: Observation) -> None:
        self._figures = figures.observe(self._figures, seen, time.time())

    def weigh(self, companion: tuple[str, int]) -> None:
        self._figures = figures.weigh(self._figures, *companion)

    # -- called by readers

    def _rows(self) -> Iterator[Row]:
        now = self._figures  # once: a scrape is of one moment
        trees = {name: live.pids for name, live in now.live.items() if live.processes == len(live.pids) <= _SHARED}
        return rows(now, look(trees, self._bounds()), (__version__, platform.python_version()))

    def _application(self) -> "WSGIApplication":
        from seqsup.metrics.exposition import Collector, application

        return application(Collector(self._profile, self._scraped))

    def _scraped(self) -> list[Row]:
        try:
            return list(self._rows())
        except Exception as error:  # the reader gets 500, and no details
            self._complain(f"metrics: {error!r}")
            raise

    def _write_on(self) -> None:
        """Write textfile and pushes now and then, and a last time after the last event."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as in the endpoint's thread
        self._announce()
        while not self._over.wait(EVERY):
            self._write()
            self._announce()
        self._write()

    def _announce(self) -> None:
        path, address = self._wanted.file_sd, self.address
        if path and address and not self._over.is_set():
            with self._complaining(f"metrics.file_sd {path}"):
                publish(Path(path), targets(address, self._profile))

    def _write(self) -> None:
        if not (self._wanted.textfile or self._wanted.pushgateway):
            return
        from seqsup.metrics.exposition import Collector, push, text

        listed = list(self._rows())
        collector = Collector(self._profile, lambda: listed)
        if path := self._wanted.textfile:
            with self._complaining(f"metrics.textfile {path}"):
                publish(Path(path), text(collector))
        if gateway := self._wanted.pushgateway:
            with self._complaining(f"metrics.pushgateway {gateway}"):
                push(collector, gateway, self._profile, _PUSH_TIMEOUT)

    @contextlib.contextmanager
    def _complaining(self, of: str) -> Iterator[None]:
        """Report each failure of the metrics once. They never fail the run."""
        try:
            yield
        except Exception as error:
            reason = getattr(error, "reason", None)  # of urllib's
            cause = reason if isinstance(reason, OSError) else error
            self._complain(f"{of}: {getattr(cause, 'strerror', None) or cause}")

    def _complain(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)

    # -- the end

    def stop_serving(self) -> None:
        """Give up the port; the writer then writes for the last time."""
        if self._over.is_set():
            return
        self._over.set()
        if self._wanted.file_sd:
            with contextlib.suppress(OSError):
                Path(self._wanted.file_sd).unlink()
        if self._endpoint is not None:
            self._endpoint.close()

    def close(self) -> None:
        """Stop serving, if it still does, and wait for the writer."""
        self.stop_serving()
        if self._writer is not None:
            self._writer.join(_LAST_WRITE)
