"""Selection of agents, and the reasons of those that are left out."""

import pytest
from msgspec.structs import replace

from seqsup.model.profile import AgentTable
from seqsup.plan.mentions import mentioned, too_slow
from seqsup.plan.select import Choice, chosen, select
from seqsup.profile.complaint import ProfileError
from seqsup.profile.parse import parse


def tables(*agents: str) -> list[AgentTable]:
    """Agents from `name` or `name needs other other` or `name when word word`."""
    text = []
    for words in map(str.split, agents):
        name, key, values = words[0], *(words[1:2] or [""]), words[2:]
        text.append(f'[[agents]]\nname = "{name}"\ncommand = ["x"]\n' + (f"{key} = {values}\n" if key else ""))
    return list(parse("".join(text), "p.toml").agents)


def skipped(choice: Choice, *agents: str, **copies: list[str]) -> dict[str, str]:
    ordered = tables(*agents)
    return select(ordered, {agent.name: copies.get(agent.name, [agent.name]) for agent in ordered}, choice)


@pytest.mark.parametrize(
    ("choice", "skips"),
    [
        (Choice(), {}),
        (Choice(only=("b",)), {"a": "not named with --only", "c": "not named with --only"}),
        (Choice(only=("a", "c")), {"b": "not named with --only"}),
        (Choice(start_from="b"), {"a": "before --from b"}),
        (Choice(start_from="a"), {}),
        (Choice(failed=("b",)), {"a": "not among the agents that failed", "c": "not among the agents that failed"}),
        (Choice(failed=()), dict.fromkeys("abc", "not among the agents that failed")),
        (Choice(only=("b", "c"), start_from="c"), {"a": "not named with --only", "b": "before --from c"}),
    ],
)
def test_agents_are_skipped_for_what_the_command_line_says(choice: Choice, skips: dict[str, str]) -> None:
    assert skipped(choice, "a", "b", "c") == skips


def test_copies_are_taken_by_their_own_name_or_by_their_agents() -> None:
    copies = {"a": ["a.1", "a.2"]}
    assert skipped(Choice(only=("a.2",)), "a", "b", **copies) == dict.fromkeys(("a.1", "b"), "not named with --only")
    assert skipped(Choice(only=("a",)), "a", "b", **copies) == {"b": "not named with --only"}
    assert skipped(Choice(start_from="a.2"), "a", "b", **copies) == {"a.1": "before --from a.2"}
    assert skipped(Choice(start_from="a"), "a", "b", **copies) == {}
    assert skipped(Choice(failed=("a.1",)), "a", **copies) == {"a.2": "not among the agents that failed"}


def test_agents_that_need_a_skipped_one_are_skipped_as_well() -> None:
    agents = ["a when form", "b when sql", "c needs a b", "d needs c", "e"]
    assert skipped(Choice(task="mend it"), *agents) == {
        "a": "the task contains none of the words form",
        "b": "the task contains none of the words sql",
        "c": "needs a, b, skipped as well",
        "d": "needs c, skipped as well",
    }
    assert skipped(Choice(task="a form, and sql"), *agents) == {}
    assert skipped(Choice(), *agents) == {}, "without a task `when` says nothing"


@pytest.mark.parametrize("choice", [Choice(only=("c",), task="x"), Choice(failed=("c",), task="x")])
def test_agent_that_is_named_is_taken_without_what_it_needs(choice: Choice) -> None:
    assert "c" not in skipped(choice, "a when form", "c needs a")
    assert "c" not in skipped(choice, "c when form")


def test_agent_with_no_item_is_skipped_even_if_it_is_named() -> None:
    assert skipped(Choice(only=("a",)), "a", "b needs a", a=[]) == {
        "a": "for_each has no items", "b": "not named with --only",
    }  # fmt: skip
    assert skipped(Choice(), "a", "b needs a", a=[]) == {
        "a": "for_each has no items", "b": "needs a, skipped as well",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "taken"),
    [
        ("a form", True), ("FORM", True), ("form-field", True), ("the form.", True),
        ("forms", True), ("forming", True), ("formed", True), ("perform", False), ("form_1", False), ("formal", False),
    ],
)  # fmt: skip
def test_word_of_when_is_a_whole_word_of_the_task_in_any_case(task: str, taken: bool) -> None:
    assert ("a" not in skipped(Choice(task=task), "a when form")) is taken


