"""A watch that falls behind says so, once, and a large tree gives way."""

from typing import cast

import pytest

from seqsup.containment.tree import Tree
from seqsup.host.priority import Precedence
from seqsup.model.events import AnyEvent, Warned
from seqsup.model.process import Sample
from seqsup.runner.punctuality import Punctuality


class Patient:
    gave_way = 0

    def give_way(self) -> None:
        self.gave_way += 1


def look(at: float, processes: int) -> Sample:
    return Sample(at=at, used=0, processes=processes, host_available=0)


def test_a_watch_that_falls_behind_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Precedence, "take", lambda _: False)
    told: list[AnyEvent] = []
    tree, punctuality = Patient(), Punctuality("plan", lambda event: told.append(event))
    for sample, due, gave_way, words in (
        (look(10.0, 500), 9.95, 0, 0), (look(11.0, 3), 10.5, 0, 0), (look(12.0, 100), 11.5, 1, 0),
        (look(15.0, 500), 12.7, 2, 1), (look(20.0, 500), 16.0, 3, 1),
    ):  # fmt: skip
        punctuality.look_ended(cast(Tree, tree), sample, due)
        assert (tree.gave_way, len(told)) == (gave_way, words)
    assert isinstance(told[0], Warned)
    assert told[0].message.startswith("plan: a look at its processes was 2.3 s late")
    assert "500 of its processes" in told[0].message


def test_precedence_is_taken_by_a_late_look_and_given_up_in_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def take(_: Precedence) -> bool:
        done.append("take")
        return True

    monkeypatch.setattr(Precedence, "take", take)
    monkeypatch.setattr(Precedence, "give_up", lambda _: done.append("give up"))
    tree, punctuality = Patient(), Punctuality("plan", lambda _: None)
    for sample, due in ((look(10.0, 500), 9.5), (look(11.0, 500), 11.0), (look(71.0, 500), 71.0)):
        punctuality.look_ended(cast(Tree, tree), sample, due)
    assert (done, tree.gave_way) == (["take", "give up"], 0)
