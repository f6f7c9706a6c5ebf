"""A state folder with runs as a supervisor would have left them."""

import os
from pathlib import Path

from helpers.told import Told
from seqsup.state.journal import Journal
from seqsup.state.run_folder import hold, private, run_folder


class Written:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.journal = Journal.open(state_dir, write=True)
        self._locks: dict[int, int] = {}

    def run(self, told: Told, profile: str | None = "nightly.toml") -> int:
        number = self.journal.begin(told.name, profile, os.urandom(8).hex())
        private(run_folder(self.state_dir, number))
        return self.go_on(number, told)

    def go_on(self, number: int, told: Told) -> int:
        for recorded in told.events:
            self.journal.append(number, recorded.body)
        self.journal.flush()
        return number

    def live(self, number: int) -> None:
        self._locks[number] = hold(run_folder(self.state_dir, number))

    def die(self, number: int) -> None:
        os.close(self._locks.pop(number))

    def printed(self, number: int, attempt: str, stdout: str, stderr: str = "") -> Path:
        folder = run_folder(self.state_dir, number) / attempt
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stdout.log").write_text(stdout)
        (folder / "stderr.log").write_text(stderr)
        return folder

    def close(self) -> None:
        for fd in self._locks.values():
            os.close(fd)
        self.journal.close()
