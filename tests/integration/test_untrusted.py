"""Files that root writes, opens and starts in folders of another user, in which that user may have laid a trap."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.profiles import agent, of, parsed, reasons, shell, write
from seqsup.host import users
from seqsup.host.files import replace

Cli = Callable[..., Result]
USER = "nobody"
SECRET = "canary-5b0e77d1"

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can change the user, and with setpriv"
)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of the other user, which it can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    (folder := tmp_path / "theirs").mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of root's in a folder that is closed to the other user."""
    (folder := tmp_path / "closed").mkdir(mode=0o700)
    file = folder / "secret"
    file.write_text(SECRET)
    file.chmod(0o644)
    return file


def as_user(folder: Path, script: str, *words: object) -> None:
    """Run a script as the other user, in its folder."""
    become = ["setpriv", f"--reuid={USER}", "--regid=65534", "--clear-groups"]
    subprocess.run([*become, "sh", "-ec", script, "sh", *map(str, words)], cwd=folder, check=True)


# -- writing


def test_replace_never_writes_through_a_link(tmp_path: Path) -> None:
    (victim := tmp_path / "victim").write_text(SECRET)
    (link := tmp_path / "link").symlink_to(victim)
    replace(link, b"new", mode=0o640)
    assert (victim.read_text(), link.read_text()) == (SECRET, "new")
    assert stat.S_IMODE(link.lstat().st_mode) == 0o640
    assert not list(tmp_path.glob(".seqsup-*"))


def test_replace_leaves_nothing_behind_if_it_fails(tmp_path: Path) -> None:
    (taken := tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace(taken, b"new")
    assert not list(tmp_path.glob(".seqsup-*"))


@as_root
def test_metrics_files_do_not_follow_a_link_of_another_user(seqsup: Cli, theirs: Path, secret: Path) -> None:
    for name in ("seqsup.prom", "seqsup.prom.new", "targets.json", "targets.json.new"):
        as_user(theirs, 'ln -s "$1" "$2"', secret, name)
    metrics = {"textfile": str(theirs / "seqsup.prom"), "file_sd": str(theirs / "targets.json")}
    result = seqsup("start", write(theirs.parent, shell("a", "true"), metrics=metrics))
    assert result.code == 0, result.stderr
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == (SECRET, 0o644)
    assert "seqsup_" in (theirs / "seqsup.prom").read_text()


@as_root
def test_tune_gives_no_other_file_to_the_profiles_owner(seqsup: Cli, theirs: Path, secret: Path) -> None:
    run = {"user": USER, "state_dir": str(theirs.parent / "state")}
    holds = agent("a", ["python3", "-c", "held = b'x' * 50_000_000; import time; time.sleep(0.3)"])
    profile = write(theirs, holds, run=run)
    shutil.chown(profile, USER)
    for _ in range(3):
        assert seqsup("start", profile).code == 0
    as_user(theirs, 'ln -s "$1" .nightly.toml.seqsup', secret)
    result = seqsup("tune", "--write", profile)
    assert result.code == 0, result.stderr
    assert (secret.owner(), secret.read_text()) == ("root", SECRET)
    assert profile.owner() == USER
    assert "soft" in profile.read_text()


@as_root
def test_report_does_not_follow_a_link_of_another_user(seqsup: Cli, theirs: Path, secret: Path) -> None:
    assert seqsup("start", write(theirs.parent, shell("a", "true"))).code == 0
    as_user(theirs, 'ln -s "$1" nightly-r1.html', secret)
    result = seqsup("report", cwd=theirs)
    assert result.code == 0, result.stderr
    assert secret.read_text() == SECRET
    assert "<html" in (theirs / "nightly-r1.html").read_text()


@pytest.mark.parametrize("link", ["report.html", "$1"])
def test_report_follows_a_link_of_the_users_own(seqsup: Cli, tmp_path: Path, link: str) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "true"))).code == 0
    (page := tmp_path / "report.html").write_text("old")
    (tmp_path / "latest.html").symlink_to(page if link == "$1" else link)
    result = seqsup("report", "-o", "latest.html", cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert (tmp_path / "latest.html").is_symlink()
    assert "<html" in page.read_text()


@as_root
@pytest.mark.parametrize("words", [(), ("-o", "nightly-r1.html")])
def test_report_replaces_a_link_in_a_folder_that_others_write(
    seqsup: Cli, theirs: Path, secret: Path, words: tuple[str, ...]
) -> None:
    assert seqsup("start", write(theirs.parent, shell("a", "true"))).code == 0
    (theirs / "nightly-r1.html").symlink_to(secret)
    assert seqsup("report", *words, cwd=theirs).code == 0
    assert secret.read_text() == SECRET


def test_report_to_dev_stdout_leaves_the_link(
    seqsup_started: Callable[..., Started], seqsup: Cli, tmp_path: Path
) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "true"))).code == 0
    started = seqsup_started("report", "--json", "-o", "/dev/stdout")
    assert started.process.wait(40) == 0
    assert started.stdout.startswith('{"schema":"seqsup.report/1"')
    assert Path("/dev/stdout").is_symlink()


