"""Trees beside the agent's: each orphan belongs to one, is stopped with its owner, and none is left after a kill."""

import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from helpers.supervised import poking, supervised, until
from helpers.waiting import alive, wait_for
from seqsup.containment import keeper_main
from seqsup.containment.keeper import Keeper
from seqsup.containment.reaper import Reaper
from seqsup.containment.stop import stop
from seqsup.containment.tree import Tree
from seqsup.host.machine import Host
from seqsup.host.wake import Wake
from seqsup.model.enums import Measure
from seqsup.model.events import AnyEvent, Unkillable
from seqsup.model.outcome import Exit
from seqsup.runner.context import RunContext
from seqsup.runner.side_process import SideProcess, Site

Stub = Callable[..., list[str]]
Story = Callable[[RunContext, Site], Awaitable[None]]
Tell = Callable[[Story], list[AnyEvent]]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """Let a story happen in a world without groups: descent alone must do. Gives the events of it."""

    def tell(story: Story) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        ledger = os.open(tmp_path / "members", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        async def whole(reaper: Reaper, wake: Wake) -> None:
            context = RunContext(reaper, Host(), wake, poking(wake), events.append)
            try:
                await story(context, Site(tmp_path, secrets.token_hex(8), ledger))
                await until(lambda: not reaper.keepers, wake)
            finally:
                context.host.close()
                context.sockets.close()

        try:
            supervised(whole)
        finally:
            os.close(ledger)
        return events

    return tell


async def started(beside: SideProcess, context: RunContext, command: list[str]) -> list[int]:
    """Start it, wait until it says ready, and give the pids that it named."""
    await beside.start(tuple(command), cwd="/", env={})
    words = await until(lambda: beside.output().decode().rpartition("\n")[0].split(), context.wake)
    assert words[0] == "ready"
    return [int(word) for word in words[1:]]


def agents_tree(context: RunContext, site: Site, command: list[str], folder: Path) -> Tree:
    """A tree below the supervisor itself, as the running agent's is."""
    with (folder / "said").open("w") as said:
        root = context.reaper.spawn(command, cwd="/", env=dict(os.environ), streams=(0, said.fileno(), 2))
    return Tree(context.reaper, root, Measure.PRIVATE, site.ledger, None)


def keeper_of(beside: SideProcess) -> int:
    assert beside.pid is not None
    return psutil.Process(beside.pid).ppid()


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("exit 0", Exit(code=0, signal=None)),
        ("exit 7", Exit(code=7, signal=None)),
        ("kill -SEGV $$", Exit(code=None, signal=signal.SIGSEGV)),
        ("kill -STOP $PPID; exit 7", Exit(code=7, signal=None)),
    ],
)
def test_keeper_reports_how_its_leader_exited(tell: Tell, script: str, how: Exit) -> None:
    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            await one.start(("sh", "-c", script), cwd="/", env={})
            assert await until(lambda: one.ended, context.wake) == how
            assert await one.stop(5) == ()

    assert tell(story) == []


