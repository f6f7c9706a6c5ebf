"""The machine's turn with real processes: first come, first served, however the one before exits.

What its users meet (`start` waits, names the active run, takes over, `--no-wait`) is in test_cli_start.py.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.waiting import wait_for
from seqsup.host.wake import Wake
from seqsup.state.turn import Ticket, waiting

# Queues up under a name, says so, says when it has the turn, and keeps it until a line comes
_STANDS = """
import asyncio, sys
from pathlib import Path
from seqsup.state.turn import Ticket
from seqsup.host.wake import Wake
turn = Ticket.queue_up(Path(sys.argv[1]), sys.argv[2])
print("queued", flush=True)
asyncio.run(turn.wait(Wake(), lambda ahead: None, lambda: False))
with open(sys.argv[3], "a") as order:
    order.write(sys.argv[2] + "\\n")
sys.stdin.readline()
turn.leave()
"""

Queue = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def queue_up(tmp_path: Path) -> Iterator[Queue]:
    """Start a process that queues up, and return once it is in the queue."""
    persons: list[subprocess.Popen[str]] = []

    def start(name: str) -> "subprocess.Popen[str]":
        person = subprocess.Popen(
            [sys.executable, "-c", _STANDS, str(tmp_path / "state"), name, str(tmp_path / "order")],
            env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        persons.append(person)
        assert person.stdout is not None
        assert person.stdout.readline() == "queued\n"
        return person

    yield start
    for person in persons:
        person.kill()
        person.communicate()


@pytest.fixture
def order(tmp_path: Path) -> Callable[[], list[str]]:
    """Return the processes that have had the turn so far."""
    path = tmp_path / "order"
    return lambda: path.read_text().split() if path.exists() else []


def done(person: "subprocess.Popen[str]") -> None:
    """Let it leave by itself."""
    assert person.stdin is not None
    person.stdin.write("\n")
    person.stdin.flush()
    assert person.wait(40) == 0


def tickets(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state").glob("turn-*/*") if path.name.isdigit())


def test_the_first_to_come_is_the_first_to_be_served(
    queue_up: Queue, order: Callable[[], list[str]], tmp_path: Path
) -> None:
    persons = {name: queue_up(name) for name in ("a", "b", "c", "d")}
    assert waiting(tmp_path / "state") == ["a", "b", "c", "d"]
    for served, (name, person) in enumerate(persons.items(), 1):
        wait_for(lambda: len(order()) >= served)
        assert order() == list(persons)[:served]
        assert waiting(tmp_path / "state")[0] == name
        done(person)
    assert (waiting(tmp_path / "state"), tickets(tmp_path)) == ([], [])


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_process_that_dies_with_the_turn_gives_it_up(
    queue_up: Queue, order: Callable[[], list[str]], signum: signal.Signals
) -> None:
    first, second = queue_up("a"), queue_up("b")
    wait_for(lambda: order() == ["a"])
    first.send_signal(signum)
    wait_for(lambda: order() == ["a", "b"])
    done(second)


def test_stopped_process_keeps_its_turn(queue_up: Queue, order: Callable[[], list[str]], tmp_path: Path) -> None:
    first, second = queue_up("a"), queue_up("b")
    wait_for(lambda: order() == ["a"])
    first.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.6)  # three of its looks
    assert (order(), waiting(tmp_path / "state")) == (["a"], ["a", "b"])
    first.send_signal(signal.SIGCONT)
    done(first)
    wait_for(lambda: order() == ["a", "b"])


def test_process_that_dies_in_the_queue_is_skipped_and_its_ticket_removed(
    queue_up: Queue, order: Callable[[], list[str]], tmp_path: Path
) -> None:
    first, dies, last = queue_up("a"), queue_up("b"), queue_up("c")
    assert len(tickets(tmp_path)) == 3
    dies.kill()
    dies.wait()
    assert waiting(tmp_path / "state") == ["a", "c"]
    wait_for(lambda: len(tickets(tmp_path)) == 2)  # by the next look of a process behind it
    done(first)
    wait_for(lambda: order() == ["a", "c"])
    done(last)


def test_reading_the_queue_removes_nothing_and_gives_no_turn(queue_up: Queue, tmp_path: Path) -> None:
    assert waiting(tmp_path / "state") == []
    assert not (tmp_path / "state").exists()
    dies = queue_up("a")
    dies.kill()
    dies.wait()
    assert waiting(tmp_path / "state") == []
    assert tickets(tmp_path) == ["1"]


def test_a_newcomer_never_overtakes_though_the_tickets_ahead_were_freed(
    queue_up: Queue, order: Callable[[], list[str]]
) -> None:
    first, second = queue_up("a"), queue_up("b")
    wait_for(lambda: order() == ["a"])
    done(first)
    third = queue_up("c")
    wait_for(lambda: order() == ["a", "b"])
    done(second)
    wait_for(lambda: order() == ["a", "b", "c"])
    done(third)


def test_twenty_processes_that_come_at_once_get_twenty_places(tmp_path: Path) -> None:
    comes = (
        "import sys\nfrom pathlib import Path\nfrom seqsup.state.turn import Ticket\n"
        "sys.stdin.readline()\nTicket.queue_up(Path(sys.argv[1]), sys.argv[2])\nprint('queued', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", comes, str(tmp_path / "state"), str(n)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for n in range(20)
    ]  # fmt: skip
    for person in crowd:
        assert person.stdin is not None
        person.stdin.write("\n")
        person.stdin.flush()
    wait_for(lambda: len(waiting(tmp_path / "state")) == len(crowd))
    assert sorted(waiting(tmp_path / "state"), key=int) == [str(n) for n in range(20)]
    for person in crowd:
        person.communicate("\n", timeout=40)
    assert waiting(tmp_path / "state") == []


def test_waiting_process_hears_each_change_of_the_queue_and_may_give_up(queue_up: Queue, tmp_path: Path) -> None:
    first, second = queue_up("a"), queue_up("b")
    heard: list[list[str]] = []

    def tell(ahead: list[str]) -> None:
        heard.append(ahead)
        if len(heard) == 1:
            second.kill()

    turn = Ticket.queue_up(tmp_path / "state", "me")
    assert turn.ahead() == ["a", "b"]
    assert not asyncio.run(turn.wait(Wake(), tell, lambda: len(heard) == 2))
    turn.leave()
    assert heard == [["a", "b"], ["a"]]
    assert waiting(tmp_path / "state") == ["a"]
    done(first)
