"""The log: the line of each event, short on the terminal, whole in the run's folder. Nothing else knows loguru."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec
from loguru import logger

from seqsup.model.enums import DEBUG, ERROR, INFO
from seqsup.model.events import Recorded, RunStarted, about
from seqsup.text import columns, cut, labelled, mark, printable, wrap
from seqsup.view.canvas import Canvas
from seqsup.view.messages import SUCCESS, say
from seqsup.view.ndjson import kind, timestamp
from seqsup.view.nonblocking import NonblockingWriter
from seqsup.view.screen import Screen
from seqsup.view.terminal import colourful, symbols

if TYPE_CHECKING:
    import loguru

FILE = "seqsup.log"
_ROTATION, _RETENTION = "16 MB", 4  # of a run's file: 80 MB at most
_JSON = "{extra[json]}"
_SHORT = "{extra[clock]} <level>{extra[mark]}</level> {extra[column]}  {message}\n"
_WHOLE = "{extra[time]} {level: <7} {extra[run]} {extra[place]} {message}{extra[more]}"
_ROOM = 40  # columns: text is not squeezed into less for the sake of a deeper indent
_LITTLE = 12  # columns: fewer hold no details worth reading
_LONGEST, _SHARE = 20, 5  # columns of names, and which part of the terminal they may take


class Log:
    """A reader of events. One at a time in a process: loguru has one list of sinks."""

    def __init__(
        self, folder: Path | None, *, terminal: TextIO | None = sys.stderr, quiet: bool = False,
        screen: Screen | None = None, level: str | None = None, as_json: bool = False,
    ) -> None:  # fmt: skip
        """`screen` is the terminal's, where its last lines are redrawn. `level` is the least that the terminal shows,
        one of `line.LEVELS`; with `as_json` each line is an object, on the terminal and in the file."""
        logger.remove()
        self._as_json = as_json
        self._outlet: NonblockingWriter | Screen | None = None
        self._terminal = terminal if terminal is not None and terminal.isatty() and not as_json else None
        self._encoding = "utf-8"
        self._names = 10  # columns
        self._columns = 0  # of the terminal as the last line was written; 0: there is none
        self._run = ""
        self._labels: dict[str, str] = {}  # what people know agents by
        if terminal is not None:
            self._encoding = symbols(terminal)
            least = level or (ERROR if quiet else INFO)
            twice = ("table",) if least == ERROR else ("table", "told")  # what other lines say
            self._codec = ("utf-8", "replace") if as_json else (terminal.encoding, terminal.errors or "replace")
            self._outlet = screen or NonblockingWriter(terminal.fileno())
            logger.add(
                self._to_terminal,
                format=_JSON if as_json else self._short,
                level=least,
                colorize=not as_json and colourful(terminal),
                filter=lambda record: as_json or not any(record["extra"][each] for each in twice),
                catch=False,
            )
        if folder is not None:
            logger.add(
                folder / FILE, format=_JSON if as_json else _WHOLE, level=DEBUG, colorize=False, encoding="utf-8",
                catch=False, rotation=_ROTATION, retention=_RETENTION,
                filter=lambda record: not record["extra"].get("passing"),
                opener=lambda path, flags: os.open(path, flags, 0o600),
            )  # fmt: skip

    def __call__(self, recorded: Recorded) -> None:
        event, self._run = recorded.body, recorded.run
        if isinstance(event, RunStarted):
            self._labels = {agent: labelled(agent, event.items.get(agent)) for agent in event.agents}
            self._names = min(_LONGEST, max(10, *map(columns, self._labels.values()), 0))
        if (line := say(event)) is None:
            return
        agent, attempt = about(event)
        text = f"{line.word: <9}  {line.text}" if line.text else line.word
        json = ""
        if self._as_json:
            level = INFO if line.level == SUCCESS else line.level  # which --log-level does not know
            json = spoken(
                " ".join(f"{text} {line.more}".split()), kind(event), run=self._run, agent=agent, attempt=attempt,
                at=recorded.at, level=level,
            )  # fmt: skip
        logger.bind(
            run=recorded.run,
            place=f"{agent}/{attempt}" if attempt else agent or "-",
            time=timestamp(recorded.at),
            at=recorded.at,
            symbol=line.mark,
            agent=self._labels.get(agent, agent) or "seqsup",
            hang=len(text) - len(line.text),
            more=printable(f"  {line.more}") if line.more else "",
            table=line.table,
            told=line.told,
            json=json,
        ).log(line.level, printable(text))

    def pulse(self, agent: str, attempt: int | None, text: str) -> None:
        """Say on the terminal alone that an agent still runs."""
        told = spoken(text, "running", run=self._run, agent=agent, attempt=attempt) if self._as_json else ""
        extra = logger.bind(
            at=time.time(), symbol="▶", agent=self._labels.get(agent, agent), hang=11, more="", table=False, told=False,
            passing=True, json=told,
        )  # fmt: skip
        extra.info(printable(f"{'running': <9}  {text}"))

    def _short(self, record: "loguru.Record") -> str:
        """The format of the terminal's line. What it alone shows is put together only for what it shows."""
        extra = record["extra"]
        extra["clock"] = time.strftime("%H:%M:%S", time.localtime(extra["at"]))
        extra["mark"] = self._mark(extra["symbol"])
        self._columns = self._wide()
        names, agent = self._names, extra["agent"]
        if self._columns:
            names = min(names, max(10, self._columns // _SHARE))
            agent = agent if columns(agent) <= names else cut(agent, names).replace("…", mark("…", self._encoding)[0])
        extra["column"] = agent + " " * (names - columns(agent))
        return _SHORT

    def _wide(self) -> int:
        if self._terminal is not None:
            with suppress(OSError):  # it went away
                return os.get_terminal_size(self._terminal.fileno()).columns
        return 0

    def _mark(self, symbol: str) -> str:
        """Words that replace symbols have one width."""
        told = mark(symbol, self._encoding)
        return told if mark("▶", self._encoding) == "▶" else told.ljust(len("FAIL"))

    def _to_terminal(self, message: "loguru.Message") -> None:
        assert self._outlet is not None
        self._outlet.write(self._wrapped(message).encode(*self._codec))

    def _wrapped(self, message: "loguru.Message") -> str:
        """Broken at words where the terminal would break within them, what follows below the line's own text. Details
        are shown as far as the line holds them."""
        said, extra = message.record["message"], message.record["extra"]
        if self._as_json:
            return message
        if not self._columns:
            return f"{message[:-1]}{extra['more']}\n"
        begins = columns(f"{extra['clock']} {extra['mark']} {extra['column']}  ")
        hangs = begins + extra["hang"]
        indent = hangs if self._columns - hangs >= _ROOM else columns(f"{extra['clock']} {extra['mark']} ")
        lines = wrap(" " * begins + said, self._columns, " " * indent)
        canvas = Canvas(self._columns - columns(lines[0]), self._encoding)
        if (more := canvas.cropped(extra["more"])) != extra["more"]:
            more = more.rpartition(" ")[0].rstrip() + canvas.mark("…")
        lines[0] += more if len(lines) == 1 and (more == extra["more"] or len(more) >= _LITTLE) else ""
        return f"{message[: -len(said) - 1]}{lines[0][begins:]}\n" + "".join(f"{line}\n" for line in lines[1:])

    def close(self) -> None:
        with suppress(OSError):  # no room for the file's last lines; the journal has what they say
            logger.remove()
        if self._outlet:
            self._outlet.close()


def spoken(
    message: str, event: str, *, run: str = "", agent: str = "", attempt: int | None = None, at: float | None = None,
    level: str = INFO,
) -> str:  # fmt: skip
    """Return a message as an object, also one that is of no event; `at` is its time, now if there is none."""
    told = {
        "time": timestamp(time.time() if at is None else at), "level": level.lower(), "run": run or None,
        "agent": agent or None, "attempt": attempt, "event": event, "message": printable(message),
    }  # fmt: skip
    return msgspec.json.encode(told).decode()
