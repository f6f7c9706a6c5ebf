"""Cgroups on the real thing: each kind that this machine has is tested, any other skips with the reason.

cgroup v2 with controllers runs where the tests are started in a delegated group, or as root in the hierarchy's root.
"""

import asyncio
import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.tiers import LIMITING, TIERS
from helpers.waiting import DEADLINE, alive, must_be_open_to_others, wait_for
from seqsup.containment.cgroup import tiers
from seqsup.containment.cgroup.files import (
    KeptFile,
    attempt_folder,
    kill_listed,
    locate,
    mounts,
    named_prefix,
    run_name,
)
from seqsup.containment.cgroup.group import Cgroup, Cgroups, Unavailable, backstop
from seqsup.containment.cgroup.stale import find_stale, sweep
from seqsup.containment.cgroup.v1 import CgroupsV1, CgroupV1, MembershipV1
from seqsup.containment.cgroup.v2 import CgroupV2
from seqsup.containment.launcher import CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND, complaint, dying_with_us, wrap
from seqsup.containment.process import Member
from seqsup.errors import SeqsupError
from seqsup.host.wake import Wake
from seqsup.model.enums import Enforce, Measure
from seqsup.units import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")

HARD = 48 * MIB  # the kernel's limit is then 64 MiB
SOURCES = os.pathsep.join([str(ROOT / "supervisor"), *sys.path])
SYSTEMD = Path("/run/systemd/system").exists()
IN_PLACE = [kind for kind in tiers.TIERS if "scope" not in kind]  # asking systemd would move the tests themselves


# -- one run's groups, of each kind


@pytest.fixture(autouse=True)
def user_manager(test_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let systemd's user manager be found where it is; the other tests have a runtime folder of their own."""
    if (real := Path(f"/run/user/{os.geteuid()}")).is_dir():
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(real))


@pytest.fixture
def cookie() -> Iterator[str]:
    """A run's cookie. Whatever becomes of the test, no group of that name is left, and that is looked after."""
    cookie = secrets.token_hex(16)
    yield cookie
    left = find_stale(lambda prefix: prefix == cookie[:16])
    asyncio.run(swept(left))
    assert not left, f"groups were left: {left}"


async def swept(groups: list[Path]) -> list[Path]:
    return await sweep(groups, Wake(), deadline=DEADLINE)


def opened(kind: str, cookie: str) -> Cgroups:
    try:
        return tiers.TIERS[kind](cookie)
    except (Unavailable, OSError) as error:
        pytest.skip(f"no {kind} here: {error}")


@pytest.fixture(params=IN_PLACE)
def groups(request: pytest.FixtureRequest, cookie: str) -> Iterator[Cgroups]:
    groups = opened(request.param, cookie)
    yield groups
    assert wait_for(groups.close)


@pytest.fixture
def limiting(groups: Cgroups) -> Cgroups:
    if not groups.limits:
        pytest.skip(f"{groups.detail}: no limits")
    return groups


@pytest.fixture
def group(groups: Cgroups) -> Iterator[Cgroup]:
    group = groups.make("g", None, None)
    yield group
    destroy(group)
    assert wait_for(group.close)


@pytest.fixture
def limited(limiting: Cgroups) -> Iterator[Cgroup]:
    group = limiting.make("limited", HARD, 64)
    yield group
    destroy(group)
    assert wait_for(group.close)


def destroy(group: Cgroup) -> None:
    def gone() -> bool:
        group.kill()
        return not group.pids()

    wait_for(gone)


PATIENCE = 150 if "SEQSUP_GUEST" in os.environ else DEADLINE  # seconds; an emulated machine is ten times as slow


class Started(subprocess.Popen[bytes]):
    """A program of the test's in a group, which says in a line when it is ready."""

    unread = b""

    def line(self, deadline: float = PATIENCE) -> str:
        assert self.stdout is not None
        while b"\n" not in self.unread:
            assert select.select([self.stdout], [], [], deadline)[0], "no word of it"
            if not (said := os.read(self.stdout.fileno(), 4096)):
                break
            self.unread += said
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()


Start = Callable[..., Started]


