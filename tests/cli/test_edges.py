"""Mistakes of a tired user at 2 a.m.: each of these was once a bug."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.disks import fill, tmpfs
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write
from helpers.waiting import wait_for
from seqsup.state.run_folder import write_private

Seqsup = Callable[..., Result]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}


BLOCKING = """
import os, signal, sys
for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # where the tests run in the background
    signal.signal(ignored, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.argv[1], sys.argv[1:])
"""


C_LIBRARYS = 0b11 << 31  # signals 32 and 33, which posix_spawn of Debian 12's glibc leaves ignored


def test_signals_that_its_starter_had_blocked_are_heard_by_it_and_by_agents(
    seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    profile = write(tmp_path, shell("a", "grep -E '^Sig(Blk|Ign)' /proc/self/status >told; touch up; exec sleep 60"))
    run = seqsup_started("start", profile, through=[sys.executable, "-c", BLOCKING])
    wait_for((tmp_path / "up").exists)
    run.send(signal.SIGTERM)
    assert run.wait(20).code == 128 + signal.SIGTERM
    blocked, ignored = (int(word, 16) for word in (tmp_path / "told").read_text().split()[1::2])
    assert (blocked, ignored & ~C_LIBRARYS) == (0, 0)


INTERRUPTS = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
signal.signal(signal.SIGINT, getattr(signal, os.environ["HOW"]))
"""


def importing(folder: Path, at: str, how: str, start: str = "-m") -> "subprocess.CompletedProcess[str]":
    """`seqsup runs`, with a Ctrl-C when this module is about to be imported."""
    (folder / "sitecustomize.py").write_text(INTERRUPTS)
    env = {**environment(), "PYTHONPATH": f"{folder}:{ROOT / 'supervisor'}", "AT": at, "HOW": how}
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["seqsup"].partition(":")
    own = {"-m": ["-m", "seqsup"], "script": ["-c", f"import sys, {module} as own; sys.exit(own.{function}())"]}[start]
    command = [sys.executable, *own, "runs"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("start", ["-m", "script"])
@pytest.mark.parametrize("at", ["seqsup.cli.app", "click", "seqsup.cli.commands.runs", "msgspec"])
def test_a_ctrl_c_that_comes_while_it_is_loaded_ends_it_like_any_program(tmp_path: Path, at: str, start: str) -> None:
    ended = importing(tmp_path, at, "default_int_handler", start)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_ignored_ctrl_c_is_ignored_while_seqsup_loads_too(tmp_path: Path) -> None:
    ended = importing(tmp_path, "click", "SIG_IGN")
    assert (ended.returncode, ended.stderr) == (0, "seqsup: no runs yet\n")


LEAKS = pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="this Popen keeps its files where too many are open")


@pytest.mark.parametrize("most", [pytest.param(6, marks=LEAKS), 8, 16, 28, 63])
def test_run_does_not_start_if_too_few_files_may_be_open(seqsup: Seqsup, tmp_path: Path, most: int) -> None:
    profile = write(tmp_path, shell("a", "true"))
    command = ["sh", "-c", f'ulimit -n {most}; exec "$@"', "sh", sys.executable, "-m", "seqsup", "start", str(profile)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    told = f"seqsup: a run needs 64 open files at least, and `ulimit -n` allows {most}: raise it\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", told)
    assert seqsup("status").code == 3


INTERRUPTED = """
import asyncio, os, signal, sys
from seqsup.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)
listen = asyncio.SelectorEventLoop.add_signal_handler
def interrupted(*args):
    asyncio.SelectorEventLoop.add_signal_handler = listen
    os.kill(os.getpid(), signal.SIGINT)
    return listen(*args)
asyncio.SelectorEventLoop.add_signal_handler = interrupted
sys.exit(main(sys.argv[1:]))
"""