# -- opening


@as_root
def test_acting_as_a_user_changes_one_thread_and_ends_with_the_block(secret: Path) -> None:
    account = users.look_up(USER)
    assert account is not None
    with ThreadPoolExecutor(1) as other:
        assert other.submit(secret.read_text).result() == SECRET  # a thread inherits from the one that starts it
        with users.acting_as(account):
            with pytest.raises(PermissionError):
                secret.read_text()
            assert other.submit(secret.read_text).result() == SECRET
            effective = Path("/proc/thread-self/status").read_text()
        assert "CapEff:\t0000000000000000" in effective
    assert secret.read_text() == SECRET
    assert (os.geteuid(), os.getegid()) == (0, 0)


@as_root
def test_stdin_is_opened_as_the_agents_user(seqsup: Cli, theirs: Path, secret: Path) -> None:
    """The first agent lays a link to a file that is readable by all, in a folder that is closed."""
    lay = shell("lay", f"ln -s {secret} in.txt; ln -s /proc/kallsyms symbols.txt", cwd=str(theirs))
    reads = agent("reads", ["cat"], cwd=str(theirs), stdin_file=str(theirs / "in.txt"), needs=["lay"])
    symbols = agent("symbols", ["head", "-1"], cwd=str(theirs), stdin_file=str(theirs / "symbols.txt"), needs=["lay"])
    run = {"user": USER, "state_dir": str(theirs.parent / "state"), "on_failure": "continue"}
    profile = write(theirs.parent, lay, reads, symbols, run=run)
    result = seqsup("start", profile, "--json")
    assert reasons(parsed(result.stdout)) == {"lay": "completed", "reads": "spawn-failed", "symbols": "completed"}
    printed = (theirs.parent / "state/runs/r1/symbols/1/stdout.log").read_text()
    assert printed.startswith("0000000000000000 ")  # what the kernel shows to that user


# -- reading and removing what agents leave

DEEP = """import os
os.chdir(os.environ["SEQSUP_ARTIFACTS"])
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
"""


