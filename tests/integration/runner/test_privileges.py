"""Privileges: an agent's user and limits, read access to its files, and what is shown of its secrets."""

import contextlib
import json
import os
import pwd
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import agent, of, parsed, proven, shell, write
from helpers.supervised import step, tried
from helpers.waiting import alive, must_be_open_to_others, wait_for
from seqsup.containment import launcher
from seqsup.host.machine import most_processes
from seqsup.model.profile import Rlimits

Cli = Callable[..., Result]
Start = Callable[..., Started]

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can change the user, and with setpriv"
)
USER = "nobody"
SECRET = "canary-7c1d0a55"


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that any user can enter. Pytest's are the user's own, and other tests may stand in those above it."""
    for each in (tmp_path, *tmp_path.parents):
        if not each.stat().st_mode & stat.S_IXOTH:
            each.chmod(each.stat().st_mode | stat.S_IXOTH)
    return tmp_path


def for_nobody(folder: Path, *agents: dict[str, Any], **tables: Any) -> Path:
    run = {"user": USER, "state_dir": str(folder / "state"), **tables.pop("run", {})}
    return write(folder, *agents, run=run, **tables)


def printed(folder: Path, name: str = "a", attempt: int = 1) -> str:
    return (folder / f"state/runs/r1/{name}/{attempt}/stdout.log").read_text()


# -- another user


@as_root
def test_an_agent_becomes_another_user_for_good(seqsup: Cli, open_folder: Path) -> None:
    script = (
        "id -u; id -g; id -G; grep -E '^(NoNewPrivs|CapEff|CapPrm|CapInh):' /proc/self/status | cut -f2;"
        " echo $HOME $USER $LOGNAME; env | grep -c -E '^(XDG_|SUDO_)'; cat /proc/self/oom_score_adj"
    )
    result = seqsup("start", for_nobody(open_folder, shell("a", script)), "--json", env={"SUDO_USER": "x"})
    entry = pwd.getpwnam(USER)
    groups = " ".join(map(str, os.getgrouplist(USER, entry.pw_gid)))
    assert proven(result)
    assert printed(open_folder).splitlines() == [
        str(entry.pw_uid), str(entry.pw_gid), groups, "0" * 16, "0" * 16, "0" * 16, "1",
        f"{entry.pw_dir} {USER} {USER}", "0", "1000",
    ]  # fmt: skip


@as_root
def test_agent_reaches_its_own_files_and_no_others_of_the_run(seqsup: Cli, open_folder: Path) -> None:
    make = "echo made >$SEQSUP_ARTIFACTS/it; echo by name >/dev/stdout; echo wrong >/dev/stderr; cat"
    pry = (
        "cat {artifacts:a}/it; for each in $SEQSUP_FOLDER/../../journal.db $SEQSUP_FOLDER/seqsup.log"
        " $SEQSUP_FOLDER/members; do cat $each; done; ls $SEQSUP_FOLDER; rm -f $SEQSUP_FOLDER/a/1/stdout.log;"
        " touch $SEQSUP_FOLDER/a/1/x; true"
    )
    profile = for_nobody(open_folder, shell("a", make, stdin="from stdin"), shell("b", pry, needs=["a"]))
    result = seqsup("start", profile)
    assert result.code == 0, result.stderr
    assert printed(open_folder) == "by name\nfrom stdin"
    assert printed(open_folder, "b") == "made\n"
    assert (open_folder / "state/runs/r1/b/1/stderr.log").read_text().count("Permission denied") == 6
    modes = {
        str(path.relative_to(open_folder / "state")): (path.owner(), stat.S_IMODE(path.stat().st_mode))
        for path in [open_folder / "state", *(open_folder / "state").rglob("*")]
    }
    assert modes["runs/r1/a/1/artifacts"] == (USER, 0o700)
    assert modes["runs/r1/a/1"] == modes["runs/r1"] == modes["."] == ("root", 0o711)
    assert modes["runs/r1/seqsup.log"] == modes["journal.db"] == ("root", 0o600)


KEYS = """
import ctypes, os, sys
keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
libc, session = ctypes.CDLL(None), -3
if os.geteuid():
    print(libc.syscall(keyctl, 10, session, b"user", b"seqsup-test", 0))
