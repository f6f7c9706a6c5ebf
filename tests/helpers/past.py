"""Runs of the past, from which seqsup learns."""

import os
from pathlib import Path

from helpers.told import Told
from seqsup.state.journal import Journal
from seqsup.state.run_folder import private, run_folder
from seqsup.units import MIB

# -- as it is told


def state_dir() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"])


def learned(profile: Path, agent: str, *peaks: int, seconds: float = 30, content: str | None = None) -> None:
    journal = Journal.open(state_dir(), write=True)
    for peak in peaks:
        run = journal.begin("nightly", str(profile), os.urandom(8).hex())
        private(run_folder(state_dir(), run))
        for recorded in Told().run(agent).attempt(agent, peak=peak * MIB, seconds=seconds).run_ended(0).events:
            journal.append(run, recorded.body)
    journal.close()
