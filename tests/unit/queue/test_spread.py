"""`--spread`: which agents are in which job, and what waits for what."""

from pathlib import Path

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from helpers.profiles import agent
from seqsup.cli.load_plan import load
from seqsup.cli.read_profile import read
from seqsup.model.profile import Profile
from seqsup.plan.expand import numbered
from seqsup.plan.items import find_items
from seqsup.plan.objections import NoTask
from seqsup.profile.complaint import ProfileError
from seqsup.profile.parse import parse
from seqsup.queue.jobs import NewJob, Order
from seqsup.queue.parcel import choice_of, order_of
from seqsup.queue.spread import Spread, spread

JOB = NewJob(name="", order=Order(folder="/"), priority=3, after=(7,), by="me@here")


def profile(*agents: str, top: str = "") -> Profile:
    """Agents from `name`, `name needs other other`; a name with a star has two items."""
    text = [top]
    for words in map(str.split, agents):
        name, needs = words[0].removesuffix("*"), words[2:]
        each = 'for_each = ["x", "y"]\n' if words[0].endswith("*") else ""
        text.append(f'[[agents]]\nname = "{name}"\ncommand = ["c"]\nneeds = {needs}\n{each}')
    return parse("".join(text), "night.toml")


def items_of(given: Profile) -> dict[str, dict[str, str]]:
    return {
        table.name: numbered(table.name, table.for_each.items, {}) for table in given.agents if table.for_each
    }  # fmt: skip


def spreading(*agents: str, top: str = "", job: NewJob = JOB) -> Spread:
    made = profile(*agents, top=top)
    return spread(made, items_of(made), job)


def shape(made: Spread) -> dict[str, set[str]]:
    """By the agents of each job: those of the jobs that it waits for."""
    told = ["+".join(job.order.only) for job in made.jobs]
    return {
        own: {told[-1 - number] for number in job.after if number < 0} for own, job in zip(told, made.jobs, strict=True)
    }


def test_each_chain_and_each_item_is_a_job() -> None:
    made = spreading("a", "b needs a", "c", "d*")
    assert shape(made) == {"a+b": set(), "c": set(), "d.1": set(), "d.2": set()}
    assert [job.name for job in made.jobs] == ["night: a, b", "night: c", "night: d.1 x", "night: d.2 y"]
    assert [job.order.items for job in made.jobs] == [{}, {}, {"d.1": "x"}, {"d.2": "y"}]


def test_needs_hold_between_jobs() -> None:
    made = spreading("plan", "review* needs plan", "merge needs review", "say needs merge", "lint")
    assert shape(made) == {
        "plan": set(), "lint": set(), "review.1": {"plan"}, "review.2": {"plan"},
        "merge+say": {"review.1", "review.2"},
    }  # fmt: skip


def test_chain_is_cut_where_an_agent_with_items_lies_in_it() -> None:
    made = spreading("a", "b* needs a", "c needs a b", "d needs a")
    assert shape(made) == {"a+d": set(), "b.1": {"a+d"}, "b.2": {"a+d"}, "c": {"a+d", "b.1", "b.2"}}


def test_jobs_share_what_was_asked_for_and_only_the_first_wait_for_other_jobs() -> None:
    made = spreading("a", "b* needs a")
    assert {(job.priority, job.by) for job in made.jobs} == {(3, "me@here")}
    assert [job.after for job in made.jobs] == [(7,), (-1,), (-1,)]


def test_agents_that_the_task_or_only_leaves_out_get_no_job() -> None:
    text = '[[agents]]\nname = "a"\ncommand = ["c"]\nwhen = ["sql"]\n[[agents]]\nname = "b"\ncommand = ["c"]\n'
    made = parse(text, "night.toml")
    with_task = spread(made, {}, NewJob(name="", order=Order(folder="/", task="a form")))
    assert shape(with_task) == {"b": set()}
    assert shape(spread(made, {}, NewJob(name="", order=Order(folder="/", only=("a",))))) == {"a": set()}
    one = NewJob(name="", order=Order(folder="/", only=("b.2",)))
    assert shape(spreading("a", "b* needs a", job=one)) == {"b.2": set()}
    with pytest.raises(ProfileError, match=r"no agent x"):
        spread(made, {}, NewJob(name="", order=Order(folder="/", only=("x",))))


def test_agent_that_needs_a_task_is_refused_without_one() -> None:
    made = parse('[[agents]]\nname = "a"\ncommand = ["c", "{task}"]\n', "night.toml")
    with pytest.raises(NoTask, match="--task"):
        spread(made, {}, JOB)


def test_agents_that_use_results_of_each_other_stay_together() -> None:
    text = '[[agents]]\nname = "a"\ncommand = ["c"]\n[[agents]]\nname = "b"\ncommand = ["c", "{summary:a}"]\n'
    assert shape(spread(parse(text, "night.toml"), {}, JOB)) == {"a+b": set()}


@pytest.mark.parametrize("use", ["{summary:a}", "{artifacts:a}/x"])
def test_result_of_an_agent_in_another_job_is_refused(use: str) -> None:
    text = f"""
[[agents]]
name = "a"
command = ["c"]
for_each = ["x"]

[[agents]]
name = "b"
needs = ["a"]
command = ["c", "{use}"]
"""
    with pytest.raises(ProfileError) as caught:
        spread(parse(text, "night.toml"), {"a": {"a.1": "x"}}, JOB)
    [complaint] = caught.value.complaints
    assert (complaint.file, complaint.line, complaint.key) == ("night.toml", 10, "agents[1].command[1]")
    assert "--spread puts a into another job" in complaint.message
    assert "without --spread" in complaint.hint