elif libc.syscall(keyctl, 1, None) < 0 or libc.syscall(keyctl - 2, b"user", b"seqsup-test", b"secret", 6, session) < 0:
    sys.exit(77)
else:
    os.execv(sys.argv[1], sys.argv[1:])
"""


@as_root
def test_agent_has_no_key_of_roots_session(open_folder: Path) -> None:
    """A process that changes its user keeps the session keyring, and can open what is in it."""
    words = [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", KEYS]
    profile = for_nobody(open_folder, agent("a", words))
    start = [sys.executable, "-c", KEYS, sys.executable, "-m", "seqsup", "start", str(profile)]
    ended = subprocess.run(start, env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, check=False)
    if ended.returncode == 77:
        pytest.skip("no keys here")
    assert (ended.returncode, printed(open_folder)) == (0, "-1\n")


@as_root
def test_its_own_user_counts_before_the_runs(seqsup: Cli, open_folder: Path) -> None:
    agents = [shell("a", "id -un", user="root"), shell("b", "id -un")]
    assert seqsup("start", for_nobody(open_folder, *agents)).code == 0
    assert (printed(open_folder), printed(open_folder, "b")) == ("root\n", f"{USER}\n")


@as_root
def test_a_variable_that_no_shell_would_keep_reaches_it_too(seqsup: Cli, open_folder: Path) -> None:
    step = agent("a", ["/usr/bin/env"], env={"npm_config_//host/:_auth": "x"})
    assert seqsup("start", for_nobody(open_folder, step, rlimits={"nofile": 128})).code == 0
    assert {"npm_config_//host/:_auth=x", f"USER={USER}"} <= set(printed(open_folder).splitlines())


@as_root
@pytest.mark.parametrize("enforce", ["auto", "watch"])
def test_agent_dies_with_its_supervisor(seqsup: Cli, seqsup_started: Start, open_folder: Path, enforce: str) -> None:
    profile = for_nobody(open_folder, agent("a", ["sleep", "300"]), memory={"enforce": enforce})
    started = seqsup_started("start", profile, "--json")
    spawned = wait_for(lambda: [e for e in parsed(started.stdout.rpartition("\n")[0]) if e["event"] == "spawned"])
    pid = spawned[0]["pid"]
    wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(USER).pw_uid
    started.send(signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    seqsup("sweep", cwd=open_folder, env={"SEQSUP_STATE_DIR": str(open_folder / "state")})


@as_root
def test_run_of_root_as_a_user_does_not_block_a_run_of_that_user(seqsup_started: Start, open_folder: Path) -> None:
    """He finds its processes, which are his, and cannot look into its folder."""
    must_be_open_to_others()
    started = seqsup_started("start", for_nobody(open_folder, shell("a", "echo up; sleep 60")))
    output = open_folder / "state/runs/r1/a/1/stdout.log"
    wait_for(output.read_text)
    (own := open_folder / "own").mkdir()
    shutil.chown(own, USER)
    ended = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "seqsup", "run", "true"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "SEQSUP_STATE_DIR": str(own)},
        cwd=open_folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    started.send(signal.SIGTERM)
    assert started.wait().code == 143


@as_root
def test_a_tree_of_another_user_is_stopped_whole(seqsup: Cli, open_folder: Path) -> None:
    profile = for_nobody(open_folder, shell("a", "setsid sleep 300 & echo $!; sleep 300"), timeouts={"wall": "2s"})
    result = seqsup("start", profile, "--json")
    ended = [event["reason"] for event in parsed(result.stdout) if event["event"] == "attempt_ended"]
    assert ended == ["timeout"], result.stderr
    assert not alive(int(printed(open_folder)))


@as_root
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {"user": "nobodyy"}}, "did you mean nobody?"),
        ({"run": {"state_dir": "/root/seqsup-no-such/state"}}, "cannot enter /root/seqsup-no-such, above the state"),
    ],
)
def test_impossible_user_is_refused_before_anything_starts(
    seqsup: Cli, open_folder: Path, changes: dict[str, Any], said: str
) -> None:
    result = seqsup("start", for_nobody(open_folder, shell("a", "touch ran"), **changes))
    assert result.code == 2
    assert said in result.stderr
    assert not (open_folder / "ran").exists()


@as_root
def test_a_folder_or_program_out_of_its_reach_is_named(seqsup: Cli, open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    profile = for_nobody(
        open_folder,
        shell("a", "true", cwd="closed"),
        agent("b", [program]),
        shell("c", "true", cwd="closed", user="root"),
    )
    result = seqsup("plan", profile)
    assert result.code == 2
    assert f"agent a: user: nobody cannot enter {closed}" in result.stderr
    assert f"agent b: user: nobody cannot start {program}" in result.stderr
    assert "agent c" not in result.stderr


@as_root
def test_a_file_that_it_may_not_read_is_not_handed_to_it(seqsup: Cli, open_folder: Path) -> None:
    secret = open_folder / "shadow"
    secret.write_text("root:x")
    secret.chmod(0o600)
    profile = for_nobody(open_folder, agent("a", ["cat"], stdin_file="shadow"))
    result = seqsup("start", profile)
    assert (result.code, f"{secret} cannot be read: Permission denied" in result.stderr) == (2, True), result.stderr
    secret.chmod(0o644)
    assert seqsup("start", profile).code == 0
    assert printed(open_folder) == "root:x"


@as_root
@pytest.mark.parametrize("lanes", [1, 2])
def test_program_that_root_still_runs_does_not_load_what_the_agents_variables_name(
    seqsup: Cli, open_folder: Path, lanes: int
) -> None:
    """The file may be the agent's own. It is missing here, of which everything that would load it complains."""
    env = {"LD_PRELOAD": "/not/there.so"}
    beside = {"allow_concurrency": True, "concurrency": lanes} if lanes > 1 else {}
    server = {"name": "c", "command": ["sh", "-c", "echo up; exec sleep 60"], "env": env, "ready": {"log": "up"}}
    step = shell("a", "echo here $LD_PRELOAD", env=env, success={"output": "^here"})
    result = seqsup("start", for_nobody(open_folder, step, run=beside, companions=[server]))
    assert result.code == 0, result.stderr
    assert printed(open_folder) == "here /not/there.so\n"
    told = {
        str(file.relative_to(open_folder / "state/runs/r1")): file.read_text().count("cannot be preloaded")
        for file in (open_folder / "state/runs/r1").rglob("stderr.log")
    }
    # Their shells, and its sleep; the search for ^here is root's
    assert told == {"a/1/stderr.log": 1, "@companions/c/1/stderr.log": 2}