def test_last_report_of_a_keeper_counts_though_it_exits_meanwhile(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            waits = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 7"
            await one.start(("sh", "-c", waits), cwd="/", env={})
            keeper, listen = psutil.Process(keeper_of(one)), Keeper._listen

            def listens(self: Keeper) -> None:
                listen(self)
                (tmp_path / "go").touch()
                wait_for(lambda: not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE)

            monkeypatch.setattr(Keeper, "_listen", listens)
            assert await until(lambda: one.ended, context.wake) == Exit(code=7, signal=None)

    assert tell(story) == []


def test_process_that_survives_sigkill_is_awaited_and_reported_once(
    tell: Tell, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqsup.policy.watch.KILL_DEADLINE", 0.05)
    monkeypatch.setattr(Tree, "living", lambda _: 1)

    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            await started(one, context, stub("deaf"))
            await one.stop(0)
        while context.reaper.keepers:
            await context.wake.wait(1.0)
            context.reaper.tidy()

    (told,) = tell(story)
    assert isinstance(told, Unkillable)


@pytest.mark.parametrize("kind", ["setsid", "double-fork", "double-fork-setsid"])
def test_orphans_belong_to_the_tree_they_come_from(tell: Tell, stub: Stub, tmp_path: Path, kind: str) -> None:
    async def story(context: RunContext, site: Site) -> None:
        leaves = stub("escapes", kind, "--leave")
        async with SideProcess("one", site, context) as one, SideProcess("other", site, context) as other:
            ones, others = await started(one, context, leaves), await started(other, context, leaves)
            tree = agents_tree(context, site, leaves, tmp_path)
            agents = [
                int(pid) for pid in await until(lambda: (tmp_path / "said").read_text().split()[1:], context.wake)
            ]
            await until(lambda: tree.ending(), context.wake)
            tree.search.walk()
            assert {process.pid for process in tree.describe()} >= set(agents)
            assert not {process.pid for process in tree.describe()} & {*ones, *others}
            await stop(tree, context.wake, grace=0, deadline=10)
            assert tree.living() == 0
            tree.close()
            assert not any(map(alive, agents))
            assert all(map(alive, (*ones, *others)))
            assert {process.pid for process in await one.stop(5)} == set(ones)
            assert not any(map(alive, ones))
            assert all(map(alive, others))

    assert tell(story) == []


def test_process_that_ignores_term_is_killed_after_its_grace(tell: Tell, stub: Stub) -> None:
    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            await started(one, context, stub("deaf"))
            await one.stop(0.1)
            assert one.ended == Exit(code=None, signal=signal.SIGKILL)

    assert tell(story) == []


def test_a_tree_that_forks_widely_is_ended_whole(tell: Tell, stub: Stub) -> None:
    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            pids = await started(one, context, stub("forks", 3, 3))
            await until(lambda: one.used() > 0, context.wake)  # on a slow machine a walk is not due at once
            await one.stop(0)
            assert not any(map(alive, pids))

    assert tell(story) == []


@pytest.mark.parametrize("stub_name", ["escapes double-fork-setsid", "env_cleared --stay"])
def test_orphans_of_a_killed_keeper_are_not_the_agents(tell: Tell, stub: Stub, tmp_path: Path, stub_name: str) -> None:
    """They are known by their mark. One that has cleared its mark is known because it was seen before."""

    async def story(context: RunContext, site: Site) -> None:
        name, *args = stub_name.split()
        async with SideProcess("one", site, context) as one:
            pids = await started(one, context, stub(name, *args))
            await until(lambda: one.used() and {each.pid for each in one.describe()} > set(pids), context.wake)
            tree = agents_tree(context, site, stub("orphans"), tmp_path)
            os.kill(keeper_of(one), signal.SIGKILL)
            await until(lambda: one.ended, context.wake)
            tree.search.walk()
            await stop(tree, context.wake, grace=0, deadline=10)
            tree.close()
            assert all(map(alive, pids))
            await one.stop(0)
            assert not any(map(alive, pids))

    assert tell(story) == []


def test_process_without_a_mark_that_killed_its_keeper_before_it_was_seen_is_stopped(tell: Tell, stub: Stub) -> None:
    """Every tree has a keeper, so an orphan of unknown origin comes from a keeper that was killed."""

    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one, SideProcess("other", site, context) as other:
            others = await started(other, context, stub("escapes", "double-fork-setsid"))
            pids = await started(one, context, stub("flees", "env-i"))
            os.kill(keeper_of(one), signal.SIGKILL)
            await until(lambda: one.ended, context.wake)
            await one.stop(0)
            assert not any(map(alive, pids))
            assert all(map(alive, others))

    assert tell(story) == []


def test_a_keeper_takes_its_tree_with_it_when_the_line_breaks(tell: Tell, stub: Stub) -> None:
    async def story(context: RunContext, site: Site) -> None:
        one = SideProcess("one", site, context)
        pids = await started(one, context, stub("escapes", "double-fork-setsid"))
        one._keeper._line.shutdown(2)  # as the kernel does when the supervisor dies
        await until(lambda: one._keeper.over, context.wake)
        assert not any(map(alive, pids))
        await one.__aexit__(None, None, None)

    assert tell(story) == []


def test_however_many_end_a_keeper_hears_its_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """It collected exits until there were none. With a fork bomb on many processors that could last as long as the
    bomb.
    """
    ends = iter([SimpleNamespace(si_pid=2**22)] * 5000)
    woken, wakes = os.pipe2(os.O_NONBLOCK)
    with monkeypatch.context() as patched:
        patched.setattr(os, "waitid", lambda *_: next(ends, None))
        assert keeper_main._reap(1, -1, wakes)
    assert sum(1 for _ in ends) > 4000
    assert os.read(woken, 9), "the rest is collected without another signal"
    for fd in (woken, wakes):
        os.close(fd)


def test_keeper_reports_a_program_that_cannot_be_started(tell: Tell, tmp_path: Path) -> None:
    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            await one.start((str(tmp_path / "nothing"),), cwd="/", env={})
            await until(lambda: one.ended, context.wake)
            assert one.complaint()

    assert tell(story) == []


def test_keeper_forgets_dead_processes(tell: Tell) -> None:
    """A build in a lane is a million processes a day."""

    async def story(context: RunContext, site: Site) -> None:
        keeper = Keeper(context.reaper, "one")
        keeper.saw(os.getpid(), 7)
        for pid in range(2**22, 2**22 + 20_000):  # no process has such a number
            keeper.saw(pid, 7)
        assert keeper._seen[os.getpid()] == 7
        assert len(keeper._seen) < 5000

    assert tell(story) == []


def test_a_story_that_fails_leaves_nothing(tell: Tell, stub: Stub) -> None:
    pids: list[int] = []

    async def story(context: RunContext, site: Site) -> None:
        async with SideProcess("one", site, context) as one:
            pids.extend(await started(one, context, stub("escapes", "setsid")))
            raise KeyError

    with pytest.raises(KeyError):
        tell(story)
    wait_for(lambda: not any(map(alive, pids)))
