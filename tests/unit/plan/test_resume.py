"""A profile edited between stop and resume: what changed runs again, and what builds on it, and nothing else."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.supervised import step
from seqsup.model.plan import Detected, Plan, Skip, Step
from seqsup.model.run_view import AgentView, Completed, RunView
from seqsup.plan.expand import numbered
from seqsup.plan.make import make
from seqsup.plan.resume import CHANGED, Resumption, builds_on, gone, left_out, resumption
from seqsup.plan.select import Choice
from seqsup.plan.survey import AgentSurvey, Survey
from seqsup.profile.parse import parse

NATIVE = Detected(kind="native", executable="/bin/x", why="")

HERE = Path()


def made(name: str, content: str, *needs: str, words: Iterable[str] = ()) -> Step:
    return step("x", *words, cwd=HERE, name=name, content=content, needs=needs)


def had(**entries: tuple[str, int]) -> dict[str, Completed]:
    return {name: Completed(content, seq, f"{name}/1") for name, (content, seq) in entries.items()}


def test_agent_depends_on_its_needs_and_its_inputs() -> None:
    one = step(
        "x", "{summary:a}{artifacts:b}{artifacts}{{summary:no}", cwd=HERE, env={"E": "{summary:c}"},
        stdin="{summary:a} {artifacts:d}", needs=("e", "a"),
    )  # fmt: skip
    assert builds_on(one) == ["e", "a", "b", "c", "d"]


A, B, C = made("a", "A"), made("b", "B", "a"), made("c", "C")
CASES = {
    "nothing changed": ([A, B, C], had(a=("A", 1), b=("B", 2), c=("C", 3)), "abc", {}),
    "the first never completed": ([A, B, C], had(c=("C", 3)), "c", {}),
    "one changed": ([A, B, C], had(a=("A", 1), b=("B", 2), c=("old", 3)), "ab", {"c": CHANGED}),
    "what builds on it runs too": (
        [A, B, C], had(a=("old", 1), b=("B", 2), c=("C", 3)), "c",
        {"a": CHANGED, "b": "a, which it depends on, runs again"},
    ),
    "also if it is only handed on": (
        [A, made("b", "B", words=["{summary:a}"])], had(b=("B", 2)), "", {"b": "a, which it depends on, runs again"},
    ),
    "all the way": (
        [A, B, made("c", "C", "b")], had(a=("old", 1), b=("B", 2), c=("C", 3)), "",
        {"a": CHANGED, "b": "a, which it depends on, runs again", "c": "b, which it depends on, runs again"},
    ),
    "what it builds on ran again, and then the run was stopped": (
        [A, B], had(a=("A", 9), b=("B", 2)), "a", {"b": "a, which it depends on, has completed since"},
    ),
    "it was changed and changed back": ([A, B], had(a=("A'", 5), b=("B", 6)), "",
        {"a": CHANGED, "b": "a, which it depends on, runs again"}),
    "it has another name by now": ([made("z", "A"), B], had(a=("A", 1), b=("B", 2)), "zb", {}),
    "what it needs is not taken now": ([B], had(a=("old", 1), b=("B", 2)), "b", {}),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "completed", "done", "again"), CASES.values(), ids=CASES)
def test_changed_agents_run_again_with_the_reason(
    steps: list[Step], completed: dict[str, Completed], done: str, again: dict[str, str]
) -> None:
    found = resumption(steps, completed)
    assert (sorted(found.done), found.again) == (sorted(done), again)


def test_copies_are_known_by_their_items_wherever_they_stand() -> None:
    before = had(**{"each.1": ("x", 1), "each.2": ("y", 2), "each.3": ("y", 3)})
    now = [made("each.1", "w"), made("each.2", "x"), made("each.3", "y"), made("each.4", "y")]
    found = resumption(now, before)
    assert {name: each.folder for name, each in found.done.items()} == {
        "each.2": "each.1/1", "each.3": "each.3/1", "each.4": "each.2/1",
    }  # fmt: skip
    assert found.again == {}


@given(data=st.data(), size=st.integers(1, 8))
def test_whatever_was_edited_nothing_that_holds_builds_on_what_does_not(data: st.DataObject, size: int) -> None:
    names = [f"n{n}" for n in range(size)]
    contents = st.sampled_from("ABC")
    steps = [
        made(name, data.draw(contents), *[each for each in names[:n] if data.draw(st.booleans())])
        for n, name in enumerate(names)
    ]  # fmt: skip
    known = data.draw(st.lists(st.sampled_from(names), unique=True))
    completed = {name: Completed(data.draw(contents), seq, f"{name}/1") for seq, name in enumerate(known)}
    found = resumption(steps, completed)
    assert set(found.done) & set(found.again) == set()
    for each in steps:
        if each.name in found.done:
            assert found.done[each.name].content == each.content
            assert all(base in found.done and found.done[base].seq < found.done[each.name].seq for base in each.needs)
    folders = [each.folder for each in found.done.values()]
    assert len(set(folders)) == len(folders), "one attempt stands for one agent"


BEFORE = {"r.1": "a", "r.2": "b", "r.10": "b", "other.30": "a", "r": None, "r.x": "b"}


@pytest.mark.parametrize(
    ("items", "earlier", "names"),
    [
        ("abb", {}, {"r.1": "a", "r.2": "b", "r.3": "b"}),
        ("ab", BEFORE, {"r.1": "a", "r.2": "b"}),
        ("b", BEFORE, {"r.2": "b"}),
        ("bba", BEFORE, {"r.2": "b", "r.10": "b", "r.1": "a"}),
        ("cbbba", BEFORE, {"r.11": "c", "r.2": "b", "r.10": "b", "r.12": "b", "r.1": "a"}),
        ("", BEFORE, {}),
    ],
)
def test_item_keeps_its_number_and_a_number_its_item(
    items: str, earlier: dict[str, str | None], names: dict[str, str]
) -> None:
    found = numbered("r", items, earlier)
    assert list(found.items()) == list(names.items())


# -- agents that are not taken now, and agents that the profile has no more


def plan_of(*steps: Step, skips: Iterable[Skip] = ()) -> Plan:
    profile = parse('[[agents]]\nname = "x"\ncommand = ["x"]\n', "p.toml")
    survey = Survey(folder="/", memory=2**40, items={}, agents={"x": AgentSurvey(detected=NATIVE)}, problems={})
    plan = make(profile, survey, choice=Choice(), state_dir="/state")
    return replace(plan, steps=steps, skips=tuple(skips))


def skip(name: str, content: str = "") -> Skip:
    return Skip(name=name, why="not in the task", content=content)


@pytest.mark.parametrize(
    ("skips", "completed", "found"),
    [
        ([skip("a")], had(a=("A", 1)), {"a": "a/1"}),
        ([skip("a")], had(b=("A", 1)), {}),
        ([skip("a.1", "x")], had(**{"a.1": ("x", 1)}), {"a.1": "a.1/1"}),
        ([skip("a.1", "x")], had(**{"a.1": ("y", 1), "a.2": ("x", 2)}), {"a.1": "a.2/1"}),
        ([skip("a.1", "x")], had(**{"a.1": ("y", 1)}), {}),
        ([skip("a.1", "x")], had(**{"a.3": ("x", 1)}), {"a.1": "a.3/1"}),
        ([], had(a=("A", 1)), {}),
    ],
    ids=["by name", "another", "a copy", "which had another number", "whose item is new", "of an item", "no skip"],
)
def test_agent_that_is_not_taken_now_has_completed_still(
    skips: list[Skip], completed: dict[str, Completed], found: dict[str, str]
) -> None:
    assert {name: each.folder for name, each in left_out(plan_of(skips=skips), completed).items()} == found


def known(*names: str, completed: dict[str, Completed] | None = None, left_out: Iterable[str] = ()) -> RunView:
    agents = {name: AgentView(name=name, left_out=name in left_out) for name in names}
    return RunView(agents=agents, completed=completed or {})


def test_agent_that_the_plan_has_no_more_is_gone() -> None:
    plan = plan_of(A, skips=[skip("b")])
    assert gone(known("a", "b", "c", "d"), plan, Resumption({}, {})) == ("c", "d")
    assert gone(known("a", "c", left_out=["c"]), plan, Resumption({}, {})) == ()


def test_agent_that_completed_under_another_name_is_not_gone() -> None:
    completed = had(old=("A", 1), gone=("B", 2))
    view = known("old", "gone", completed=completed)
    assert gone(view, plan_of(A), Resumption({"a": completed["old"]}, {})) == ("gone",)
    assert gone(view, plan_of(A, skips=[skip("b", "B")]), Resumption({}, {})) == ("old",)


def test_step_whose_last_content_is_used_by_another_runs_as_a_new_one() -> None:
    found = resumption([made("a", "new"), made("b", "A")], had(a=("A", 1)))
    assert (list(found.done), found.again) == (["b"], {})


def test_base_that_completed_in_the_same_moment_or_before_does_not_count() -> None:
    assert resumption([A, B], had(a=("A", 2), b=("B", 2))).again == {}
    assert set(resumption([A, B], had(a=("A", 3), b=("B", 2))).again) == {"b"}