@as_root
def test_its_node_is_never_asked_by_root(seqsup: Cli, open_folder: Path) -> None:
    node = open_folder / "bin" / "node"
    node.parent.mkdir()
    node.write_text("#!/bin/sh\nid -un >&2\nexit 1\n")
    node.chmod(0o755)
    profile = for_nobody(open_folder, agent("a", ["node", "x.js"], env={"PATH": f"{node.parent}:{os.environ['PATH']}"}))
    assert "does not answer as Node: nobody" in seqsup("plan", profile).stderr


def test_only_root_can_change_the_user(seqsup: Cli, tmp_path: Path) -> None:
    """As root, test in a user namespace in which this user is not root."""
    profile = write(tmp_path, shell("a", "touch ran"), run={"user": "daemon" if os.geteuid() else USER})
    if os.geteuid() == 0:
        program = (
            "import os, sys; from seqsup.host import users as account\n"
            "os.seteuid(1)\n"
            "try: account.look_up('nobody')\n"
            "except account.NoAccount as error: print(error)\n"
            f"print(account.look_up({pwd.getpwuid(1).pw_name!r}))"
        )
        said = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "only root can start agents as nobody" in said
        assert said.splitlines()[-1] == "None"  # the user that we are already
        return
    result = seqsup("start", profile)
    assert (result.code, (tmp_path / "ran").exists()) == (2, False)
    assert "only root can start agents as daemon" in result.stderr


