"""Kept output of agents: within its bound, beginning and end, with a note of what was discarded."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import Result
from helpers.disks import tmpfs
from helpers.profiles import of, parsed, proven, shell, write
from seqsup.state.output import Output, OutputReader, cut_here
from seqsup.units import MIB

Seqsup = Callable[..., Result]
KIB = 1024
MOST = 256 * KIB


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def read(path: Path) -> bytes:
    reading, pieces = OutputReader(path), []
    while piece := reading.read(64 * KIB):
        pieces.append(piece)
    reading.close()
    return b"".join(pieces)


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"%07d\n" % n for n in range(first, last))


@pytest.fixture(params=["holes", "no holes"])
def holes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Also where a filesystem cannot have holes."""
    if request.param == "no holes":
        monkeypatch.setattr("seqsup.state.output._punch", lambda *_: False)
    return bool(request.param == "holes")


def test_middle_of_the_output_is_discarded_and_the_writer_continues(tmp_path: Path, holes: bool) -> None:
    output = Output(tmp_path / "log")
    agents = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND)  # as the agent has it
    for block in range(100):
        os.write(agents, numbered(block * 4096, (block + 1) * 4096))
        output.trim(MOST)
        assert on_disk(tmp_path / "log") <= MOST + 8 * KIB
    os.write(agents, b"the end\n")
    kept = read(tmp_path / "log")
    assert kept.startswith(numbered(0, MOST // 2 // 8))
    assert kept.endswith(numbered(100 * 4096 - MOST // 4 // 8, 100 * 4096) + b"the end\n")
    assert b"\0" not in kept
    assert kept.count(b"of output cut here") == (1 if holes else kept.count(b"of output cut here"))
    assert len(kept) <= MOST + 8 * KIB
    if holes:
        assert cut_here(output.size() - len(kept) + len(cut_here(output.size() - len(kept)))) in kept
    output.close()
    os.close(agents)


def test_reader_that_follows_continues_behind_the_cut(tmp_path: Path) -> None:
    output, reading = Output(tmp_path / "log"), OutputReader(tmp_path / "log")
    os.write(output.fd, numbered(0, 10_000))
    assert reading.read(80) == numbered(0, 10)
    os.write(output.fd, numbered(10_000, 200_000))
    output.trim(MOST)
    rest = b"".join(iter(lambda: reading.read(64 * KIB), b""))
    assert rest.startswith(numbered(10, 20))
    assert rest.count(b"of output cut here") == 1
    assert rest.endswith(numbered(199_000, 200_000))
    os.write(output.fd, b"more\n")
    assert reading.read(100) == b"more\n"
    reading.close()
    output.close()


def test_output_that_its_agent_empties_is_read_from_the_start(tmp_path: Path) -> None:
    output, reading = Output(tmp_path / "log"), OutputReader(tmp_path / "log")
    os.write(output.fd, numbered(0, 200_000))
    output.trim(MOST)
    while reading.read(64 * KIB):
        pass
    os.truncate(tmp_path / "log", 0)
    os.write(output.fd, b"anew\n")
    assert not output.trim(MOST)
    assert reading.read(100) == b"anew\n"
    reading.close()
    output.close()


@given(sizes=st.lists(st.integers(0, 400 * KIB), max_size=12), most=st.integers(64 * KIB, 512 * KIB))
def test_whatever_is_written_the_bound_holds_and_both_ends_stay(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int
) -> None:
    path = tmp_path_factory.mktemp("output") / "log"
    output, written = Output(path), b""
    for number, size in enumerate(sizes):
        piece = bytes([65 + number]) * size
        os.write(output.fd, piece)
        written += piece
        output.trim(most)
        assert on_disk(path) <= most + 8 * KIB
    kept = read(path)
    head, mark, tail = kept.partition(b"\n[seqsup: ")
    assert written.startswith(head)
    if not mark:
        assert kept == written
    else:
        tail = tail.partition(b"see output.max]\n")[2]
        assert written.endswith(tail)
        assert len(tail) >= most // 4
        assert len(head) >= most // 2 - 4096
    output.close()


def test_endless_output_is_reported_once_and_its_log_stays_small(seqsup: Seqsup, tmp_path: Path) -> None:
    prints = "echo first; head -c 40000000 /dev/zero | tr '\\0' x; echo last"
    profile = write(tmp_path, shell("a", prints), output={"max": "256KiB"})
    events = proven(seqsup("start", profile, "--json"))
    (cut,) = of(events, "output_cut")
    assert (cut["agent"], cut["stream"], cut["most"]) == ("a", "stdout", MOST)
    log = next(Path(os.environ["SEQSUP_STATE_DIR"]).glob("runs/r1/a/1/stdout.log"))
    assert log.stat().st_size == 40_000_011
    assert on_disk(log) <= MOST + 8 * KIB
    shown = seqsup("logs", "a").stdout
    assert shown.startswith("first\n")
    assert shown.endswith("xlast\n")
    assert "MiB of output cut here, see output.max]" in shown
    assert seqsup("artifacts", "summary", "a").stdout.endswith("xlast\n")


def test_command_prints_the_kept_output_and_notes_the_gap(seqsup: Seqsup) -> None:
    result = seqsup("run", "--", "head", "-c", "3000000", "/dev/zero")
    assert (result.code, len(result.stdout)) == (0, 3_000_000)


@pytest.mark.parametrize("size", ["1KiB", "0", "many"])
def test_a_bound_that_keeps_nothing_is_refused(seqsup: Seqsup, tmp_path: Path, size: str) -> None:
    profile = write(tmp_path, shell("a", "true"), output={"max": size})
    assert seqsup("plan", profile).code == 2


def test_the_bound_can_be_turned_off(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "head -c 1000000 /dev/zero"), output={"max": "none"})
    assert of(parsed(seqsup("start", profile, "--json").stdout), "output_cut") == []


@pytest.mark.parametrize("replace", ["mkfifo $d/stdout.log", "ln -s /etc/passwd $d/stdout.log"], ids=["pipe", "link"])
def test_logs_neither_wait_for_a_pipe_nor_follow_a_link(seqsup: Seqsup, tmp_path: Path, replace: str) -> None:
    script = f"echo said; d=$(dirname $SEQSUP_ARTIFACTS); rm $d/stdout.log; {replace}"
    assert seqsup("start", write(tmp_path, shell("a", script), shell("b", "echo after"))).code == 0
    shown = seqsup("logs")
    assert shown.code == 0, shown.stderr
    assert "[seqsup: stdout.log was replaced by something that is not a regular file]" in shown.stdout
    assert "after" in shown.stdout
    assert "root:" not in shown.stdout


@pytest.mark.parametrize("quiet", [0, 3], ids=["at once", "after it was quiet"])
def test_output_that_grows_fast_does_not_fill_its_disk(seqsup: Seqsup, tmp_path: Path, quiet: int) -> None:
    with tmpfs(tmp_path / "disk", "size=300m") as disk:
        head = shell("a", f"sleep {quiet}; head -c 3G /dev/zero && echo done >&2")
        profile = write(tmp_path, head, run={"state_dir": str(disk / "state"), "disk_floor": "none"},
                        output={"max": "1MiB"})  # fmt: skip
        events = proven(seqsup("start", profile, "--json", deadline=120))
        assert [event["stream"] for event in of(events, "output_cut")] == ["stdout"]
        log = disk / "state" / "runs" / "r1" / "a" / "1" / "stdout.log"
        assert log.stat().st_size == 3 * 1024**3
        assert on_disk(log) <= MIB + 8 * KIB