def test_what_holds_for_each_job_is_noted() -> None:
    top = '[run.budget]\ntokens = 5\n[hooks]\nbefore_run = ["true"]\n[[companions]]\nname = "mcp"\ncommand = ["m"]\n'
    assert spreading("a", "b", top=top).notes == [
        "[run.budget] holds for each of the 2 jobs by itself: together they may use 2 times as much",
        "each of the 2 jobs starts its own companions: mcp",
        "the hooks before_run and after_run run in each of the 2 jobs",
    ]
    assert spreading("a", top=top).notes == []


@st.composite
def graphs(draw: st.DrawFn) -> list[str]:
    told = []
    for n in range(draw(st.integers(1, 9))):
        needs = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=3)) if n else []
        star = "*" if draw(st.integers(0, 3)) == 0 else ""
        told.append(" ".join([f"a{n}{star}", *(["needs", *(f"a{m}" for m in needs)] if needs else [])]))
    return draw(st.permutations(told))


@given(graphs())
def test_each_agent_is_in_one_job_and_starts_behind_what_it_needs(agents: list[str]) -> None:
    given_profile = profile(*agents)
    items = items_of(given_profile)
    made = spread(given_profile, items, NewJob(name="", order=Order(folder="/")))
    named = [name for job in made.jobs for name in job.order.only]
    wanted = [name for table in given_profile.agents for name in items.get(table.name, [table.name])]
    assert sorted(named) == sorted(wanted)
    job_of = {name: place for place, job in enumerate(made.jobs) for name in job.order.only}
    for place, job in enumerate(made.jobs):
        assert all(0 <= -1 - number < place for number in job.after), "an earlier job of the call"
        assert len(set(job.after)) == len(job.after)
        assert job.order.items == {name: item for some in items.values() for name, item in some.items()
                                   if name in job.order.only}  # fmt: skip
    for table in given_profile.agents:
        for name in items.get(table.name, [table.name]):
            own = made.jobs[job_of[name]]
            for need in table.needs:
                for needed in items.get(need, [need]):
                    if job_of[needed] == job_of[name]:
                        assert table.name not in items
                        assert own.order.only.index(needed) < own.order.only.index(name)
                    else:
                        assert -1 - job_of[needed] in own.after


@given(graphs())
def test_agents_that_no_items_part_are_in_one_job_with_what_they_need(agents: list[str]) -> None:
    """Without for_each a job is a connected component of `needs`."""
    plain = [each.replace("*", "") for each in agents]
    made = spreading(*plain, job=NewJob(name="", order=Order(folder="/")))
    groups = [{name} for name in (each.split()[0] for each in plain)]
    for words in map(str.split, plain):
        for need in words[2:]:
            one, other = (next(group for group in groups if name in group) for name in (words[0], need))
            if one is not other:
                groups.remove(other)
                one |= other
    assert sorted(map(sorted, groups)) == sorted(sorted(job.order.only) for job in made.jobs)
    assert all(not job.after for job in made.jobs)


# What a worker makes of it


def test_worker_plans_what_its_job_names_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text("a.c\nb.c\n")
    file = tmp_path / "night.toml"
    agents = [
        agent("plan", ["true"]),
        agent("review", ["echo", "{item}"], for_each={"lines": "files.txt"}, needs=["plan"]),
        agent("merge", ["true"], needs=["review"]),
        agent("say", ["true"], needs=["merge"]),
    ]
    file.write_text(tomlkit.dumps({"agents": agents}))
    read_profile = read(str(file))
    found = find_items(read_profile, str(tmp_path))
    made = spread(read_profile, found, NewJob(name="", order=order_of(read_profile)))
    (tmp_path / "files.txt").unlink()  # after it was added
    plans = [load(str(file), choice_of(job.order)) for job in made.jobs]
    taken = [[(step.name, step.item, step.needs) for step in plan.steps] for plan in plans]
    assert taken == [
        [("plan", None, ())], [("review.1", "a.c", ())], [("review.2", "b.c", ())],
        [("merge", None, ()), ("say", None, ("merge",))],
    ]  # fmt: skip
    assert plans[1].steps[0].command == ("echo", "a.c")
    assert plans[1].items == {"review.1": "a.c"}
    assert {skip.name: skip.why for skip in plans[3].skips} == dict.fromkeys(
        ("plan", "review"), "not named with --only"
    )


def test_items_that_cannot_be_found_are_complained_of(tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    each = [{"glob": "*.c"}, {"lines": "gone.txt"}, {"glob": "*.h", "allow_empty": True}]
    file.write_text(tomlkit.dumps({"agents": [agent(f"a{n}", ["true"], for_each=way) for n, way in enumerate(each)]}))
    with pytest.raises(ProfileError) as caught:
        find_items(read(str(file)), str(tmp_path))
    told = [(complaint.line, complaint.message) for complaint in caught.value.complaints]
    assert [line for line, _ in told] == [6, 13]
    assert "no file matches *.c" in told[0][1]
    assert "gone.txt does not exist" in told[1][1]