def test_a_deep_folder_of_an_agent_stops_no_later_start(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    profile = write(tmp_path, shell("a", f"[ -e once ] || {sys.executable} deep.py; touch once"), run={"keep": "1s"})
    first = seqsup("start", profile)
    assert first.code == 0, first.stderr
    assert seqsup("artifacts", "list").code == 0
    assert seqsup("start", profile).code == 0
    cleaned = seqsup("artifacts", "clean", "--days", "0")
    assert (cleaned.code, "r1 " in cleaned.stdout) == (0, True), cleaned.stderr


def test_artifacts_follow_no_link_that_an_agent_put_in_place_of_its_folder(seqsup: Cli, tmp_path: Path) -> None:
    (secret := tmp_path / "elsewhere").mkdir()
    (secret / "summary.md").write_text(SECRET)
    script = f'd=$SEQSUP_ARTIFACTS; rmdir "$d"; ln -s {secret} "$d"; echo printed'
    assert seqsup("start", write(tmp_path, shell("a", script))).code == 0
    for words in (["show", "1", "a"], ["show", "1", "a", "--file", "summary.md"], ["summary", "1", "a"], ["list"]):
        shown = seqsup("artifacts", *words)
        assert SECRET not in shown.stdout + shown.stderr, words


# -- entering


@as_root
def test_a_folder_is_entered_as_the_agents_user(seqsup: Cli, theirs: Path, secret: Path) -> None:
    """It is checked when the plan is made, and replaced by a link before the second agent starts."""
    (closed := secret.parent / "open").mkdir(mode=0o755)
    (closed / "file").write_text(SECRET)
    (theirs / "sub").mkdir()
    lay = shell("lay", f"rmdir sub; ln -s {closed} sub", cwd=str(theirs))
    enters = shell("enters", "pwd; cat file", cwd=str(theirs / "sub"))
    run = {"user": USER, "state_dir": str(theirs.parent / "state")}
    shutil.chown(theirs / "sub", USER)
    result = seqsup("start", write(theirs.parent, lay, enters, run=run), "--json")
    events = parsed(result.stdout)
    assert reasons(events) == {"lay": "completed", "enters": "spawn-failed"}
    (why,) = [event["why"] for event in of(events, "attempt_ended") if event["agent"] == "enters"]
    assert f"{theirs / 'sub'}: {USER} may not enter it" in why


@as_root
@pytest.mark.parametrize("by", ["lines", "glob"])
def test_items_of_for_each_are_read_as_the_agents_user(seqsup: Cli, theirs: Path, secret: Path, by: str) -> None:
    each = {"lines": str(theirs / "todo")} if by == "lines" else {"glob": str(theirs / "todo" / "*")}
    as_user(theirs, 'ln -s "$1" todo', secret if by == "lines" else secret.parent)
    profile = write(theirs.parent, agent("a", ["echo", "{item}"], for_each=each), run={"user": USER})
    shown = seqsup("plan", profile, "--json")
    assert SECRET not in shown.stdout + shown.stderr
    assert str(secret) not in shown.stdout
    if by == "lines":
        assert (shown.code, "cannot be read: Permission denied" in shown.stderr) == (2, True)


# -- hooks

SCRIPT = "#!/bin/sh\nid -u > {}\n"


def script(file: Path, proof: Path, owner: str = "root") -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(SCRIPT.format(proof))
    file.chmod(0o755)
    shutil.chown(file, owner)
    return file


def line_of(profile: Path, text: str) -> int:
    return next(n for n, line in enumerate(profile.read_text().splitlines(), 1) if line.startswith(text))


@as_root
def test_hooks_run_as_the_agents_user(seqsup: Cli, theirs: Path) -> None:
    """The agent replaces the program of a hook, in its own folder."""
    hook = script(theirs / "after.sh", theirs / "proof", USER)
    replaces = shell("a", f"printf '{SCRIPT.format(theirs / 'proof')}' > {hook}; echo to stdout", cwd=str(theirs))
    run = {"user": USER, "state_dir": str(theirs.parent / "state")}
    hooks = {"after_agent": ["./after.sh"], "after_run": ["sh -c 'echo written by name > /dev/stderr'"]}
    result = seqsup("start", write(theirs, replaces, run=run, hooks={**hooks, "on_error": "stop"}))
    assert result.code == 0, result.stderr
    assert (theirs / "proof").read_text() == "65534\n"


@as_root
@pytest.mark.parametrize("run", [{"user": USER}, {}], ids=["run.user", "all-root"])
@pytest.mark.parametrize(
    "command", ["{theirs}/hook.sh", "sh {theirs}/hook.sh", "timeout 9 {theirs}/hook.sh", "{root}/link", "named"]
)
def test_root_runs_no_hook_that_another_user_can_write(
    seqsup: Cli, theirs: Path, monkeypatch: pytest.MonkeyPatch, run: dict[str, str], command: str
) -> None:
    proof = theirs.parent / "proof"
    script(theirs / "hook.sh", proof)  # root's, in a folder of the other user
    script(theirs / "named", proof)
    (root := theirs.parent / "root").mkdir()
    (root / "link").symlink_to(theirs / "hook.sh")
    monkeypatch.setenv("PATH", f"{theirs}:{os.environ['PATH']}")
    hooks = {"after_agent": [command.format(theirs=theirs, root=root)], "user": "root"}
    profile = write(
        theirs.parent, shell("a", "true"), run={**run, "state_dir": str(theirs.parent / "state")}, hooks=hooks
    )
    result = seqsup("start", profile)
    place = f"{profile.name}:{line_of(profile, 'after_agent')}:16: hooks.after_agent[0]: not run as root: "
    assert (result.code, f"{place}{theirs} belongs to {USER}; " in result.stderr) == (2, True), result.stderr
    assert "set hooks.user to a user that is not root" in result.stderr
    assert not proof.exists()


@as_root
def test_a_hook_of_root_is_looked_at_again_when_it_runs(seqsup: Cli, tmp_path: Path) -> None:
    hook = script(tmp_path / "bin" / "hook.sh", tmp_path / "proof")
    profile = write(tmp_path, shell("a", f"chown {USER} {hook}"), hooks={"after_agent": [str(hook)]})
    result = seqsup("start", profile, "--json")
    ended = of(parsed(result.stdout), "hook_ended")
    assert [each["ok"] for each in ended] == [False], result.stderr
    assert f"{hook} belongs to {USER}; chown root {hook}" in ended[0]["why"]
    assert not (tmp_path / "proof").exists()


@as_root
def test_root_runs_a_hook_that_only_root_can_write(seqsup: Cli, theirs: Path) -> None:
    proof, data = theirs.parent / "proof", theirs / "result.json"
    data.touch()
    data.chmod(0o644)
    hook = script(theirs.parent / "bin" / "hook.sh", proof)
    run = {"user": USER, "state_dir": str(theirs.parent / "state")}
    profile = write(
        theirs.parent, shell("a", "true"), run=run, hooks={"after_agent": [f"{hook} {data}"], "user": "root"}
    )
    assert seqsup("start", profile).code == 0
    assert proof.read_text() == "0\n"


# -- profiles and state folders that another user can write


@as_root
def test_a_profile_of_another_user_names_nothing_that_runs_as_root(seqsup: Cli, theirs: Path) -> None:
    run = {"user": USER, "state_dir": str(theirs.parent / "state")}
    as_root_too = shell("b", "true", user="root")
    mixed = write(theirs, shell("a", "true"), as_root_too, run=run, metrics={"textfile": "x.prom"})
    result = seqsup("start", mixed)
    line = line_of(mixed, 'user = "root"')
    said = f"{mixed.name}:{line}:8: agent b: user: refused as root, because another user"
    assert (result.code, said in result.stderr) == (2, True), result.stderr
    assert "metrics.textfile: refused as root" in result.stderr
    assert not (theirs.parent / "state").exists()
    without_user = seqsup("start", write(theirs, shell("a", "touch ran"), run={}))
    assert (without_user.code, "agent a: refused as root" in without_user.stderr) == (2, True)
    assert not (theirs / "ran").exists()
    all_theirs = write(theirs, shell("a", "true"), run=run)
    assert "another user can change this profile" in " ".join(seqsup("plan", all_theirs).stdout.split())
    assert seqsup("start", all_theirs).code == 0


@pytest.mark.parametrize(
    ("mode", "above", "refused"),
    [(0o700, 0o755, ""), (0o755, 0o1777, ""), (0o777, 0o755, "state"), (0o1777, 0o755, "state"), (0o700, 0o777, "")],
)
def test_a_state_folder_that_others_can_write_is_refused(
    seqsup: Cli, tmp_path: Path, mode: int, above: int, refused: str
) -> None:
    folder = tmp_path / "above" / "state"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    folder.parent.chmod(above)
    if above == 0o777:
        refused = "above"
    profile = write(tmp_path, shell("a", "touch ran"), run={"state_dir": str(folder)})
    result = seqsup("start", profile)
    if not refused:
        assert result.code == 0, result.stderr
        return
    named = folder if refused == "state" else folder.parent
    said = f"the state folder {folder} is not safe: every user can write {named}; chmod go-w {named}, or set"
    assert (result.code, said in result.stderr) == (3, True), result.stderr
    assert not (tmp_path / "ran").exists()
    examined = seqsup("doctor", profile)
    assert (examined.code, f"every user can write {named}" in " ".join(examined.stdout.split())) == (1, True)


@as_root
def test_a_state_folder_of_another_user_is_refused(seqsup: Cli, theirs: Path) -> None:
    result = seqsup("run", "true", env={"SEQSUP_STATE_DIR": str(theirs)})
    assert (result.code, f"{theirs} belongs to {USER}" in result.stderr) == (125, True), result.stderr
    queue = seqsup("start", write(theirs.parent, shell("a", "true"), run={"state_dir": str(theirs.parent / "state")}),
                   env={"SEQSUP_STATE_DIR": str(theirs)})  # fmt: skip
    assert (queue.code, f"{theirs} belongs to {USER}" in queue.stderr) == (3, True), queue.stderr


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "journal.db-shm"])
def test_a_journal_is_never_opened_through_a_link(seqsup: Cli, tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "state").mkdir(mode=0o700)
    (folder / name).symlink_to(tmp_path / "made")
    result = seqsup("run", "true", env={"SEQSUP_STATE_DIR": str(folder)})
    assert (result.code, f"{folder / name} is not a regular file" in result.stderr) == (125, True), result.stderr
    assert not (tmp_path / "made").exists()