# -- limits of each process


@pytest.mark.parametrize("odd", [{}, {"not-an-identifier": "1"}], ids=["sh", "python"])
def test_each_process_of_an_agent_is_held_to_the_limits(seqsup: Cli, tmp_path: Path, odd: dict[str, str]) -> None:
    program = (
        "import os, resource, sys\n"
        "if os.fork(): os.wait(); sys.exit()\n"
        "print(*(resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_DATA)))"
    )
    profile = write(
        tmp_path,
        agent("plain", [sys.executable, "-c", program], env=odd),
        agent(
            "own", [sys.executable, "-c", program], env=odd, rlimits={"nofile": 200, "core": "1MiB", "data": "512MiB"}
        ),
        agent("off", [sys.executable, "-c", program], env=odd, rlimits={"core": "none"}),
    )
    assert seqsup("start", profile).code == 0
    run = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs/r1"
    told = {name: (run / name / "1/stdout.log").read_text().strip() for name in ("plain", "own", "off")}
    nofile, core, data = map(resource.getrlimit, (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_DATA))
    assert told["plain"] == f"{nofile} (0, 0) {data}"
    assert told["own"] == f"(200, 200) ({1 << 20}, {1 << 20}) ({512 << 20}, {512 << 20})"
    assert told["off"] == f"{nofile} {core} {data}"


@pytest.mark.parametrize("command", ["plan", "start", "doctor"])
def test_impossible_limit_is_refused_before_anything_starts(seqsup: Cli, tmp_path: Path, command: str) -> None:
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    profile = write(tmp_path, shell("a", "true"), rlimits={"nofile": most + 1})
    result = seqsup(command, profile)
    assert result.code == (1 if command == "doctor" else 2)
    line = profile.read_text().splitlines().index(f"nofile = {most + 1}") + 1
    said = " ".join((result.stdout + result.stderr).split())
    assert f":{line}:10: rlimits.nofile: {most + 1} is more than the hard limit {hard[1]}; lower it, or" in said
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == hard


@pytest.mark.parametrize("odd", [{}, {"not-an-identifier": "1"}], ids=["sh", "python"])
def test_shim_reports_a_limit_that_is_no_longer_possible(tmp_path: Path, odd: dict[str, str]) -> None:
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    outcome = tried(step("true", cwd=tmp_path, env=odd, rlimits=Rlimits(nofile=most + 1)), tmp_path / "run").outcome
    assert outcome.reason == "spawn-failed"
    assert outcome.why.endswith(f"rlimits.nofile: {most + 1} is more than the hard limit here")


def test_the_shells_of_this_machine_set_the_limits() -> None:
    shells = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"]]
    bounds = launcher.Bounds(Rlimits(core=1 << 20, data=512 << 20), soft_nofile=100)
    _, _, script, *rest = launcher.wrap(["/bin/cat", "/proc/self/limits"], [], bounds=bounds)
    for words in shells:
        if shutil.which(words[0]):
            shown = subprocess.run([*words, "-c", script, *rest], capture_output=True, text=True, check=True).stdout
            limits = {line[:25].strip(): line[26:].split()[:2] for line in shown.splitlines()}
            hard = str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            assert limits["Max open files"] == ["100", hard], words
            assert limits["Max core file size"] == [str(1 << 20)] * 2, words
            assert limits["Max data size"] == [str(512 << 20)] * 2, words