def test_a_ctrl_c_that_comes_before_it_listens_is_heard_and_cuts_no_agent_short(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "sleep 0.1"), shell("b", "touch ran"))
    command = [sys.executable, "-c", INTERRUPTED, "start", str(profile)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 130, ended.stderr
    assert json.loads(seqsup("status", "--json").stdout)["state"] == "stopped"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "proc", "told"),
    [
        *((words, "tmpfs x", "/proc is not mounted:") for words in (["plan"], ["start"], ["run", "true"])),
        *((words, "proc -o subset=pid x", "/proc shows processes alone") for words in (["plan"], ["mem"])),
    ],
    ids=str,
)
def test_missing_proc_is_reported(tmp_path: Path, words: list[str], proc: str, told: str) -> None:
    profile = [str(write(tmp_path, shell("a", "true")))] if words[0] in ("plan", "start") else []
    mount = f'mount -t {proc} /proc || exit 99; exec "$@"'
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if "subset" in proc and os.geteuid() == 0:
        apart = ["unshare", *apart[3:]]  # in a namespace of users the kernel mounts no second one
    start = [sys.executable, "-m", "seqsup", *words, *profile]
    ended = subprocess.run([*apart, *start], env=environment(), capture_output=True, text=True, check=False)
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip("no namespace can be made here")
    assert ended.returncode == (125 if words[0] == "run" else 3), ended.stderr
    assert ended.stderr.startswith(f"seqsup: {told}")
    assert "mount -t proc proc /proc" in ended.stderr


def test_a_resumed_run_keeps_its_task(seqsup: Seqsup, tmp_path: Path) -> None:
    done = agent("a", ["sh", "-c", 'echo "a $0" >> out', "{task}"])
    fails = agent("b", ["sh", "-c", 'echo "b $0" >> out; exit 1', "{task}"], retry={"attempts": 1})
    profile = write(tmp_path, done, fails)
    assert seqsup("start", profile, "--task", "deploy v2").code == 1
    assert seqsup("start", profile, "--resume").code == 1
    assert (tmp_path / "out").read_text().splitlines() == ["a deploy v2", "b deploy v2", "b deploy v2"]


@pytest.mark.parametrize("command", ["start", "plan"])
def test_forgotten_task_is_refused_and_nothing_starts(seqsup: Seqsup, tmp_path: Path, command: str) -> None:
    profile = write(tmp_path, shell("a", "touch ran; true {task}"), shell("b", "true {task}"), shell("c", "true"))
    ended = seqsup(command, profile)
    assert (ended.code, ended.stderr) == (
        2, 'seqsup: {task} is empty, and a, b use it\n  hint: add --task "what to do"\n'
    )  # fmt: skip
    assert not (tmp_path / "ran").exists()
    assert seqsup(command, profile, "--task", "x").code == 0
    assert seqsup(command, profile, "--only", "c").code == 0


def test_for_each_without_items_is_refused_but_resumes(seqsup: Seqsup, tmp_path: Path) -> None:
    each = agent("each", ["sh", "-c", 'rm "$0"; echo did "$0"', "{item}"], for_each={"glob": "*.todo"})
    fails = agent("last", ["sh", "-c", "[ -e ok ]"], retry={"attempts": 1})
    profile = write(tmp_path, each, fails)
    refused = seqsup("start", profile)
    assert (refused.code, "no file matches *.todo" in refused.stderr) == (2, True)
    (tmp_path / "x.todo").touch()
    assert seqsup("start", profile).code == 1
    (tmp_path / "ok").touch()
    resumed = seqsup("start", profile, "--resume")
    assert resumed.code == 0, resumed.stderr


def test_a_choice_that_leaves_no_agent_is_refused(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), shell("b", "true"))
    ended = seqsup("start", profile, "--only", "a", "--from", "b")
    assert (ended.code, "--only and --from" in ended.stderr) == (2, True)