_IN_PLACE = {
    "sockets": "socket.socket(socket.AF_UNIX).bind(name)",
    "pipes": "os.mkfifo(name)",
    "folders": "os.mkdir(name)",
    "noise": "open(name, 'wb').write(bytes(range(128)) * 30)",
}


@pytest.mark.parametrize(
    "what", [*(pytest.param(each, marks=pytest.mark.long) for each in list(_IN_PLACE)[1:]), "sockets"]
)
def test_commands_end_well_whatever_agent_put_in_place_of_the_files_of_its_run(
    seqsup: Cli, tmp_path: Path, what: str
) -> None:
    (tmp_path / "swap.py").write_text(
        "import os, socket\n"
        "attempt = os.path.dirname(os.environ['SEQSUP_ARTIFACTS'])\n"
        "for folder in (attempt, os.path.dirname(os.path.dirname(attempt))):\n"
        "    os.chdir(folder)\n"
        "    for name in filter(os.path.isfile, os.listdir()):\n"
        "        os.unlink(name)\n"
        f"        {_IN_PLACE[what]}\n"
    )
    profile = write(tmp_path, agent("a", [sys.executable, "swap.py"]), shell("b", "true"))
    assert seqsup("start", profile).code == 0
    for words in (
        "status", "runs", "logs r1 a", "report r1", "events r1", "artifacts list", "artifacts show r1 a", "tune",
        "start --resume", "start", "sweep", "artifacts clean --days 0", "start",
    ):  # fmt: skip
        command = words.split()
        result = seqsup(*command, *([profile] if command[0] in ("tune", "start") else []))
        assert result.code in (0, 2, 3), f"{words}: {result.stderr}"
        assert "Traceback" not in result.stderr, words
        assert command != ["start"] or result.code == 0, result.stderr