def test_the_plan_names_them(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), rlimits={"nofile": 200, "data": "1GiB"})
    assert re.search(r"each process +200 open files, data 1 GiB", seqsup("plan", profile, "-v").stdout)
    [step] = json.loads(seqsup("plan", profile, "--json").stdout)["steps"]
    assert step["rlimits"] == {"nofile": 200, "core": 0, "data": 1 << 30, "processes": most_processes()}
    assert step["account"] is None


# -- access to the files of agents


def test_files_of_a_run_belong_to_its_user_alone(seqsup: Cli, tmp_path: Path) -> None:
    state = tmp_path / "made" / "state"
    profile = write(tmp_path, shell("a", "echo out; exit 1"), shell("b", "true"), run={"on_failure": "continue"},
                    retry={"attempts": 2})  # fmt: skip
    old = os.umask(0)
    try:
        assert seqsup("start", profile, env={"SEQSUP_STATE_DIR": str(state)}).code == 1
        assert seqsup("run", "--", "true", env={"SEQSUP_STATE_DIR": str(state)}).code == 0
    finally:
        os.umask(old)
    left = [state.parent, state, *state.rglob("*")]
    wide = [f"{stat.filemode(path.stat().st_mode)} {path}" for path in left if path.stat().st_mode & 0o077]
    assert wide == []
    assert {"journal.db", "seqsup.log", "queue", "lock", "stdout.log", "stderr.log", "door"} <= {p.name for p in left}


