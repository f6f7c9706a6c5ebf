"""A fleet on one machine: `python3 supervisor fleet-demo`. A private PostgreSQL, three workers and thirty small agents.

In the middle it kills a worker with all its processes, as if its machine had lost power. At the end it shows that each
job has exactly one accepted result. All that it makes is in a temporary folder, and is removed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers.postgres import Server, binaries
from helpers.waiting import wait_for
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.jobs import Job, JobState

SEQSUP = (sys.executable, "-m", "seqsup")
WORKERS, VICTIM = ("alpha", "bravo", "carol"), "bravo"
AGENTS, KILL_AFTER = 30, 8  # jobs; those that are done by then
LEASE = 3.0  # seconds; 2 minutes is the default
PATIENCE = 100.0
PROFILE = """\
name = "demo"

[[agents]]
name = "agent"
for_each = [{items}]
command = ["sh", "-c", "echo $SEQSUP_DEMO_WORKER >> {written}/{{item}}; sleep 1"]
"""
ACCEPTED = """
    CREATE TABLE accepted (job bigint, state text);
    CREATE FUNCTION accept() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO accepted VALUES (NEW.number, NEW.state); RETURN NEW; END';
    CREATE TRIGGER accept AFTER UPDATE ON seqsup_jobs FOR EACH ROW
        WHEN (NEW.ended IS NOT NULL AND OLD.ended IS NULL) EXECUTE FUNCTION accept();
"""


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seqsup-fleet-demo-") as name, ExitStack() as cleanup:
        folder = Path(name)
        folder.chmod(0o755)
        cleanup.callback(lambda: say("cleaning up: workers, server and folder"))
        server = Server(binaries())
        cleanup.callback(server.close)
        server.run("CREATE DATABASE demo")
        demo = Demo(folder, server.url("demo"))
        say(f"a private PostgreSQL listens on 127.0.0.1:{server.port}")
        with demo.running():
            wrong = demo.show()
    say(f"over after {time.monotonic() - began:.0f} s" + ("" if wrong else ": nothing lost, nothing accepted twice"))
    return 1 if wrong else 0


class Demo:
    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self._written = folder / "written"  # by each agent: the name of its worker
        self._written.mkdir()
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        words = ["queue", "init", "--lease", f"{LEASE:.0f}s", "--queue", url]
        print("$", "seqsup", *words, flush=True)
        subprocess.run([*SEQSUP, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(ACCEPTED)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the workers, each with a state folder of its own, as on a machine of its own."""
        try:
            for name in WORKERS:
                self._start(name)
            yield
        finally:
            for worker in self._workers.values():
                worker.terminate()
            for name, worker in self._workers.items():
                try:
                    worker.wait(10)
                except subprocess.TimeoutExpired:
                    kill_all(self._of_worker(name))
                    worker.wait()

    def _start(self, name: str) -> None:
        print(f"$ seqsup work --name {name} &")
        with (self._folder / f"{name}.log").open("wb") as log:
            self._workers[name] = subprocess.Popen(
                [*SEQSUP, "work", "--name", name], env=self._env(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _env(self, name: str) -> dict[str, str]:
        return {
            **os.environ, "SEQSUP_QUEUE": self._url, "SEQSUP_STATE_DIR": str(self._folder / name),
            "SEQSUP_DEMO_WORKER": name,
        }  # fmt: skip

    def show(self) -> list[str]:
        """Queue the agents, kill a worker in the middle, and return what is wrong at the end."""
        items = ", ".join(f'"{number:02}"' for number in range(1, AGENTS + 1))
        profile = self._folder / "demo.toml"
        profile.write_text(PROFILE.format(items=items, written=self._written))
        queue = FleetQueue(self._url)
        wait_for(lambda: len(queue.workers()) == len(WORKERS))
        print("$ seqsup add --spread demo.toml", flush=True)
        subprocess.run(
            [*SEQSUP, "add", "--spread", str(profile)], env=self._env("adder"), stdout=subprocess.DEVNULL, check=True
        )
        try:
            self._follow(queue)
            return self._judge(all_jobs(queue))
        finally:
            queue.close()

    def _follow(self, queue: FleetQueue) -> None:
        ends, killed, shown = time.monotonic() + PATIENCE, False, ""
        while True:
            jobs = all_jobs(queue)
            done = sum(job.state.over for job in jobs)
            running = {job.worker: job for job in jobs if job.state is JobState.RUNNING}
            has = {name: running[name].label if name in running else "-" for name in WORKERS}
            has |= {VICTIM: "killed"} if killed else {}
            line = f"{done:2}/{len(jobs)} over   " + "   ".join(f"{name}: {what:7}" for name, what in has.items())
            if line != shown:
                print(line, flush=True)
                shown = line
            if done == len(jobs) and done:
                return
            if not killed and done >= KILL_AFTER and VICTIM in running and self._agent_of(running[VICTIM]).exists():
                self._kill(running[VICTIM])
                killed = True
            if time.monotonic() > ends:
                raise SystemExit(f"the jobs are not over after {PATIENCE:.0f} s; the workers said:\n{self._said()}")
            time.sleep(0.2)

    def _agent_of(self, job: Job) -> Path:
        return self._written / job.name[-2:]

    def _kill(self, job: Job) -> None:
        number = kill_all(self._of_worker(VICTIM))
        self._workers[VICTIM].wait()
        say(f"killed worker {VICTIM} with its {number} processes, while it ran {job.label} {job.name} (kill -9)")

    def _of_worker(self, name: str) -> list[psutil.Process]:
        mark, found = str(self._folder / name), []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("SEQSUP_STATE_DIR") == mark:
                    found.append(process)
        return found

    def _judge(self, jobs: list[Job]) -> list[str]:
        with psycopg.connect(self._url) as connection:
            accepted = Counter(job for (job,) in connection.execute("SELECT job FROM accepted"))
        starts = {job.number: self._agent_of(job).read_text().split() for job in jobs}
        print(f"\n{'job':>5}  {'name':18}  {'state':6}  {'accepted results':16}  agent started on")
        for job in sorted(jobs, key=lambda job: job.number):
            why = f"   ({job.why})" if job.why else ""
            print(f"{job.label:>5}  {job.name:18}  {job.state:6}  {accepted[job.number]:16}  "
                  f"{', then '.join(starts[job.number])}{why}")  # fmt: skip
        wrong = [job.label for job in jobs if job.state is not JobState.DONE or accepted[job.number] != 1]
        wrong += [] if len(jobs) == AGENTS else [f"{len(jobs)} jobs instead of {AGENTS}"]
        again = [job.label for job in jobs if len(starts[job.number]) > 1]
        print(
            f"\n{len(jobs)} jobs, {sum(accepted.values())} accepted results, {sum(map(len, starts.values()))} starts of"
            f" agents. Ran again after the kill: {', '.join(again) or 'none'}"
        )
        if wrong:
            say(f"wrong: {', '.join(wrong)}; the workers said:\n{self._said()}")
        return wrong

    def _said(self) -> str:
        return "\n".join(f"{file.stem}: {file.read_text(errors='replace')}" for file in self._folder.glob("*.log"))


def all_jobs(queue: FleetQueue) -> list[Job]:
    """Return each job once: the queue reads running jobs and ended ones one after another."""
    return list({job.number: job for job in queue.jobs(over=2 * AGENTS)}.values())


def kill_all(processes: list[psutil.Process]) -> int:
    """Stop all first, so that none starts another one."""
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signum)
    return len(processes)


def say(text: str) -> None:
    print(f"-- {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
