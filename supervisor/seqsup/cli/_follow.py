"""A run's events as they come. Ten looks a second cost nothing beside an agent, and need no partner."""

import time
from collections.abc import Iterator

import click

from seqsup.cli._find import Found
from seqsup.model.events import Recorded, RunEnded, RunStarted

INTERVAL = 0.1


def follow(found: Found, interval: float = INTERVAL) -> Iterator[list[Recorded]]:
    """Yield what is there, then what is new at each look, until the run or its supervisor ended."""
    after, over = 0, False
    while True:
        lives = found.lives()
        batch = list(found.journal.events(found.row.run, after))
        for recorded in batch:
            after = recorded.seq
            over = isinstance(recorded.body, RunEnded) or (over and not isinstance(recorded.body, RunStarted))
        yield batch
        if over or not lives:
            if not over:
                click.echo(f"seqsup: the supervisor of {found.label} died", err=True)
            return
        time.sleep(interval)