@pytest.fixture
def start(test_id: str) -> Iterator[Start]:
    """Start Python text in a group: `start(group, text, *args)`."""
    with contextlib.ExitStack() as stack:

        def start(group: Cgroup, text: str, *args: object) -> Started:
            command = [sys.executable, "-c", text, *map(str, args), f"--seqsup-test={test_id}"]
            child = Started(wrap(command, group.entry), stdout=subprocess.PIPE, start_new_session=True)
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield start


def ends(child: Started, deadline: float = PATIENCE) -> int:
    return child.wait(deadline)


# -- membership

ESCAPES = """
import ctypes, os, signal, sys
how = sys.argv[1]

def fork_and(leave):
    if os.fork():
        if leave:
            os._exit(0)
        signal.alarm(60)
        signal.pause()

def zero_environment():
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    ctypes.memset(start, 0, end - start)

fork_and(leave=how == "leaderless")
if how != "child":
    os.setsid()
if how not in ("child", "setsid"):
    fork_and(leave=True)
if how == "zeroed":
    zero_environment()
if how == "env -i":
    say = "import os, signal; signal.alarm(60); print(os.getpid(), flush=True); signal.pause()"
    os.execv("/usr/bin/env", ["env", "-i", sys.executable, "-c", say, *sys.argv[2:]])
signal.alarm(60)
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("how", ["child", "setsid", "double fork", "leaderless", "env -i", "zeroed"])
def test_process_cannot_leave_its_cgroup(group: Cgroup, start: Start, how: str) -> None:
    leader = start(group, ESCAPES, how)
    escaped = int(leader.line())
    assert escaped != leader.pid
    assert escaped in group.pids()
    destroy(group)
    assert group.pids() == []
    wait_for(lambda: not alive(escaped))  # a process that has left its cgroup may be about to become a zombie
    ends(leader)


BOMB = """
import mmap, os, signal, sys, time
kind, size = sys.argv[1], int(sys.argv[2])
births = memoryview(mmap.mmap(-1, 8)).cast("q")
fuse = time.monotonic() + 30

def burns():
    births[0] += 1
    return births[0] < 200_000 and time.monotonic() < fuse

for _ in range(size):
    if not os.fork():
        break
else:
    print("ready", flush=True)
    signal.alarm(30)
    signal.pause()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while burns():
    if kind == "tree":  # each keeps having a child
        if not os.fork():
            time.sleep(0.01)
            os._exit(0)
        time.sleep(0.005)
    elif os.fork():  # each is never the same process for long
        os._exit(0)
    elif kind == "setsid":
        os.setsid()
        time.sleep(0.001)