def test_while_it_runs_too(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    profile = write(tmp_path, shell("a", "touch up; until [ -e end ]; do sleep 0.05; done"))
    old = os.umask(0)
    try:
        started = seqsup_started("start", profile)
    finally:
        os.umask(old)
    wait_for((tmp_path / "up").exists)
    left = [state, *state.rglob("*")]
    assert [path for path in left if path.stat().st_mode & 0o077] == []
    assert {"members", "journal.db-wal", "journal.db-shm"} <= {path.name for path in left}
    (tmp_path / "end").touch()
    assert started.wait().code == 0


# -- secrets


def test_secret_in_env_or_stdin_is_never_shown(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    wanted = 'read -r given; [ "$TOKEN" = "$given" ] || exit 9; touch up; until [ -e end ]; do sleep 0.05; done'
    secretive = shell("a", wanted, env={"TOKEN": SECRET}, stdin=f"{SECRET}\n")
    spoilt = shell("b", "kill -SEGV $$", env={"not-an-identifier": SECRET}, needs=["a"])
    profile = write(tmp_path, secretive, spoilt)
    for before in (["plan", profile], ["plan", profile, "-v"], ["plan", profile, "--json"], ["doctor", profile]):
        result = seqsup(*before)
        assert SECRET not in result.stdout + result.stderr, before
    started = seqsup_started("start", profile, "--json")
    wait_for((tmp_path / "up").exists)
    assert not any(SECRET in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    (tmp_path / "end").touch()
    ended = started.wait()
    assert ended.code == 1
    for words in (["status"], ["status", "--json"], ["events"], ["logs"], ["runs", "--json"]):
        result = seqsup(*words)
        assert SECRET not in result.stdout + result.stderr, words
    assert SECRET not in ended.stdout + ended.stderr
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    assert [path for path in state.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


# -- a process that we may not look into


# It starts as root's, so it was not seen before; its parent, which was, cannot be read either
HOLDS = """
import os, time
os.setuid(0)
if os.fork():
    os._exit(0)
print("ready", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def setuid_python(open_folder: Path) -> str:
    """Return a Python that always runs as root."""
    copy = open_folder / "setuid-python"
    shutil.copy(sys.executable, copy)
    copy.chmod(0o4755)
    if os.statvfs(open_folder).f_flag & os.ST_NOSUID:
        pytest.skip("the temporary folder is mounted nosuid")
    return str(copy)


@contextlib.contextmanager
def nobodys(folder: Path, profile: Path, hidepid: int) -> Iterator[subprocess.Popen[str]]:
    """Run as a user that may not see all of /proc; its events are its output."""
    must_be_open_to_others()
    mounted = f"mount -t proc -o hidepid={hidepid} proc /proc && " if hidepid else ""
    become = 'exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
    (folder / "state").mkdir()
    shutil.chown(folder / "state", USER)
    start = [sys.executable, "-m", "seqsup", "start", str(profile), "--json"]
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", mounted + become, "sh", *start],
        cwd=folder, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "SEQSUP_STATE_DIR": str(folder / "state")},
    ) as process:  # fmt: skip
        yield process


@as_root
@pytest.mark.parametrize(
    ("hidepid", "measure", "said"),
    [
        (0, "auto", ""),
        (0, "pss", "smaps_rollup cannot be read"),
        (1, "auto", "/proc does not let us read it"),
        (2, "auto", "/proc does not show it"),
    ],
)
def test_unreadable_process_is_named_once_and_awaited(
    open_folder: Path, setuid_python: str, hidepid: int, measure: str, said: str
) -> None:
    program = agent("a", [setuid_python, "-ISc", HOLDS], timeouts={"grace": "500ms"})
    memory = {"measure": measure, "enforce": "watch"}
    profile = write(open_folder, program, memory=memory, run={"state_dir": str(open_folder / "state")})
    profile.chmod(0o644)
    told: list[str] = []
    with nobodys(open_folder, profile, hidepid) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line)
            if "SIGKILL" in line:
                break
        pid = int(printed(open_folder).split()[1])
        os.kill(pid, signal.SIGKILL)  # it is root's: the user nobody may not signal it
        told += process.stdout
    events = parsed("".join(told))
    warned = [event["message"] for event in of(events, "warned") if str(pid) in event["message"]]
    assert len(warned) == bool(said), warned
    assert all(said in message for message in warned)
    assert [process["pid"] for process in of(events, "attempt_ended")[0]["left_over"]] == [pid]
    assert events[-1]["exit_code"] == 0


@as_root
def test_another_user_reads_artifacts_and_cannot_change_them(open_folder: Path, seqsup: Cli) -> None:
    forge = (
        "stat -c %U:%a $SEQSUP_PREVIOUS_SUMMARIES; cat $SEQSUP_PREVIOUS_SUMMARIES;"
        " chmod 666 $SEQSUP_PREVIOUS_SUMMARIES; echo FORGED > $SEQSUP_PREVIOUS_SUMMARIES; true"
    )
    profile = for_nobody(
        open_folder, agent("first", ["echo", "one"]), shell("forger", forge, user="daemon"),
        shell("third", 'cat "$SEQSUP_PREVIOUS_SUMMARIES"; echo mine > "$SEQSUP_ARTIFACTS/summary.md"'),
        agent("fourth", ["echo", "{summary:third}"]),
    )  # fmt: skip
    result = seqsup("start", profile)
    assert result.code == 0, result.stderr
    assert printed(open_folder, "forger") == "root:640\n## first\n\none\n\n"
    assert (open_folder / "state/runs/r1/forger/1/stderr.log").read_text().count("\n") == 2
    assert printed(open_folder, "third").startswith("## first\n\none\n\n## forger\n")
    assert "FORGED" not in printed(open_folder, "third")
    assert seqsup("logs", profile, "fourth").stdout == "mine\n"


# -- what its processes inherit

ROOTS = {"TOKEN": SECRET, "OLDPWD": "/root", "ODD_KEY": "k", "ODD_ID": "i", "LC_TIME": "C", "TZ": "UTC"}
CLEAN = {"HOME", "LANG", "LC_TIME", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TZ", "USER"}


def environment(folder: Path, name: str = "a") -> dict[str, str]:
    """Return what `env` printed, without the variables that seqsup and the shell set."""
    lines = dict(line.split("=", 1) for line in printed(folder, name).splitlines())
    ours = ("SEQSUP_", "NODE_OPTIONS", "MALLOC_", "_")
    return {name: value for name, value in lines.items() if not name.startswith(ours)}


@as_root
def test_another_user_inherits_little_of_roots_environment(seqsup: Cli, open_folder: Path) -> None:
    companion = {"name": "c", "command": ["sh", "-c", "env; exec sleep 60"], "ready": {"log": "HOME="}}
    profile = for_nobody(
        open_folder, agent("a", ["env"], env={"OWN": "1"}), agent("b", ["env"], user="root"),
        run={"inherit": ["ODD_*", "NOT_SET"]}, companions=[companion],
        hooks={"after_agent": ["env"], "before_run": [f"sh -c 'env >{open_folder}/hook'"]},
    )  # fmt: skip
    (open_folder / "hook").touch()
    (open_folder / "hook").chmod(0o666)
    given = {**ROOTS, "LANG": "C.UTF-8", "TERM": "dumb", "SEQSUP_STATE_DIR": str(open_folder / "state")}
    result = seqsup("start", profile, env=given)
    assert result.code == 0, result.stderr
    own = environment(open_folder)
    assert own.keys() == CLEAN | {"OWN", "ODD_KEY", "ODD_ID"}
    assert not any(part.startswith("/root") for part in own["PATH"].split(":"))
    for told in (printed(open_folder, "@companions/c"), (open_folder / "hook").read_text()):
        assert (SECRET in told, "ODD_KEY=k" in told, f"USER={USER}" in told, "SEQSUP_STATE_DIR" in told) == (
            False, True, True, False,
        )  # fmt: skip
    assert environment(open_folder, "b")["TOKEN"] == SECRET


@as_root
def test_inherit_gives_path_but_not_home(seqsup: Cli, open_folder: Path) -> None:
    profile = for_nobody(open_folder, agent("a", ["env"]), run={"inherit": ["PATH", "HOME"]})
    assert seqsup("start", profile, env={"PATH": "/usr/bin:/bin:/odd"}).code == 0
    own = environment(open_folder)
    assert ("/odd" in own["PATH"].split(":"), own["HOME"]) == (True, pwd.getpwnam(USER).pw_dir)


@as_root
def test_the_plan_says_what_another_user_gets(seqsup: Cli, open_folder: Path) -> None:
    profile = for_nobody(open_folder, agent("a", ["env"]), run={"inherit": ["ODD_*"]}, hooks={"after_run": ["true"]})
    told = " ".join(seqsup("plan", profile, "-v", env=ROOTS).stdout.split())
    assert f"user {USER}; of root's environment only HOME, " in told
    assert " LOGNAME, ODD_ID, ODD_KEY, PATH, SHELL, " in told
    assert f"each as {USER}, in " in told
    assert SECRET not in told
    assert f"they run as {USER}" in " ".join(seqsup("doctor", profile).stdout.split())


@pytest.mark.parametrize("name", ["", "*", "A=B", "A*B", "A**"])
def test_inherit_takes_names_and_prefixes(seqsup: Cli, tmp_path: Path, name: str) -> None:
    result = seqsup("plan", write(tmp_path, agent("a", ["true"]), run={"inherit": [name]}))
    assert (result.code, "run.inherit[0]: expected a variable, or a prefix" in result.stderr) == (2, True)


def test_inherit_without_another_user_is_noted(seqsup: Cli, tmp_path: Path) -> None:
    told = seqsup("plan", write(tmp_path, agent("a", ["true"]), run={"inherit": ["A"]})).stdout
    assert "run.inherit has no effect" in told
