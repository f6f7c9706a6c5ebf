"""seqsup.run: a run from a Python program."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import seqsup
from helpers.command_line import as_in_a_terminal
from helpers.profiles import QUICK, agent, shell, write
from helpers.waiting import alive, wait_for
from seqsup.errors import Refused, SeqsupError
from seqsup.model.events import AgentEnded, AttemptStarted, RunEnded, RunStarted
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentState, RunState
from seqsup.profile.complaint import ProfileError

CALLS = """
import sys, seqsup
run = seqsup.run(sys.argv[1])
print(run.pid, flush=True)
for event in run:
    print(type(event).__name__, flush=True)
"""


def waits(folder: Path, name: str = "a") -> Path:
    """A profile whose agent writes its pid, and waits until the file `go` is there."""
    script = f"echo $$ > {folder}/pid; until test -e {folder}/go; do sleep 0.05; done"
    return write(folder, shell(name, script), shell("b", "exit 0"), name=name)


def pid_in(folder: Path) -> int:
    wait_for(lambda: (folder / "pid").read_text().endswith("\n"))
    return int((folder / "pid").read_text())


def caller(profile: Path) -> subprocess.Popen[str]:
    with as_in_a_terminal():
        return subprocess.Popen([sys.executable, "-c", CALLS, str(profile)], stdout=subprocess.PIPE, text=True)


def test_events_come_typed_and_the_result_has_every_agent(tmp_path: Path) -> None:
    put = f"{sys.executable} -m seqsup artifacts put --summary hello"
    profile = write(tmp_path, shell("a", put), shell("b", "exit 3"), shell("c", "exit 0"))
    path = os.environ["PATH"]
    with seqsup.run(profile) as run:
        events = list(run)
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    assert [event.agent for event in events if isinstance(event, AttemptStarted)] == ["a", "b"]
    result = run.result()
    assert (result.run, result.exit_code, result.state) == ("r1", 1, RunState.FAILED)
    assert [each.name for each in result.agents] == ["a", "b", "c"]
    first, second, third = result.agents
    assert first.reason is Reason.COMPLETED
    assert first.summary is not None
    assert first.summary.read_text() == "hello"
    assert first.seconds > 0
    assert first.peak > 0
    assert (second.reason, second.exit_code, second.attempts) == (Reason.FAILED, 3, 1)
    assert third.state is AgentState.PENDING
    assert result.agent("b") is second
    assert list(run) == []
    assert os.environ["PATH"] == path


def test_events_come_while_the_run_is_active(tmp_path: Path) -> None:
    with seqsup.run(waits(tmp_path)) as run:
        for event in run:
            if isinstance(event, AttemptStarted):
                (tmp_path / "go").touch()
    assert run.result().exit_code == 0


def test_tables_and_a_task_are_run_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = {
        **QUICK,
        "name": "made",
        "agents": [agent("a", ["sh", "-c", "echo '{task}' > said"]), shell("b", "exit 1")],
    }
    assert seqsup.run(tables, task="Add Button", only=["a"]).result().exit_code == 0
    assert (tmp_path / "said").read_text() == "Add Button\n"


def test_run_is_resumed(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "exit 0"), shell("b", f"test -e {tmp_path}/go"))
    assert seqsup.run(profile).result().exit_code == 1
    (tmp_path / "go").touch()
    result = seqsup.run(str(tmp_path / "nightly.toml"), resume=True).result()
    assert (result.run, result.exit_code) == ("r1", 0)
    assert [each.state for each in result.agents] == [AgentState.COMPLETED] * 2
    assert seqsup.run(profile, resume=True).result().exit_code == 0  # nothing is to do
    with pytest.raises(ValueError, match="resume needs the path of a profile"):
        seqsup.run({"agents": []}, resume=True)


def test_mistake_has_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "agents.toml").write_text('[[agents]]\nname = "a"\ncommand = ["true"]\nmemry = 1\n')
    with pytest.raises(ProfileError) as raised:
        seqsup.run(tmp_path)
    (complaint,) = raised.value.complaints
    assert (complaint.file, complaint.line, complaint.key) == (f"{tmp_path}/agents.toml", 4, "agents[0].memry")
    with pytest.raises(ProfileError, match="agents"):
        seqsup.run({"agents": [{"name": "a", "command": []}]})


def test_queue_is_waited_for_or_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    with seqsup.run(waits(one)) as first:
        pid_in(one)
        with pytest.raises(Refused, match="another run is active"):
            seqsup.run(waits(other, "x"), wait=False).result()
        second = seqsup.run(write(other, shell("x", "exit 0"), name="x"))
        stopped = seqsup.run(write(other, shell("y", "exit 0"), name="y"))
        stopped.stop(now=True)
        assert (stopped.result().run, stopped.result().state) == (None, RunState.STOPPED)
        assert second.label is None
        (one / "go").touch()
    assert first.result().exit_code == second.result().exit_code == 0


def test_runs_have_their_turns_in_the_order_of_the_calls(tmp_path: Path) -> None:
    def quick(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        script = f"echo {name} >> {tmp_path}/ran; readlink /proc/self/fd/* | grep turn- >> {tmp_path}/inherited; true"
        return write(folder, shell("a", script), name=name)

    runs = [seqsup.run(path) for path in map(quick, "abcd")]
    at_once = seqsup.run(quick("e"), wait=False)
    with pytest.raises(Refused, match="another run is active: "):
        at_once.result()
    assert [run.result().exit_code for run in runs] == [0, 0, 0, 0]
    assert (tmp_path / "ran").read_text().split() == ["a", "b", "c", "d"]
    assert (tmp_path / "inherited").read_text() == ""
    assert seqsup.run(quick("f"), wait=False).result().exit_code == 0


def test_run_that_dies_before_its_turn_leaves_the_queue(tmp_path: Path) -> None:
    first = seqsup.run(waits(tmp_path))
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(SeqsupError):
        first.result()
    other = tmp_path / "other"
    other.mkdir()
    assert seqsup.run(write(other, shell("x", "exit 0"), name="x"), wait=False).result().exit_code == 0


def test_run_inside_an_agent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQSUP_COOKIE", "x")
    with pytest.raises(Refused, match="cannot start a run inside agent"):
        list(seqsup.run(write(tmp_path, shell("a", "exit 0"))))


def test_stop_lets_the_active_agent_finish(tmp_path: Path) -> None:
    with seqsup.run(waits(tmp_path)) as run:
        pid_in(tmp_path)
        run.stop()
        (tmp_path / "go").touch()
    result = run.result()
    assert (result.exit_code, result.state) == (130, RunState.STOPPED)
    assert [each.state for each in result.agents] == [AgentState.COMPLETED, AgentState.PENDING]


def test_exception_in_the_block_stops_the_run(tmp_path: Path) -> None:
    run = seqsup.run(waits(tmp_path))
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError(pid_in(tmp_path))
    assert not alive(pid_in(tmp_path))
    assert run.result().state is RunState.STOPPED


def test_ctrl_c_of_the_caller_stops_the_run(tmp_path: Path) -> None:
    process = caller(waits(tmp_path))
    pid = pid_in(tmp_path)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode != 0, said
    assert not alive(pid)
    assert not alive(int(said.split()[0]))


def test_run_continues_under_supervision_if_the_caller_is_killed(tmp_path: Path) -> None:
    process = caller(waits(tmp_path))
    assert process.stdout is not None
    supervisor = int(process.stdout.readline())
    pid_in(tmp_path)
    process.kill()
    process.communicate()
    assert alive(supervisor)
    (tmp_path / "go").touch()
    wait_for(lambda: not alive(supervisor))
    with seqsup.run(tmp_path / "a.toml", resume=True) as again:
        pass
    assert [each.state for each in again.result().agents] == [AgentState.COMPLETED] * 2


def test_killed_supervisor_is_told(tmp_path: Path) -> None:
    run = seqsup.run(waits(tmp_path))
    pid = pid_in(tmp_path)
    os.kill(run.pid, signal.SIGKILL)
    result = run.result()
    assert (result.exit_code, result.state, result.why) == (137, RunState.STOPPED, "its supervisor was killed")
    assert result.agent("a").state is AgentState.LOST
    wait_for(lambda: not alive(pid))


def test_it_works_in_threads_and_in_asyncio(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "exit 0"))
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(seqsup.run(profile).result().exit_code))
    thread.start()
    thread.join()
    codes.append(asyncio.run(asyncio.to_thread(lambda: seqsup.run(profile).result())).exit_code)
    assert codes == [0, 0]


def test_plan_is_run_as_it_is(tmp_path: Path) -> None:
    from seqsup.cli.load_plan import load

    events = list(seqsup.run(load(str(write(tmp_path, shell("a", "exit 0"))))))
    assert [event.ok for event in events if isinstance(event, AgentEnded)] == [True]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SeqsupError, match="cannot be read"):
        seqsup.run(tmp_path / "none.toml")