"""


@pytest.mark.parametrize("bomb", ["tree", "setsid", "comet"])
def test_a_fork_bomb_of_60_is_killed(group: Cgroup, start: Start, bomb: str) -> None:
    leader = start(group, BOMB, bomb, 60)
    assert leader.line() == "ready"
    wait_for(lambda: len(group.pids()) >= 30)
    destroy(group)
    assert ends(leader) == -signal.SIGKILL
    assert group.pids() == []


def test_number_of_tasks_changes_when_a_process_enters_or_leaves(limiting: Cgroups, start: Start) -> None:
    group = limiting.make("counted", None, None)
    told = group.tasks() is not None
    child = start(group, HOLDS, 1, 1, 2)
    for _ in range(3):
        assert child.line() == "ready"
    assert len(group.weighed()) == 3
    assert group.tasks() == (3 if told else None)
    weighing = next(entry for entry in map(Path, group.entry) if entry.with_name("memory.stat").exists())
    above = weighing.parent.parent.parent
    leaver = group.weighed()[-1]
    for folder in (above / "supervisor", above):
        with contextlib.suppress(OSError):
            (folder / "cgroup.procs").write_text(str(leaver))
            break
    assert leaver not in group.weighed()
    assert group.tasks() == (2 if told else None)
    os.kill(leaver, signal.SIGKILL)
    destroy(group)
    ends(child)
    wait_for(lambda: not group.tasks())  # a process that is not reaped yet counts
    assert wait_for(group.close)
    assert group.tasks() is None


def test_a_group_below_belongs_to_it(group: Cgroup, start: Start) -> None:
    """An agent that is root may make groups of its own, as a nested seqsup does, and freeze them."""
    child = start(group, ESCAPES, "child")
    pid = int(child.line())
    for procs in group.entry:
        below = Path(procs).parent / "below"
        below.mkdir()
        (below / "cgroup.procs").write_text(str(pid))
        for state, frozen in ((below / "freezer.state", "FROZEN"), (below / "cgroup.freeze", "1")):
            if state.exists():
                state.write_text(frozen)
    assert pid in group.pids()
    assert not group.close()
    destroy(group)
    wait_for(lambda: not alive(pid))


def test_however_many_are_in_a_group_the_supervisor_keeps_its_share_of_the_processor(groups: Cgroups) -> None:
    top = Path(groups.kill_file or "/").parent.parent
    if not (groups.limits and groups.kill_file) or "cpu" not in (top / "cgroup.controllers").read_text().split():
        pytest.skip("shares are not ours to give here")
    assert "cpu" in (top / "cgroup.subtree_control").read_text().split()


def test_cgroup_with_a_process_in_it_is_not_removed(groups: Cgroups, start: Start) -> None:
    group = groups.make("busy", None, None)
    child = start(group, ESCAPES, "child")
    child.line()
    assert not group.close()
    assert not groups.close()
    group.kill()
    ends(child)
    destroy(group)
    assert wait_for(group.close)
    assert group.close(), "asked again it still is gone"


def test_two_runs_side_by_side_do_not_meet(groups: Cgroups, group: Cgroup, start: Start) -> None:
    other_cookie = secrets.token_hex(16)
    kind = next(kind for kind in IN_PLACE if kind_of(kind, groups))
    others = opened(kind, other_cookie)
    other = others.make("g", None, None)
    try:
        ours, theirs = start(group, ESCAPES, "child"), start(other, ESCAPES, "child")
        pids = int(ours.line()), int(theirs.line())
        assert pids[0] in group.pids()
        assert pids[0] not in other.pids()
        assert pids[1] in other.pids()
        destroy(group)
        wait_for(lambda: not alive(pids[0]))
        assert alive(pids[1])
    finally:
        destroy(other)
        assert wait_for(other.close)
        assert wait_for(others.close)


def kind_of(kind: str, groups: Cgroups) -> bool:
    """Say whether a kind is that of these groups."""
    if not isinstance(groups, CgroupsV1):
        return groups.limits == (kind == "cgroup2") and not kind.startswith("cgroup1")
    return kind == ("cgroup1 with cgroup2" if "kill" in groups.detail else "cgroup1")


def test_a_pid_that_is_not_listed_twice_is_not_killed(start: Start) -> None:
    """Between two looks a pid may have become a stranger's."""
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        looks: Iterator[list[int]] = iter([[stranger.pid], []])
        kill_listed(lambda: next(looks))
        assert stranger.poll() is None
        kill_listed(lambda: [stranger.pid])
        assert stranger.wait(40) == -signal.SIGKILL


# -- memory

HOLDS = """
import mmap, os, signal, sys
private, shared, children = (int(arg) for arg in sys.argv[1:4])
common = mmap.mmap(-1, shared << 20) if shared else None
for at in range(0, shared << 20, 1 << 20):  # in pieces, as malloc would keep one large one
    common[at : at + (1 << 20)] = b"x" * (1 << 20)
held = b"x" * (private << 20)
for _ in range(children):
    if not os.fork():
        held = b"y" * (private << 20)
        if common:
            sum(common[::4096])
        break
signal.alarm(60)
os.write(1, b"ready\\n")  # at once: three write here
signal.pause()
"""


@pytest.mark.memory
def test_used_is_what_is_private_and_what_is_shared_once(limiting: Cgroups, start: Start) -> None:
    group = limiting.make("used", None, None)
    leader = start(group, HOLDS, 20, 30, 2)
    for _ in range(3):
        assert leader.line() == "ready"
    members = [member for pid in group.pids() if (member := Member.open(pid))]
    assert len(members) == 3
    private = sum(member.measure(Measure.PRIVATE) for member in members)
    for member in members:
        member.close()
    used = group.used()
    assert used is not None
    assert 90 * MIB <= used <= 112 * MIB
    assert used <= private + 30 * MIB + MIB  # which counts what fork shares, the interpreter, for each
    destroy(group)
    ends(leader)
    assert wait_for(group.close)