def test_a_journal_that_is_removed_stops_the_run(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", 'rm "$SEQSUP_STATE_DIR"/journal*'), shell("b", "touch ran"))
    ended = seqsup("start", profile)
    assert (ended.code, "was removed or replaced" in ended.stderr) == (4, True)
    assert not (tmp_path / "ran").exists()


def test_unreachable_journal_stops_the_run(seqsup: Seqsup, tmp_path: Path) -> None:
    # Between the two it would say that the journal was removed
    moved = 'kill -STOP $PPID; mv "$SEQSUP_STATE_DIR" moved; touch "$SEQSUP_STATE_DIR"; kill -CONT $PPID'
    ended = seqsup("start", write(tmp_path, shell("a", moved), shell("b", "true")))
    assert (ended.code, "can no longer be reached: Not a directory" in ended.stderr) == (4, True), ended.stderr


def test_run_can_be_left_if_its_output_has_no_reader(seqsup: Seqsup, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)  # a reader that never reads
    command = [sys.executable, "-m", "seqsup", "run", "--", "head", "-c", "3000000", "/dev/zero"]
    try:
        with subprocess.Popen(command, stdout=held, stderr=subprocess.DEVNULL, env=environment()) as run:
            wait_for(lambda: "1 of 1 completed" in seqsup("status").stdout)
            assert run.poll() is None
            run.send_signal(signal.SIGTERM)
            assert run.wait(40) == 0
    finally:
        os.close(held)


@pytest.mark.parametrize("words", ["run -- true", "start x.toml", "plan x.toml", "init x.toml --timer"])
def test_missing_folder_is_reported_without_a_traceback(seqsup: Seqsup, tmp_path: Path, words: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m seqsup {words}"
    ended = subprocess.run(
        ["sh", "-c", command], env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, "was removed" in ended.stderr, "Traceback" in ended.stderr) == (
        125 if words.startswith("run") else 2,
        True,
        False,
    )


@pytest.mark.parametrize(("words", "option"), [(["mem", "--log", ""], "--log"), (["report", "-o", ""], "--output")])
def test_empty_path_of_a_file_is_a_mistake(seqsup: Seqsup, words: list[str], option: str) -> None:
    said = seqsup(*words)
    assert said.code == 2
    assert said.stderr.startswith(f"seqsup: {option}: expected the path of a file, not ''\n")


def test_path_or_task_that_is_not_utf8_is_reported_without_a_traceback(seqsup: Seqsup, tmp_path: Path) -> None:
    profile, odd = write(tmp_path, shell("a", "true")), os.fsdecode(b"\xff")
    (tmp_path / odd).mkdir()
    elsewhere = [shutil.copy(profile, tmp_path / f"{odd}.toml"), shutil.copy(profile, tmp_path / odd / "p.toml")]
    for args in (
        *(["start", str(each)] for each in elsewhere), ["plan", str(elsewhere[0])], ["tune", str(elsewhere[1])],
        ["start", str(profile), "--task", odd],
    ):  # fmt: skip
        ended = seqsup(*args)
        assert (ended.code, "not UTF-8" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False), ended
    env = {**environment(), "SEQSUP_STATE_DIR": str(tmp_path / odd)}
    for words, code in ((["status"], 2), (["run", "--", "true"], 125)):
        ended_so = subprocess.run([sys.executable, "-m", "seqsup", *words], env=env, capture_output=True, check=False)
        assert (ended_so.returncode, b"not UTF-8" in ended_so.stderr) == (code, True), ended_so


@pytest.mark.parametrize(("words", "code"), [("status", 2), ("run -- true", 125), ("doctor", 2)])
def test_user_without_a_home_is_told_which_variable_to_set(tmp_path: Path, words: str, code: int) -> None:
    env = {name: value for name, value in environment().items() if not name.startswith(("XDG_", "SEQSUP_"))}
    command = [sys.executable, "-m", "seqsup", *words.split()]
    ended = subprocess.run(
        command, env={**env, "SEQSUP_STATE_DIR": "~no-such-user/x"}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, "set HOME, or SEQSUP_STATE_DIR" in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_profile_that_never_ends_is_refused(seqsup: Seqsup) -> None:
    ended = seqsup("start", "/dev/zero")
    assert (ended.code, "larger than 16 MiB" in ended.stderr) == (2, True)


def test_bad_interpreter_is_reported_without_the_words_of_our_shell(seqsup: Seqsup, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    profile = write(tmp_path, agent("a", [str(script)], retry={"attempts": 1}))
    ended = seqsup("start", profile)
    assert ended.code in (1, 2)
    assert "seqsup: 4:" not in ended.stderr


@pytest.mark.parametrize(("args", "code"), [(["run", "--", "echo", "hi"], 125), (["start", "--json"], 2)])
def test_output_that_finds_no_room_is_a_failure(tmp_path: Path, args: list[str], code: int) -> None:
    if args[0] == "start":
        args = [*args, str(write(tmp_path, shell("a", "true")))]
    command = [sys.executable, "-m", "seqsup", *args]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path, check=False
        )  # fmt: skip
    assert (ended.returncode, "output: No space left on device" in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("args", [["strat"], ["status", "nobody"], ["start"]])
def test_messages_that_find_no_room_are_no_agent_that_gave_up(tmp_path: Path, args: list[str]) -> None:
    if args == ["start"]:
        args = ["start", str(write(tmp_path, shell("a", "true")))]
    command = [sys.executable, "-m", "seqsup", *args]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stderr=full, env=environment(), cwd=tmp_path, check=False)
    assert ended.returncode == 2


def test_message_that_finds_no_room_costs_no_waiting_run_its_turn(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    """The disk of its log was full, so a nightly run could not report the run that it waited for, and never started."""
    ahead = write(tmp_path, shell("a", "touch pid; until [ -e gate ]; do sleep 0.05; done"), name="ahead")
    first = seqsup_started("start", ahead)
    wait_for((tmp_path / "pid").exists)
    behind = write(tmp_path, shell("b", "touch ran"), name="behind")
    with Path("/dev/full").open("wb") as full:
        second = subprocess.Popen(
            [sys.executable, "-m", "seqsup", "start", str(behind)], stderr=full, env=environment(), cwd=tmp_path
        )
    wait_for(lambda: second.poll() is not None or json.loads(seqsup("runs", "--json").stdout)["waiting"])
    (tmp_path / "gate").touch()
    second.wait(60)
    assert (tmp_path / "ran").exists()
    assert first.wait().code == 0


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may enter every folder")
@pytest.mark.parametrize("since", ["the start", "the first agent"])
def test_a_folder_that_may_not_be_entered_is_no_hindrance_to_start_from(tmp_path: Path, since: str) -> None:
    """`sudo -u agent seqsup start` in a folder of root's."""
    (shut := tmp_path / "shut").mkdir()
    close = f"chmod 0 {shut}"
    first, begin = ("true", close) if since == "the start" else (close, "true")
    profile = write(tmp_path, shell("a", first), shell("b", "echo $PWD; false"))
    powers = "-dac_override,-dac_read_search"
    humbly = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []
    ended = subprocess.run(
        [*humbly, "sh", "-c", f'{begin}; exec "$@"', "sh", sys.executable, "-m", "seqsup", "start", str(profile)],
        cwd=shut, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    shut.chmod(0o700)
    assert ended.returncode == 1, ended.stderr
    assert f"why b failed: exit 1: {tmp_path}" in ended.stderr
    assert f"seqsup start {profile} --resume" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can give a folder away")
def test_state_folder_that_another_user_keeps_to_itself_is_named_with_its_owner(tmp_path: Path) -> None:
    """`sudo seqsup` makes such a folder in a home."""
    (theirs := tmp_path / "theirs").mkdir(mode=0o700)
    (theirs / "journal.db").touch()
    os.chown(theirs, 65534, 65534)
    powers = "-dac_override,-dac_read_search"
    ended = subprocess.run(
        ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}", sys.executable, "-m", "seqsup", "status"],
        env=environment() | {"SEQSUP_STATE_DIR": str(theirs)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    assert f"{theirs} belongs to nobody: run seqsup as that user, or set" in ended.stderr


def test_variable_without_a_name_is_not_passed_on(seqsup: Seqsup, tmp_path: Path) -> None:
    """A shell drops it, but a program that calls exec may pass it on."""
    companions = [{"name": "c", "command": ["sleep", "60"]}]
    result = seqsup("start", write(tmp_path, shell("a", "true"), companions=companions), env={"": "nameless"})
    assert result.code == 0, result.stderr


def test_machine_path_that_is_not_utf8_is_still_reported_to_programs(seqsup: Seqsup, tmp_path: Path) -> None:
    (folder := tmp_path / "b\udcff").mkdir()
    (folder / "agent").symlink_to("/bin/true")
    profile, path = write(tmp_path, agent("a", ["agent"])), f"{folder}:{os.environ['PATH']}"
    planned = seqsup("plan", profile, "--json", env={"PATH": path})
    assert planned.code == 0, planned.stderr
    assert str(folder) in json.loads(planned.stdout)["steps"][0]["runtime_why"]


def test_agent_that_never_starts_leaves_no_trace(seqsup: Seqsup, tmp_path: Path) -> None:
    """The first fails before it was time to set the other's stage."""
    profile = write(tmp_path, agent("a", ["true", *["x" * 100_000] * 70]), shell("b", "true"))
    state = tmp_path / "state"
    assert seqsup("start", profile, env={"SEQSUP_STATE_DIR": str(state)}).code == 1
    assert (state / "runs/r1/a").is_dir()
    assert not (state / "runs/r1/b").exists()


def test_lanes_that_no_agent_needs_take_no_memory(tmp_path: Path) -> None:
    lanes = {"concurrency": 2**31, "allow_concurrency": True}
    profile = write(tmp_path, shell("a", "true"), shell("b", "true"), run=lanes, memory={"hard": "64MiB"})
    command = f"ulimit -v 4000000 && exec {sys.executable} -m seqsup start {profile}"
    ended = subprocess.run(["sh", "-c", command], env=environment(), capture_output=True, text=True, check=False)
    assert (ended.returncode, "2 of 2 completed" in ended.stderr) == (0, True), ended.stderr


def test_a_hint_finds_the_run_of_a_profile_that_keeps_its_own(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("run", "--", "true").code == 0  # another r1, in the usual folder
    once = {"attempts": 1}
    profile = write(tmp_path, shell("a", "echo own; exit 3", retry=once), run={"state_dir": "own"})
    hint = f"seqsup logs {profile.name} a"
    assert hint in seqsup("start", profile).stderr
    assert hint in seqsup("status", profile).stdout
    assert seqsup(*hint.split()[1:]).stdout == "own\n"
    left = seqsup("start", profile, "--detach")
    assert f"seqsup status {profile} · seqsup logs {profile} -f" in left.stderr
    wait_for(lambda: "ago, exit 1" in seqsup("status", profile).stdout)


def test_a_commands_own_options_need_no_dashes_before_it(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    listed = seqsup("run", "--name", "listing", "ls", "-a")
    assert (listed.code, ".hidden" in listed.stdout) == (0, True)


def test_too_many_retries_are_refused_by_their_own_name(seqsup: Seqsup) -> None:
    refused = seqsup("run", "--retries", "99999999999", "--", "true")
    assert (refused.code, "--retries" in refused.stderr, "retry.attempts" in refused.stderr) == (125, True, False)


def test_a_dry_sweep_says_how_much_memory_is_held(seqsup: Seqsup, tmp_path: Path) -> None:
    holds = f"{sys.executable} -c \"held = b'x' * 40 * 2**20; print('ready', flush=True); import time; time.sleep(60)\""
    script = f"setsid {holds} > said & while ! grep -q ready said; do sleep 0.01; done; touch ran; sleep 60"
    profile = write(tmp_path, shell("a", script), memory={"enforce": "watch"})
    with subprocess.Popen(
        [sys.executable, "-m", "seqsup", "start", profile], env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        wait_for((tmp_path / "ran").exists)
        process.kill()
    dry = seqsup("sweep", "--dry-run")
    assert re.search(r"left .* [4-9][0-9] MiB", dry.stdout), dry.stdout
    assert seqsup("sweep").code == 0


@pytest.mark.parametrize(
    ("folder", "limit", "said"),
    [
        ("/dev/null", "", "/dev/null is not a folder: set SEQSUP_STATE_DIR"),
        ("/dev/null/below", "", "/dev/null is not a folder: set SEQSUP_STATE_DIR"),
        ("/proc/nowhere", "", "cannot be used: No such file or directory; free space or make /proc/nowhere writable"),
        ("state", "ulimit -f 0;", "look at `ulimit -f`"),
    ],
)
def test_an_odd_state_folder_is_refused_with_advice_that_helps(
    tmp_path: Path, folder: str, limit: str, said: str
) -> None:
    command = f"{limit} exec {sys.executable} -m seqsup run -- true"
    env = {**environment(), "SEQSUP_STATE_DIR": folder}
    ended = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, said in ended.stderr, "damaged" in ended.stderr) == (125, True, False), ended.stderr


def test_a_file_that_finds_no_room_is_named(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "true"))).code == 0
    ended = seqsup("report", "-o", "/dev/full")
    assert (ended.code, ended.stderr) == (
        2,
        "seqsup: /dev/full: No space left on device: free space there (df), or files (df -i)\n",
    )


def test_error_names_the_file_of_ours_that_finds_no_room() -> None:
    with pytest.raises(OSError, match="No space left") as error:
        write_private(Path("/dev/full"), "x")
    assert error.value.filename == "/dev/full"


def test_a_disk_that_is_full_is_among_the_reasons_why_the_journal_cannot_be_read(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "disk", "size=2m") as disk:
        env = {"SEQSUP_STATE_DIR": str(disk)}
        assert seqsup("run", "--", "true", env=env).code == 0
        fill(disk / "filler")
        told = seqsup("status", env=env)
    assert told.code == 0 or "free space there" in told.stderr, told.stderr


def test_bad_state_folder_is_not_reported_as_a_folder_without_runs(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in (["status"], ["runs"], ["mem"], ["sweep"], ["sweep", "--dry-run"], ["logs"], ["stop"]):
        told = seqsup(*command, env={"SEQSUP_STATE_DIR": str(tmp_path / "file")})
        assert (told.code, told.stdout) == (3, ""), command
        assert told.stderr.endswith("file is not a folder: set SEQSUP_STATE_DIR or run.state_dir to a folder\n")


def test_a_queue_that_has_no_room_refuses_the_start(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "touch ran"), run={"state_dir": str(tmp_path / "own")})
    with tmpfs(tmp_path / "disk", "size=64k,nr_inodes=2") as disk:
        (disk / "filler").touch()
        refused = seqsup("start", profile, env={"SEQSUP_STATE_DIR": str(disk)})
    assert (refused.code, "the queue in" in refused.stderr, "free space there" in refused.stderr) == (3, True, True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("at", ["command", "argument", "path", "hook"])
def test_no_escape_sequence_of_a_profile_or_argument_reaches_the_terminal(
    seqsup: Callable[..., Result], tmp_path: Path, at: str
) -> None:
    odd = "\x1b]0;PWNED\x07x\u202e"
    profile = write(
        tmp_path,
        agent("a", [odd if at == "command" else "true"]),
        hooks={"after_run": [f"'{odd}'"]} if at == "hook" else {},
    )
    result = seqsup(*{"argument": [odd], "path": ["plan", odd]}.get(at, ["plan", profile]))
    assert result.code == 2
    said = result.stdout + result.stderr
    assert "PWNED" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