@pytest.mark.parametrize(
    ("word", "task", "taken"),
    [
        ("button", "Add two Buttons", True), ("tests", "test it", True), ("test", "testing, tested", True),
        ("query", "slow queries", True), ("style", "styling", True), ("run", "it is running", True),
        ("fix", "fixes and fixed", True), ("API", "all APIs", True), ("box", "the boxes", True),
        ("api", "an apiary", False), ("test", "a testament", False), ("import", "this is important", False),
        ("author", "by the authority", False), ("data", "the database", False), ("us", "used", False),
        ("user interface", "the\nuser  interfaces", True), ("user interface", "the interface user", False),
        ("c++", "in C++", True), ("front-end", "front-ends", True),
        ("/butt.*red/", "a BUTTON in red", True), ("/^add/", "please add", False), ("/", "a / b", True),
        ("/RED/i", "in red", True), ("/src/app", "in /src/app", True),
    ],
)  # fmt: skip
def test_when_matches_inflected_words_phrases_and_expressions(word: str, task: str, taken: bool) -> None:
    assert mentioned((word,), task) == ((word,) if taken else ())


def test_expression_that_never_ends_is_given_up() -> None:
    assert too_slow((r"/(x+x+)+(?:y|z(?<!z))/",), "x" * 5000)
    assert not too_slow((r"/(x+x+)+y/",), "xy")


def test_agent_with_otherwise_runs_only_if_the_task_selects_none() -> None:
    agents = tables("a when form", "b")
    agents.append(replace(agents[1], name="rest", otherwise=True))
    copies = {agent.name: [agent.name] for agent in agents}
    assert select(agents, copies, Choice(task="a form")) == {"rest": "the task selects a"}
    assert select(agents, copies, Choice(task="sql")) == {"a": "the task contains none of the words form"}
    assert select(agents, copies, Choice()) == {"rest": "it runs only for a task that selects no agent"}
    assert "rest" not in select(agents, copies, Choice(task="a form", only=("rest",)))
    assert chosen(agents[2], "rest", Choice(task="sql")) == "the task selects no other agent"


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        (Choice(), ""),
        (Choice(only=("a",)), "named with --only"),
        (Choice(only=("a.1",)), "named with --only"),
        (Choice(only=("b",)), ""),
        (Choice(failed=("a.1",)), "it failed, or needs an agent that failed"),
        (Choice(task="sql and a form"), "the task has form, sql"),
        (Choice(task="SQL"), "the task has sql"),
    ],
)
def test_agent_that_the_command_line_chose_says_why(choice: Choice, why: str) -> None:
    [agent] = tables("a when form sql")
    assert chosen(agent, "a.1", choice) == why


def test_agent_without_when_is_taken_for_no_task() -> None:
    assert chosen(tables("a")[0], "a", Choice(task="sql")) == ""


@pytest.mark.parametrize(
    ("choice", "lines"),
    [
        (Choice(only=("wroker",)), ["--only: no agent wroker (did you mean worker?)"]),
        (Choice(start_from="zzz"), ["--from: no agent zzz; there are worker, b"]),
        (Choice(only=("zzz",), of="r7"), ["--only of r7: no agent zzz; there are worker, b"]),
        (
            Choice(only=("b", "yyy"), start_from="zzz", of="r7"),
            [
                "--only of r7: no agent yyy; there are worker, b",
                "--from of r7: no agent zzz; there are worker, b",
            ],
        ),
    ],
)
def test_unknown_agent_is_reported_with_the_option_and_the_known_ones(choice: Choice, lines: list[str]) -> None:
    with pytest.raises(ProfileError) as caught:
        skipped(choice, "worker", "b")
    assert str(caught.value).splitlines() == lines