@pytest.mark.memory
def test_used_equals_the_sum_of_independent_processes(limiting: Cgroups, start: Start) -> None:
    group = limiting.make("used", None, None)
    started = [start(group, HOLDS, 20, 0, 0) for _ in range(3)]
    assert [child.line() for child in started] == ["ready"] * 3
    members = [member for child in started if (member := Member.open(child.pid))]
    private = sum(member.measure(Measure.PRIVATE) for member in members)
    for member in members:
        member.close()
    assert group.used() == pytest.approx(private, abs=1.5 * MIB)
    destroy(group)
    for child in started:
        ends(child)
    assert wait_for(group.close)


GROWS = """
import os, sys
if len(sys.argv) > 3 and sys.argv[2] == "grandchild":
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", "b'x' * (200 << 20)"])
    os._exit(3)
held = b"x" * (int(sys.argv[1]) << 20)
print("grown", flush=True)
"""


@pytest.mark.memory
def test_the_kernel_stops_what_outgrows_the_limit_and_says_so(limited: Cgroup, start: Start) -> None:
    assert limited.oom_kills() == 0
    child = start(limited, GROWS, 200)
    oom_event = limited.oom_event
    assert oom_event is not None
    assert select.select([oom_event], [], [], PATIENCE)[0]
    assert ends(child) == -signal.SIGKILL
    assert child.line() == ""
    # Reading makes it quiet once the kernel has reported all: events within 10 ms are reported later
    wait_for(lambda: limited.oom_kills() >= 1 and not select.select([oom_event], [], [], 0)[0])
    peak = limited.peak()
    assert peak is not None
    assert 0.95 * backstop(HARD) <= peak <= backstop(HARD)  # no overshoot
    assert "oom_kill " in limited.figures()
    assert "peak 64 MiB of 64 MiB" in limited.figures()


@pytest.mark.memory
def test_when_a_descendant_outgrows_the_limit_the_rest_can_be_finished(limited: Cgroup, start: Start) -> None:
    child = start(limited, GROWS, 0, "grandchild")
    wait_for(limited.oom_kills)
    limited.kill()
    ends(child)
    assert wait_for(lambda: not limited.pids())


@pytest.mark.memory
def test_page_cache_does_not_count(limited: Cgroup, start: Start, tmp_path: Path) -> None:
    if filesystem(tmp_path) in ("tmpfs", "ramfs"):
        pytest.skip("no disk below the temporary folder")
    child = start(limited, """
import sys
with open(sys.argv[1], "wb") as file:
    for _ in range(200):
        file.write(bytes(1 << 20))
print("written", flush=True)
""", tmp_path / "large")  # fmt: skip
    most = 0
    assert child.stdout is not None
    while not select.select([child.stdout], [], [], 0.01)[0]:
        most = max(most, limited.used() or 0)
    assert child.line() == "written"
    assert most < 24 * MIB
    assert limited.oom_kills() == 0


def filesystem(path: Path) -> str:
    return subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip


@pytest.mark.memory
def test_files_in_tmpfs_count_until_they_are_removed(limited: Cgroup, start: Start) -> None:
    file = Path("/dev/shm") / f"seqsup-test-{secrets.token_hex(8)}"
    try:
        child = start(limited, "import sys; open(sys.argv[1], 'wb').write(bytes(20 << 20))", file)
        assert ends(child) == 0
        assert limited.pids() == []
        assert (limited.used() or 0) >= 20 * MIB - MIB
        file.unlink()
        assert wait_for(lambda: (limited.used() or 0) < 2 * MIB)
    finally:
        file.unlink(missing_ok=True)


@pytest.mark.memory
def test_the_peak_outlives_the_process(limited: Cgroup, start: Start) -> None:
    child = start(limited, GROWS, 30)
    assert child.line() == "grown"
    assert ends(child) == 0
    assert 30 * MIB <= (limited.peak() or 0) <= backstop(HARD)


def test_pids_max_stops_a_fork_bomb_at_its_source(limiting: Cgroups, start: Start) -> None:
    group = limiting.make("few", None, 8)
    child = start(group, """
import os, signal
n = 1
try:
    while n < 50:
        if not os.fork():
            signal.alarm(60)
            signal.pause()
        n += 1
except OSError:
    pass
print(n, flush=True)
signal.pause()
""")  # fmt: skip
    assert child.line() == "8"
    assert len(group.pids()) == 8
    destroy(group)
    ends(child)
    assert wait_for(group.close)


