"""`seqsup workers` on a real server."""

import json

from click.testing import CliRunner

from helpers.fleet import Workers
from helpers.waiting import wait_for
from seqsup.cli.commands.workers import workers as command
from seqsup.errors import SeqsupError
from seqsup.queue.fleet import FleetQueue


def test_workers_are_listed_and_drained(fleet: str, workers: Workers) -> None:
    runner, queue = CliRunner(), FleetQueue(fleet)
    assert "no workers" in runner.invoke(command, ["--queue", fleet]).output
    workers.start("one", "3")
    wait_for(lambda: queue.workers() == ["one"])
    assert "alive" in runner.invoke(command, ["--queue", fleet]).output
    drained = runner.invoke(command, ["--queue", fleet, "--drain", "one"], standalone_mode=False)
    assert drained.exception is None
    assert "drained" in runner.invoke(command, ["--queue", fleet]).output
    (told,) = json.loads(runner.invoke(command, ["--queue", fleet, "--json"]).output)["workers"]
    assert (told["name"], told["slots"], told["alive"], told["drain"]) == ("one", 3, True, True)
    unknown = runner.invoke(command, ["--queue", fleet, "--drain", "nobody"], standalone_mode=False)
    assert isinstance(unknown.exception, SeqsupError)
    queue.close()