def test_kernel_limit_is_a_little_above_hard() -> None:
    assert backstop(64 * MIB) == 80 * MIB
    assert backstop(10_000 * MIB) == 10_200 * MIB


# -- what is not there


def test_a_file_that_is_missing_reads_as_empty(tmp_path: Path) -> None:
    kept = KeptFile(tmp_path / "nothing")
    assert (kept.read(), kept.numbers(), kept.pids()) == (b"", {}, [])
    kept.close()


@pytest.mark.parametrize("kind", ["cgroup1", "cgroup2"])
def test_a_group_without_its_files_answers_that_it_knows_nothing(tmp_path: Path, kind: str) -> None:
    group: Cgroup
    top = tmp_path / "top"
    top.mkdir()
    if kind == "cgroup1":
        group = CgroupV1(top / "memory", top / "pids", MembershipV1(top / "freezer"))
    else:
        (top / "group").mkdir()
        group = CgroupV2(top / "group")
    assert (group.used(), group.tasks(), group.peak(), group.oom_kills(), group.figures()) == (None, None, None, 0, "")
    assert (group.pids(), group.oom_event) == ([], None)
    group.kill()
    assert group.close()
    assert list(top.iterdir()) == []


def test_a_group_that_was_removed_meanwhile_answers_still(groups: Cgroups) -> None:
    group = groups.make("short", HARD, 8)
    for procs in group.entry:
        Path(procs).parent.rmdir()
    assert (group.pids(), group.used(), group.peak()) == ([], None, None)
    assert (group.oom_kills(), group.figures()) == (0, "")
    group.kill()
    assert group.close()


def test_refusal_by_the_kernel_leaves_no_cgroup(limiting: Cgroups) -> None:
    with pytest.raises(OSError, match=r"pids\.max"):
        limiting.make("refused", HARD, -2)
    assert limiting.make("refused", HARD, 2).close()


@pytest.mark.parametrize("name", ["../escape", "a/b", "a\nb"])
def test_no_name_leads_out_of_the_run(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        attempt_folder(Path("/x"), name)


def test_an_agent_may_be_called_like_a_file_of_the_kernels(groups: Cgroups) -> None:
    assert groups.make("cgroup.procs", None, None).close()
    assert groups.make("..", None, None).close()


# -- where groups are

MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 {root} /sys/fs/cgroup/cpu\\040acct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 {root} /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.mark.parametrize(("root", "path", "below"), [
    ("/", "/", ""),
    ("/", "/user.slice/run-r1.scope", "user.slice/run-r1.scope"),
    ("/docker/abc", "/docker/abc", ""),
    ("/docker/abc", "/docker/abc/inner:1", "inner:1"),
    ("/docker/abc", "/docker/abcd", None),
    ("/docker/abc", "/", None),
    ("/", "/../other", None),
])  # fmt: skip
@pytest.mark.parametrize(("controller", "mount"), [
    ("memory", "memory"), ("cpuacct", "cpu acct"), ("", "unified")
])  # fmt: skip
def test_the_own_group_is_found(root: str, path: str, below: str | None, controller: str, mount: str) -> None:
    cgroup = f"4:memory:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:/\n0::{path}\n"
    mountinfo = MOUNTS.format(root=root)
    if below is None:
        with pytest.raises(Unavailable, match="not mounted here"):
            locate(controller, cgroup, mountinfo)
    else:
        assert locate(controller, cgroup, mountinfo) == Path("/sys/fs/cgroup", mount, below)


def test_a_machine_without_a_hierarchy_says_which() -> None:
    with pytest.raises(Unavailable, match="no cgroup v2"):
        locate("", "4:memory:/\n", MOUNTS.format(root="/"))
    with pytest.raises(Unavailable, match="no cgroup v1 with freezer"):
        locate("freezer", "0::/\n", MOUNTS.format(root="/"))
    assert list(mounts("freezer", "")) == []


def test_a_run_is_known_by_its_cookie() -> None:
    cookie = secrets.token_hex(16)
    assert named_prefix(run_name(cookie)) == cookie[:16]
    for name in ("seqsup-", "seqsup-supervisor", f"{run_name(cookie)}.scope", "user.slice"):
        assert named_prefix(name) is None


# -- choosing


def python(text: str, *, before: Sequence[str] = ()) -> str:
    ended = subprocess.run(
        [*before, sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


CHOOSE = """
import secrets
from seqsup.containment.cgroup.tiers import choose
from seqsup.errors import SeqsupError
from seqsup.model.enums import Enforce
try:
    chosen = choose(Enforce({enforce!r}), {cookie!r})
except SeqsupError as error:
    print("refused", error)
else:
    print(chosen.tier, "|", chosen.detail, "|", *chosen.why, sep="\\n")
    assert chosen.groups is None or chosen.groups.close()
"""


def test_chosen_tier_was_rehearsed(groups: Cgroups) -> None:
    tiers.rehearse(groups)


def test_the_best_of_what_works_is_chosen(cookie: str) -> None:
    told = python(CHOOSE.format(enforce="auto", cookie=cookie))
    tier, _, rest = told.partition("\n")
    assert tier in TIERS
    assert (tier == "cgroup2") == ("\ncgroup2:" not in rest)


def test_watching_alone_asks_for_no_group(cookie: str) -> None:
    chosen = tiers.choose(Enforce.WATCH, cookie)
    assert (chosen.groups, chosen.tier, chosen.why) == (None, "subreaper", ())


def test_nothing_can_be_watched_if_proc_is_of_another_namespace(cookie: str) -> None:
    apart = ["unshare", "--map-root-user", "--pid", "--fork"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    told = python(CHOOSE.format(enforce="watch", cookie=cookie), before=apart)
    assert told.startswith("refused")
    assert "unshare --mount-proc" in told


def test_ordinary_user_is_told_why_there_is_no_cgroup_and_what_to_do(cookie: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    must_be_open_to_others()
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert python(CHOOSE.format(enforce="auto", cookie=cookie), before=nobody).startswith("subreaper\n")
    told = python(CHOOSE.format(enforce="cgroup", cookie=cookie), before=nobody)
    assert told.startswith("refused")
    assert "Permission denied" in told
    better = "systemd-run --user --scope -p Delegate=yes seqsup" if SYSTEMD else "Mount cgroup v2"
    assert ("as root, outside of user namespaces" if any(mounts("memory")) else better) in told


def test_enforce_cgroup_takes_only_groups_with_a_limit(cookie: str) -> None:
    told = python(CHOOSE.format(enforce="cgroup", cookie=cookie))
    assert told.split("\n")[0] in LIMITING or told.startswith("refused")


# -- after a dead supervisor


def test_groups_of_dead_runs_are_swept_and_those_of_the_living_left(
    groups: Cgroups, group: Cgroup, start: Start, cookie: str
) -> None:
    child = start(group, BOMB, "setsid", 10)
    assert child.line() == "ready"
    asked: list[str] = []

    def is_dead(prefix: str) -> bool:
        asked.append(prefix)
        return False

    assert find_stale(is_dead) == []
    assert cookie[:16] in asked
    left = find_stale(lambda prefix: prefix == cookie[:16])
    assert {run_name(cookie)} == {path.name for path in left}
    assert asyncio.run(swept(left)) == []
    assert ends(child) == -signal.SIGKILL
    assert find_stale(lambda prefix: prefix == cookie[:16]) == []


def test_a_resumed_run_finds_its_old_directory_empty_and_takes_it(groups: Cgroups, cookie: str) -> None:
    kind = next(kind for kind in IN_PLACE if kind_of(kind, groups))
    again = opened(kind, cookie)
    assert again.make("g", None, None).close()


# -- the shim


def run_shim(command: Sequence[str], entry: Sequence[str] = (), **more: object) -> subprocess.CompletedProcess[bytes]:
    env = more.pop("env", dict(os.environ))
    assert isinstance(env, dict)
    words = wrap(command, entry, names=env, parent=os.getpid())
    return subprocess.run(words, env=env, capture_output=True, check=False, timeout=40)


PLAIN, ODD = {"PATH": os.environ["PATH"]}, {"PATH": os.environ["PATH"], "npm_config_//host/:_auth": "s e=c"}
both = pytest.mark.parametrize("env", [PLAIN, ODD], ids=["sh", "python"])


@both
def test_the_shim_becomes_its_command(env: dict[str, str], tmp_path: Path) -> None:
    entry = [tmp_path / "a b", tmp_path / "$(false)"]
    for file in entry:
        file.touch()
    words = ["x y", "$HOME", "--", "'", ""]
    ended = run_shim(["/usr/bin/printf", "%s|", *words], [str(file) for file in entry], env=env)
    assert (ended.returncode, ended.stdout) == (0, b"x y|$HOME|--|'||")
    assert [file.read_text().strip() for file in entry] == ["0", "0"]


def test_the_shim_keeps_variables_that_no_shell_would() -> None:
    ended = run_shim(["/usr/bin/env"], env=ODD | {"BASH_FUNC_f%%": "() { :; }"})
    assert {"npm_config_//host/:_auth=s e=c", "BASH_FUNC_f%%=() { :; }"} <= set(ended.stdout.decode().splitlines())
    assert b"LC_CTYPE" not in ended.stdout


@both
def test_the_shim_leaves_every_variable_as_it_was(env: dict[str, str]) -> None:
    own = env | {"parent": "mother", "key": "c", "OPTARG": "1", "_": "x"}
    told = dict(line.split("=", 1) for line in run_shim(["/usr/bin/env"], env=own).stdout.decode().splitlines())
    assert told | {"PWD": ""} == own | {"PWD": ""}  # which a shell sets to where it is


@both
@pytest.mark.parametrize("reaped", [False, True])
def test_shim_exits_if_its_parent_is_dead(env: dict[str, str], reaped: bool) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as parent:
        parent.kill()
        os.waitid(os.P_PID, parent.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        words = wrap(["/bin/echo", "served"], (), names=env, parent=parent.pid)
        told = subprocess.run(words, env=env, capture_output=True, check=False, timeout=40)
    assert (told.returncode, told.stdout) == (CANNOT_ENTER, b"")


@both
def test_the_shim_complains_of_its_own_failures_only(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for command, entry, code in [
        (["seqsup-no-such-command"], [], NOT_FOUND),
        ([str(tmp_path / "plain")], [], CANNOT_EXECUTE),
        (["/bin/true"], [str(tmp_path / "no" / "cgroup.procs")], CANNOT_ENTER),
        (["/bin/true"], ["/dev/full"], CANNOT_ENTER),
    ]:
        ended = run_shim(command, entry, env=env)
        assert ended.returncode == code
        assert complaint(ended.returncode, ended.stderr)
    own = run_shim(["/bin/sh", "-c", "echo no >&2; exit 127"], env=env)
    assert complaint(own.returncode, own.stderr) is None
    assert complaint(0, b"seqsup: x\n") is None
    assert complaint(None, b"") is None
    assert complaint(NOT_FOUND, b"seqsup: ") is None, "an agent may begin like that, and say no more"


def test_the_leader_dies_with_its_supervisor() -> None:
    if not dying_with_us():
        pytest.skip("no setpriv that can")
    supervisor = """
import os, subprocess, sys
from seqsup.containment.launcher import wrap
child = subprocess.Popen(wrap(["/bin/sleep", "60"], (), die_with_us=True), stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
while "sleep" not in open(f"/proc/{child.pid}/comm").read():
    pass
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen(
        [sys.executable, "-c", supervisor], env={**os.environ, "PYTHONPATH": SOURCES},
        stdout=subprocess.PIPE,
    ) as died:  # fmt: skip
        assert died.stdout is not None
        leader = int(died.stdout.readline())
        died.wait(40)
    wait_for(lambda: not alive(leader))


def test_a_refusal_names_the_remedy_and_the_key_that_asked() -> None:
    better = ("Delegate=yes",) if SYSTEMD else ("mount -t cgroup2", "writable-cgroups")  # on a machine, in a container
    better = ("as root",) if os.geteuid() and any(mounts("memory")) else better
    assert any(words in tiers.remedy() for words in better)
    with pytest.raises(SeqsupError, match=r"(?s)memory.measure = .*leave memory.measure at auto"):
        tiers.choose(Enforce.CGROUP, "0" * 32, "memory.measure", tiers.SUBREAPER)


def test_a_tier_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SeqsupError, match=r"subreeper' is no tier .did you mean subreaper"):
        tiers.choose(Enforce.AUTO, "0" * 32, tier="subreeper")
