"""Plans: what is taken and skipped, what is filled in, limits by machine, and `seqsup plan` on this machine."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.tiers import LIMITING, TIERS
from seqsup.cli.commands.plan import plan as plan_command
from seqsup.cli.commands.schema import schema as schema_command
from seqsup.cli.load_plan import for_command, load
from seqsup.cli.read_profile import state_dir_of
from seqsup.errors import SeqsupError
from seqsup.model.plan import Detected, NodeBinary, Plan, Step
from seqsup.node.binary import preload
from seqsup.plan.expand import expand, numbered
from seqsup.plan.make import make
from seqsup.plan.objections import NoTask
from seqsup.plan.resume import builds_on
from seqsup.plan.select import Choice
from seqsup.plan.survey import AgentSurvey, Survey
from seqsup.profile.complaint import ProfileError
from seqsup.profile.parse import parse
from seqsup.profile.placeholders import escape, finish
from seqsup.state.run_folder import state_dir
from seqsup.text import cut
from seqsup.units import GIB, MIB

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="no node on PATH")

FLAGS = ("--expose-gc", "--max-old-space-size", "--title")
NODE = NodeBinary(executable="/bin/node", version="v20.20.2", allowed=FLAGS)
OLD_NODE = NodeBinary(executable="/bin/node", version="v20.10.0", allowed=("--max-old-space-size",))
NATIVE = AgentSurvey(detected=Detected(kind="native", executable="/bin/x", why=""))


def agents(*tables: str) -> str:
    """One agent for each text: its name, then its further lines."""
    parts = []
    for table in tables:
        name, _, rest = table.partition("\n")
        command = "" if "command" in rest else 'command = ["x"]\n'
        parts.append(f'[[agents]]\nname = "{name}"\n{command}{rest}\n')
    return "".join(parts)


def prompted(table: str) -> str:
    name, _, rest = table.partition("\n")
    return f'[[agents]]\nname = "{name}"\n{rest}\n'


def planned(
    text: str,
    *,
    found: AgentSurvey = NATIVE,
    memory: int = 64 * GIB,
    items: dict[str, tuple[str, ...]] | None = None,
    task: str = "",
    only: tuple[str, ...] = (),
    start_from: str | None = None,
    any_task: bool = False,
    any_items: bool = False,
) -> Plan:
    """The plan of a profile on a machine that has everything."""
    profile = parse(text, "p.toml")
    listed = {a.name: a.for_each.items for a in profile.agents if a.for_each} if items is None else items
    each = {name: numbered(name, some, {}) for name, some in listed.items()}
    names = [c.name for a in profile.agents for c in expand(a, each.get(a.name), "/home/me", task)]
    survey = Survey(folder="/home/me", memory=memory, items=each, agents=dict.fromkeys(names, found), problems={})
    choice = Choice(task=task, any_task=any_task, any_items=any_items, only=only, start_from=start_from)
    return make(profile, survey, choice=choice, state_dir="/state")


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def skips(plan: Plan) -> dict[str, str]:
    return {skip.name: skip.why for skip in plan.skips}


def node(**more: Any) -> AgentSurvey:
    return AgentSurvey(detected=Detected(kind="node", executable="/bin/node", why=""), **{"node": NODE, **more})


# Prompts


def test_a_prompt_becomes_the_command_line_of_its_cli() -> None:
    words = 'a\npreset = "claude"\nmodel = "opus"\nargs = ["--add-dir", "{item}"]\nfor_each = ["{x}"]'
    [step] = planned(prompted(words + '\nprompt = "- do {task} with {artifacts}"'), task="this").steps
    assert [finish(word) for word in step.command] == [
        "claude", "--permission-mode", "acceptEdits", "--output-format", "stream-json", "--verbose",
        "--model", "opus", "--add-dir", "{x}", "-p", "--", "- do this with {artifacts}",
    ]  # fmt: skip
    assert step.prompt is not None
    assert (step.prompt.command(), finish(step.prompt.text)) == (step.command, "- do this with {artifacts}")
    assert (step.dialect, step.preset and step.preset.name) == ("claude", "claude")


@pytest.mark.parametrize(
    ("keys", "dialect"),
    [
        ('preset = "claude"\nargs = ["--output-format", "text"]\nprompt = "x"', None),
        ('preset = "gemini"\nargs = ["-o=stream-json"]\nprompt = "x"', "gemini"),
        ('command = ["claude", "-p", "x", "--output-format=stream-json", "--verbose"]', "claude"),
        ("""command = ["sh", "-c", "exec codex exec --json 'do it'"]""", "codex"),
        ('command = ["sh", "-c", "codex exec --json x | jq"]\npreset = "codex"', None),
        ('command = ["claude", "-p", "ask for --output-format stream-json"]', None),
        ('command = ["codex", "exec", "--json", "x"]\npreset = "none"', None),
        ('command = ["x", "--json"]\npreset = "node"', None),
    ],
)
def test_a_stream_is_read_where_it_is_asked_for(keys: str, dialect: str | None) -> None:
    [step] = planned(prompted(f"a\n{keys}")).steps
    assert step.dialect == dialect
    assert sum(word.startswith(("--output-format", "-o")) for word in step.command) <= 1


def test_resume_knows_a_prompt_by_what_the_profile_says() -> None:
    """Words that seqsup adds may change with its version."""
    keys = {"preset": "claude", "prompt": "x", "model": "m", "args": ["-y"]}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    [known], [same] = planned(prompted(f"a\n{text}")).steps, planned(prompted(f"b\n{text}timeouts.wall = 5")).steps
    assert same.content == known.content
    for key, value in {"preset": "gemini", "prompt": "y", "model": "n", "args": ["-n"]}.items():
        other = "".join(f"{name} = {json.dumps(each)}\n" for name, each in (keys | {key: value}).items())
        assert planned(prompted(f"a\n{other}")).steps[0].content != known.content


def test_a_prompt_uses_results_of_earlier_agents() -> None:
    each = 'b\ncommand = ["x", "{item}"]\nfor_each = ["1", "2"]'
    steps = planned(agents(each) + prompted('c\npreset = "codex"\nprompt = "Read {summary:b}"')).steps
    assert builds_on(steps[2]) == ["b.1", "b.2"]
    assert steps[2].prompt is not None
    assert steps[2].prompt.text == "Read {summary:b.1}\n{summary:b.2}"


def test_a_cli_that_is_missing_is_a_mistake_of_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    path = profile_file(tmp_path, prompted('a\npreset = "claude"\nprompt = "x"'))
    with pytest.raises(ProfileError, match=r"p.toml:3:\d+: agent a: preset: no program claude on PATH"):
        load(path)


# What reaches which runtime


def test_plan_says_which_of_nodes_options_reach_an_agent() -> None:
    bun = AgentSurvey(detected=Detected(kind="bun", executable="/bin/claude", why="/bin/claude was compiled by Bun"))
    [step] = planned(agents("a"), found=bun).steps
    assert (step.runtime, step.node) == ("bun", None)
    assert "compiled by Bun; Bun reads no NODE_OPTIONS, and there is no node on its PATH" in step.runtime_why
    [step] = planned(agents("a"), found=node()).steps
    assert step.runtime_why.endswith("Node programs that it starts get the options too")
    [step] = planned(agents("a"), found=replace(NATIVE, node=NODE)).steps
    assert step.runtime == "native"
    assert "does not apply to it, but what it starts in Node (v20.20.2 on its PATH) has them" in step.runtime_why
    [step] = planned(agents('a\nruntime = "native"'), found=bun).steps
    assert step.runtime_why.startswith('runtime = "native" is set in the profile, but /bin/claude was compiled by Bun')


def test_node_table_of_an_agent_without_a_node_is_reported() -> None:
    table = 'a\nnode = { max_old_space_size = "1GiB" }'
    assert any("its [node] has no effect" in note for note in planned(agents(table)).notes)
    assert not any("no effect" in note for note in planned(agents(table), found=node()).notes)
    assert not any("no effect" in note for note in planned('node.max_old_space_size = "1GiB"\n' + agents("a")).notes)


def test_similar_agents_are_reported_together(tmp_path: Path) -> None:
    each = "each\ncommand = ['echo', '{item}']\nfor_each = [" + ", ".join(f"'{n}'" for n in range(300)) + "]"
    others = [f"other-{n}\ncommand = ['echo']\ntimeouts = {{ wall = {n + 1} }}" for n in range(60)]
    path = profile_file(tmp_path, agents("first\ncommand = ['echo']\nexpect = ['hard']", each, *others))
    text = invoked(path, "-v").output
    assert "361 agents, one at a time" in text
    assert "   1  first" in text
    assert " 2–301  each.1 … each.300" in text
    assert "2–301. each.1 … each.300, like this one:\n   $ echo 0\n" in text
    assert "each.2" not in text
    assert "349. other-47" in text
    assert "12 more agents: --only NAME shows one, --json all of them" in text
    only = invoked(path, "--only", "each.7").output
    assert (
        "first, each.1, each.2, each.3, each.4, each.5, each.6, each.8 and 352 more: not named with --only"
        in " ".join(only.split())
    )
    assert len(json.loads(invoked(path, "--json").output)["steps"]) == 361


# What is taken


def test_agents_keep_their_order_but_never_come_before_what_they_need() -> None:
    assert names(planned(agents("a\nneeds = ['d']", "b", "c\nneeds = ['a']", "d"))) == ["b", "d", "a", "c"]


@given(st.data())
def test_needs_always_come_first_whatever_the_order(data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(6)))
    tables = []
    for n in order:
        needs = data.draw(st.sets(st.integers(0, n - 1))) if n else set()
        tables.append(f"a{n}\nneeds = {[f'a{m}' for m in sorted(needs)]}")
    plan = planned(agents(*tables))
    for place, step in enumerate(plan.steps):
        assert set(step.needs) <= set(names(plan)[:place])


@pytest.mark.parametrize(
    ("task", "taken"),
    [
        ("", ["a", "b", "c"]),
        ("Add a BUTTON.", ["a", "b", "c"]),
        ("the form-field", ["a", "b", "c"]),
        ("buttons and forms", ["a", "b", "c"]),
        ("fix c++ code", ["a"]),
    ],
)
def test_when_takes_an_agent_by_whole_words_of_the_task(task: str, taken: list[str]) -> None:
    plan = planned(agents("a", "b\nwhen = ['button', 'form']", "c\nneeds = ['b']"), task=task)
    assert names(plan) == taken
    if "b" not in taken:
        assert skips(plan) == {
            "b": "the task contains none of the words button, form",
            "c": "needs b, skipped as well",
        }


def test_a_word_of_when_may_hold_signs() -> None:
    assert names(planned(agents("a\nwhen = ['c++']"), task="fix C++ code")) == ["a"]


def test_only_takes_the_named_even_without_what_they_need_and_against_when() -> None:
    text = agents("a", "b\nneeds = ['a']\nwhen = ['never']", "c")
    plan = planned(text, only=("b",), task="x")
    assert names(plan) == ["b"]
    assert plan.steps[0].needs == ()
    assert skips(plan) == {"a": "not named with --only", "c": "not named with --only"}
    assert any("needs a, which does not run now" in note for note in plan.notes)


def test_from_skips_earlier_agents() -> None:
    plan = planned(agents("a", "b", "c"), start_from="b")
    assert names(plan) == ["b", "c"]
    assert skips(plan) == {"a": "before --from b"}


def test_unknown_names_on_the_command_line_are_complained_of_together() -> None:
    with pytest.raises(ProfileError) as caught:
        planned(agents("worker", "other"), only=("wroker", "other"), start_from="zzz")
    assert str(caught.value).splitlines() == [
        "--only: no agent wroker (did you mean worker?)",
        "--from: no agent zzz; there are worker, other",
    ]


def test_for_each_makes_a_copy_for_each_item() -> None:
    text = agents("a\nfor_each = ['x', 'y/z', 'x']\ncommand = ['do', '{item}']", "b\nneeds = ['a']")
    plan = planned(text)
    assert names(plan) == ["a.1", "a.2", "a.3", "b"]
    assert [step.command for step in plan.steps[:3]] == [("do", "x"), ("do", "y/z"), ("do", "x")]
    assert plan.steps[3].needs == ("a.1", "a.2", "a.3")
    assert names(planned(text, only=("a.2",))) == ["a.2"]
    assert names(planned(text, start_from="a.3")) == ["a.3", "b"]


def test_for_each_without_items_skips_the_agent_and_agents_that_need_it() -> None:
    each = "a\nfor_each = {{ glob = '*'{} }}"
    text = agents(each.format(""), "b\nneeds = ['a']", "c")
    for plan in (
        planned(text, items={"a": ()}, any_items=True),  # when it is resumed
        planned(agents(each.format(", allow_empty = true"), "b\nneeds = ['a']", "c"), items={"a": ()}),
    ):
        assert names(plan) == ["c"]
        assert skips(plan) == {"a": "for_each has no items", "b": "needs a, skipped as well"}
    assert names(planned(text, items={"a": ()}, only=("c",))) == ["c"]


@pytest.mark.parametrize(
    ("each", "told"),
    [
        ("{ glob = 'x/*.md' }", "p.toml:4:21: agent a: for_each.glob: no file matches x/*.md in /home/me"),
        ("{ lines = 'todo' }", "p.toml:4:22: agent a: for_each.lines: todo has no lines"),
    ],
)
def test_for_each_that_finds_nothing_is_refused(each: str, told: str) -> None:
    with pytest.raises(ProfileError) as caught:
        planned(agents(f"a\nfor_each = {each}", "b"), items={"a": ()})
    assert str(caught.value) == f"{told} (for_each.allow_empty = true skips the agent then)"


@pytest.mark.parametrize("task", ["", "  \n"])
def test_empty_task_that_a_selected_agent_uses_is_refused(task: str) -> None:
    text = agents("a\nstdin = '{task}'", "b", "c\nenv.A = '{task}'", "d\ncommand = ['sh', '-c', 'echo ${task}']")
    with pytest.raises(NoTask) as caught:
        planned(text, task=task)
    assert str(caught.value) == '{task} is empty, and a, c use it (add --task "what to do")'
    with pytest.raises(NoTask, match="and c uses it"):
        planned(text, task=task, start_from="b")
    assert names(planned(text, task=task, only=("b", "d"))) == ["b", "d"]
    assert names(planned(text, task="x")) == ["a", "b", "c", "d"]


def test_braces_of_other_programs_reach_the_agent_as_they_are() -> None:
    command = [
        "sh",
        "-c",
        "cd ${HOME} && echo ${task} {word} {word:{item}} {a: 1} ${X:-{item}} {} ${{x} {system}",
        "{task}{artifacts}",
    ]
    text = agents(f"a\ncommand = {command}\nfor_each = ['i']")
    assert finished(planned(text, task="$").steps[0]) == [
        "sh", "-c", "cd ${HOME} && echo ${task} {word} {word:i} {a: 1} ${X:-i} {} ${{x} {system}", "$<artifacts None>",
    ]  # fmt: skip


# What is filled in


def finished(step: Step) -> list[str]:
    return [finish(word, lambda name, argument: f"<{name} {argument}>") for word in step.command]


def test_the_task_is_filled_in_and_what_only_the_run_knows_stays() -> None:
    text = agents("a", "b\ncommand = ['{task}', '{summary:a} {artifacts:a} {artifacts}', '{{task}', '{}']")
    step = planned(text, task="do {summary:a} {{x}").steps[1]
    assert finished(step) == [
        "do {summary:a} {{x}",
        "<summary a> <artifacts a> <artifacts None>",
        "{task}",
        "{}",
    ]


@given(st.text(), st.text())
def test_whatever_the_task_and_the_item_are_they_arrive_as_they_are(task: str, item: str) -> None:
    text = agents("a\ncommand = ['{task}|{item}']\nfor_each = ['?']")
    assert finished(planned(text, task=task, items={"a": (item,)}, any_task=True).steps[0]) == [f"{task}|{item}"]


@given(st.text())
def test_an_escaped_text_is_given_back(text: str) -> None:
    assert finish(escape(text), lambda name, argument: "wrong") == text


def test_option_for_an_agent_with_for_each_applies_to_each_copy() -> None:
    text = agents("a\nfor_each = ['{', 'y']\nstdin = '{item}'", "b\nstdin = '{summary:a}'\nneeds = ['a']")
    assert planned(text).steps[2].stdin == "{summary:a.1}\n{summary:a.2}"


def test_paths_are_relative_to_the_profile_and_may_hold_the_item() -> None:
    lines = "cwd = 'pkg/{item}'\nstdin_file = '{item}.md'\nsuccess.file = 'out/{item}'\nfor_each = ['x']"
    [step] = planned(agents(f"a\n{lines}")).steps
    assert (step.cwd, step.stdin_file) == ("/home/me/pkg/x", "/home/me/x.md")
    assert step.success.file == "/home/me/pkg/x/out/x"


def test_the_content_of_a_step_is_what_it_is_given_and_nothing_else() -> None:
    base = agents("a\ncommand = ['x', '{task}']\nstdin_file = 'in'")

    def content(text: str = base, task: str = "t", **found: Any) -> str:
        return planned(text, task=task, found=AgentSurvey(detected=NATIVE.detected, **found)).steps[0].content

    assert content() == content(base + "memory.hard = '1GiB'\nretry.attempts = 9\n")
    assert content() == content(base.replace('"a"', '"b"'))
    different = [
        content(task="u"), content(stdin_digest="1"), content(base + "env.A = '1'"), content(base + "env.A = '2'"),
        content(base + "cwd = 'sub'"), content(base.replace("stdin_file = 'in'", "stdin = 'in'")), content(),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


# Limits by machine


def test_a_small_machine_shrinks_the_defaults_alike_and_says_so() -> None:
    plan = planned(agents("a"), memory=5 * GIB)
    limits, drain = plan.steps[0].limits, plan.steps[0].drain
    assert (limits.warn, limits.soft, limits.hard) == (2 * GIB, 3 * GIB, 4 * GIB)
    assert (limits.host_floor, drain.threshold, drain.available) == (256 * MIB, 2 * GIB, 512 * MIB)
    assert plan.notes == ("this machine has 5 GiB: default limits are 50% of the usual ones",)
    assert planned(agents("a")).notes == ()


@pytest.mark.parametrize(
    ("lines", "found", "key", "message"),
    [
        ("memory.hard = '6GiB'", NATIVE, "agents[0].memory.hard", "6 GiB, but this machine has 5 GiB"),
        ("memory.soft = '4500M'", NATIVE, "agents[0].memory.soft", "soft (4.4 GiB) is above hard (4 GiB)"),
        ("memory.host_floor = '6GiB'", NATIVE, "agents[0].memory.host_floor", "can never be available"),
        (
            "memory.measure = 'cgroup'\nmemory.enforce = 'watch'",
            NATIVE,
            "agents[0].memory.measure",
            'memory.enforce = "watch" asks for none',
        ),
        ("drain.available = '6GiB'", NATIVE, "agents[0].drain.available", "can never be available"),
        ("memory.hard = '63M'", node(), "agents[0].memory.hard", "needs about 64 MiB"),
        ("node.max_old_space_size = '4G'", node(), "agents[0].node.max_old_space_size", "does not fit"),
        ("node.options = ['--trace-gc']", node(), "agents[0].node.options", "v20.20.2 does not accept --trace-gc"),
        ("node.options = ['--max-old-space-size=9']", node(), "agents[0].node.options", "has its own key"),
        ("", AgentSurvey(detected=NATIVE.detected, problems={("command", 0): "gone"}), "agents[0].command[0]", "gone"),
    ],
)
def test_missing_ability_of_the_machine_is_reported_with_its_key(
    lines: str, found: AgentSurvey, key: str, message: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        planned(agents(f"a\n{lines}"), found=found, memory=5 * GIB)
    [complaint] = caught.value.complaints
    assert complaint.key == key
    assert message in complaint.message


def test_limits_too_small_for_node_are_enough_for_a_native_program() -> None:
    plan = planned("[node]\nmax_old_space_size = '4GiB'\n" + agents("a\nmemory.hard = '10M'"))
    assert plan.steps[0].limits.hard == 10 * MIB


def test_an_agent_that_is_not_taken_may_lack_its_program() -> None:
    gone = AgentSurvey(detected=NATIVE.detected, problems={("command", 0): "gone"})
    profile = parse(agents("a", "b"), "p.toml")
    survey = Survey(folder="/", memory=64 * GIB, items={}, agents={"a": gone, "b": NATIVE}, problems={})
    assert names(make(profile, survey, choice=Choice(only=("b",)), state_dir="/state")) == ["b"]


# Node


@pytest.mark.parametrize(
    ("lines", "found", "options", "heap", "ceiling"),
    [
        ("", node(), (), 819, 824),
        ("node.telemetry = false", node(), ("--expose-gc",), 819, 824),
        ("node = { telemetry = false, expose_gc = false }", node(), (), 819, 824),
        ("node.telemetry = false", node(node=OLD_NODE), (), 819, 824),
        ("node.options = ['--title=x']", node(), ("--title=x",), 819, 824),
        ("node.options = ['--expose-gc']", node(), ("--expose-gc",), 819, 824),
        ("node.max_old_space_size = '300M'", node(), (), 300, 824),
        ("node.max_old_space_size = '900M'", node(), (), 900, 900),
        ("node.max_old_space_size = 'none'", node(), (), None, None),
        ("", node(user_options="--max_old_space_size=99"), (), None, None),
        ("node.max_old_space_size = '300M'", node(user_options="--max_old_space_size=99"), (), 300, 824),
        ("node.telemetry = false", replace(NATIVE, node=NODE), (), 819, 824),
        ("memory.hard = '10M'", replace(NATIVE, node=NODE), (), 64, 64),
    ],
)
def test_a_node_agent_starts_with_what_its_node_takes(
    lines: str, found: AgentSurvey, options: tuple[str, ...], heap: int | None, ceiling: int | None
) -> None:
    hard = "" if "memory.hard" in lines else "memory.hard = '1GiB'\n"
    start = planned(agents(f"a\n{hard}{lines}"), found=found).steps[0].node
    assert start is not None
    assert start.options == options
    assert [size and size // MIB for size in (start.heap, start.heap_ceiling)] == [heap, ceiling]


@pytest.mark.parametrize(
    ("lines", "found", "note"),
    [
        (
            "node.telemetry = false",
            node(node=OLD_NODE),
            "a: Node v20.10.0 does not accept --expose-gc in NODE_OPTIONS",
        ),
        ("node = { telemetry = false, heap_snapshot = true }", node(), "a: node.heap_snapshot has no effect"),
        ("node.telemetry = false\ngc.mode = 'between'", node(), 'a: gc.mode = "between" has no effect: node.telemetry'),
        ("memory.warn = 'none'\ngc.mode = 'aggressive'", node(), 'a: gc.mode = "aggressive" works as "between"'),
        ("", node(user_options="--trace-gc"), "refuses it and exits with 9"),
        ("", node(user_options="--max-old-space-size=9"), "which is kept"),
        ("node.max_old_space_size = '300M'", node(user_options="--max-old-space-size=9"), "of the profile replaces it"),
        ("command = ['node', '--max-old-space-size=9', 'x']", node(), "the command sets --max-old-space-size itself"),
        ("node.max_old_space_size = '950M'", node(), "auto is 819 MiB"),
        ("for_each = ['x']", node(), "{item} is not used"),
    ],
)
def test_plan_has_notes_that_a_user_needs(lines: str, found: AgentSurvey, note: str) -> None:
    notes = planned(agents(f"a\nmemory.hard = '1GiB'\n{lines}"), found=found).notes
    assert any(note in each for each in notes), notes


def test_summaries_that_may_be_too_long_for_a_command_are_reported_before_they_exist() -> None:
    def noted(copies: int, key: str) -> bool:
        sums = f"sum\nneeds = ['x']\n{key}"
        text = agents(f"x\ncommand = ['x', '{{item}}']\nfor_each = {[str(n) for n in range(copies)]}", sums)
        note = (
            f"sum: {{summary:x}} of {copies} agents may be longer than the 128 KiB that an argument can have: use stdin"
        )
        return note in planned(text).notes

    assert noted(32, "command = ['x', 'All of it: {summary:x}']")
    assert noted(32, "env.ALL = '{summary:x}'")
    assert not noted(31, "command = ['x', '{summary:x}']")
    assert not noted(32, "stdin = '{summary:x}'")


def test_note_that_applies_to_many_agents_is_given_once() -> None:
    found = node(user_options="--max-old-space-size=9")
    notes = planned(agents("a", "b", "c", "d", "e"), found=found).notes
    assert [note for note in notes if "NODE_OPTIONS" in note] == [
        "a, b, c and 2 more: your NODE_OPTIONS sets --max-old-space-size, which is kept;"
        " node.max_old_space_size = SIZE would replace it"
    ]


# On this machine


def profile_file(folder: Path, text: str) -> str:
    file = folder / "p.toml"
    file.write_text(text)
    return str(file)


def refusal(folder: Path, text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        load(profile_file(folder, text))
    return [
        f"{complaint.line} {complaint.key}: {complaint.message}" + (f" ({complaint.hint})" if complaint.hint else "")
        for complaint in caught.value.complaints
    ]


def test_all_that_the_machine_lacks_is_reported_at_once_with_lines(tmp_path: Path) -> None:
    (tmp_path / "hook.sh").write_text("#!/bin/sh\n")
    text = (
        "[hooks]\nafter_run = ['./hook.sh', 'no-such-hook', '-c']\n"
        + agents("a\ncommand = ['no-such-program']", "b\ncwd = 'nowhere'\ncommand = ['sh']")
        + agents("c\ncommand = ['sh']\nstdin_file = 'nothing'", "d\ncommand = ['sh']\nfor_each.lines = 'gone'")
    )
    assert refusal(tmp_path, text) == [
        f"2 hooks.after_run[0]: {tmp_path}/hook.sh is not executable; fix it with: chmod +x {tmp_path}/hook.sh",
        "2 hooks.after_run[1]: no program no-such-hook on PATH: install it, or give its path",
        "2 hooks.after_run[2]: '-c' would be a hook of its own: write arguments in the hook's line, as in"
        ' ["notify --quiet"]',
        "5 agents[0].command[0]: no program no-such-program on PATH: install it, or give its path",
        f"8 agents[1].cwd: folder {tmp_path}/nowhere does not exist",
        f"13 agents[2].stdin_file: file {tmp_path}/nothing does not exist",
        f"17 agents[3].for_each.lines: file {tmp_path}/gone does not exist",
    ]


def test_unreadable_path_is_reported_with_its_key_as_well(tmp_path: Path) -> None:
    long = "n" * 300
    text = f"[hooks]\nafter_run = ['{long}']\n[metrics]\ntextfile = '{long}'\n" + agents(
        f"a\ncommand = ['./{long}']", f"b\ncommand = ['{long}']", f"c\ncommand = ['sh']\ncwd = '{long}'",
        f"d\ncommand = ['sh']\nstdin_file = '{long}'", f"e\ncommand = ['sh']\nfor_each.lines = '{long}'",
    )  # fmt: skip
    keys = ["hooks.after_run[0]", *(f"agents[{n}].command[0]" for n in (0, 1))]
    keys += ["agents[2].cwd", "agents[3].stdin_file", "agents[4].for_each.lines"]
    told = refusal(tmp_path, text)
    assert [one.split()[1] for one in told] == [f"{key}:" for key in keys]
    assert all(one.endswith("File name too long") for one in told)


@pytest.mark.parametrize(
    ("command", "hint"),
    [('["nosuch | tee", "x y"]', """no shell runs this: write ["sh", "-c", "nosuch | tee 'x y'"]"""),
     ('["nosuch 3", "x y"]', 'write each word as its own item: ["nosuch", "3", "x y"]'),
     ('["nosuch", "x y"]', "")],
)  # fmt: skip
def test_missing_program_is_marked_and_its_hint_keeps_every_word(tmp_path: Path, command: str, hint: str) -> None:
    path = profile_file(tmp_path, f"[[agents]]\nname = 'a'\ncommand = {command}\n")
    with pytest.raises(ProfileError) as caught:
        load(path)
    [complaint] = caught.value.complaints
    assert (complaint.hint, complaint.column) == (hint, 12)
    assert complaint.source[11:][: complaint.length] == command[1:].split(", ")[0]


def test_lines_that_are_not_utf8_are_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "items").write_bytes(b"a\n\xff\n")
    text = agents("a\ncommand = ['echo', '{item}']\nfor_each.lines = 'items'")
    [told] = refusal(tmp_path, text)
    assert f"agents[0].for_each.lines: {tmp_path}/items:2: not UTF-8" in told


def test_command_line_in_one_word_is_reported_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("#!/bin/sh\n")
    (tmp_path / "a.sh").chmod(0o755)
    text = agents("a\ncommand = ['sh -c true']", "b\ncommand = ['./a.sh -x']", "c\ncommand = ['./b.sh -x']")
    assert refusal(tmp_path, text) == [
        '3 agents[0].command[0]: no program sh -c true on PATH (write each word as its own item: ["sh", "-c", "true"])',
        f'6 agents[1].command[0]: there is no {tmp_path}/a.sh -x (write each word as its own item: ["./a.sh", "-x"])',
        f"9 agents[2].command[0]: there is no {tmp_path}/b.sh -x",
    ]


def test_a_success_command_is_looked_for_before_an_hour_is_spent(tmp_path: Path) -> None:
    missing = agents("a\ncommand = ['sh']\nsuccess.command = ['no-such-program']")
    assert refusal(tmp_path, missing) == [
        "4 agents[0].success.command[0]: no program no-such-program on PATH: install it, or give its path"
    ]
    later = agents("a\ncommand = ['sh']\nsuccess.command = ['./made-by-the-agent']")
    assert names(load(profile_file(tmp_path, later))) == ["a"]


def test_what_is_to_end_the_rounds_must_be_a_program_if_it_exists(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    no_programs = agents(
        "a\ncommand = ['sh']\nrepeat.until = ['./notes.txt']", f"b\ncommand = ['sh']\nrepeat.until = ['{tmp_path}']",
        "c\ncommand = ['sh']\nrepeat.until = ['./made-by-the-agent']",
    )  # fmt: skip
    assert refusal(tmp_path, no_programs) == [
        f"4 agents[0].repeat.until[0]: {tmp_path}/notes.txt is not executable; fix it with: chmod +x"
        f" {tmp_path}/notes.txt",
        f"8 agents[1].repeat.until[0]: {tmp_path} is a folder",
    ]


def test_prompt_that_is_too_long_with_its_option_is_reported_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copilot").write_text("#!/bin/sh\n")
    (tmp_path / "copilot").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fits = "x" * (131_071 - len("--prompt="))
    head = "[[agents]]\nname = 'a'\npreset = 'copilot'\n"
    load(profile_file(tmp_path, f"{head}prompt = '{fits}'"))
    [told] = refusal(tmp_path, f"{head}prompt = '{fits}x'")
    assert told.startswith("4 agents[0].prompt: an argument of 131072 bytes or more")
    assert told.endswith("put the text into a file, and name the file in the prompt")


def test_argument_that_no_command_accepts_is_reported_before_the_run(tmp_path: Path) -> None:
    room = "x" * 131_061
    text = agents(
        f"a\ncommand = ['echo', '{room}{{task}}']", f"b\ncommand = ['echo']\nenv.A = '{room[2:]}{{task}}'",
        f"c\ncommand = ['sh']\nsuccess.command = ['echo', '{room}{{task}}']",
    )  # fmt: skip
    file = profile_file(tmp_path, text)
    load(file, Choice(task="0123456789"))
    with pytest.raises(ProfileError) as caught:
        load(file, Choice(task="0123456789a"))
    why = "an argument of 131072 bytes or more: Linux allows less than 128 KiB; use stdin or a file"
    assert [(complaint.line, complaint.key) for complaint in caught.value.complaints] == [
        (3, "agents[0].command[1]"), (7, "agents[1].env.A"), (11, "agents[2].success.command[1]"),
    ]  # fmt: skip
    assert {complaint.message for complaint in caught.value.complaints} == {why}


def test_unreadable_file_and_missing_home_are_reported_with_their_keys(tmp_path: Path) -> None:
    unreadable = "/proc/self/mem"  # a regular file whose first byte cannot be read
    text = "[run]\nstate_dir = '~no-such-user/x'\nmode = 'x'\n" + agents(
        f"a\ncommand = ['sh']\nstdin_file = '{unreadable}'",
        f"b\ncommand = ['sh']\nfor_each.lines = '{unreadable}'",
    )
    told = refusal(tmp_path, text)
    assert [one.split(":")[0] for one in told] == [
        "2 run.state_dir", "3 run.mode", "7 agents[0].stdin_file", "11 agents[1].for_each.lines",
    ]  # fmt: skip
    assert all(one.endswith("cannot be read: Input/output error") for one in told[2:])
    assert [one.split(":")[0] for one in refusal(tmp_path, text.replace("mode = 'x'", ""))] == [
        "2 run.state_dir", "7 agents[0].stdin_file", "11 agents[1].for_each.lines",
    ]  # fmt: skip


def test_missing_file_extension_is_reported_with_the_file(tmp_path: Path) -> None:
    profile_file(tmp_path, "")
    with pytest.raises(ProfileError, match=rf"No such file or directory \(did you mean {tmp_path}/p\.toml\?\)"):
        load(str(tmp_path / "p"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"name = '\xff'", ":1: not UTF-8"), (b"\x00", ":1: not TOML")],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "p.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ProfileError) as caught:
        load(str(file))
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_globs_and_lines_become_copies_in_a_steady_order(tmp_path: Path) -> None:
    for name in ("src/b.ts", "src/deep/a.ts", "src/c.js", "prompts/two.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "todo").write_text("\ufefffirst\n\n  second  \r\n")
    text = agents(
        "g\ncommand = ['sh', '{item}']\nfor_each = { glob = 'src/**/*.ts' }",
        "l\ncommand = ['sh', '{item}']\nfor_each = { lines = 'todo' }",
        "p\ncommand = ['sh']\nstdin_file = '{item}'\nfor_each = { glob = 'prompts/*' }",
    )
    plan = load(profile_file(tmp_path, text))
    assert [step.command[1:] for step in plan.steps[:4]] == [("src/b.ts",), ("src/deep/a.ts",), ("first",), ("second",)]
    assert plan.steps[4].stdin_file == str(tmp_path / "prompts/two.md")
    before = plan.steps[4].content
    (tmp_path / "prompts/two.md").write_text("changed")
    assert load(profile_file(tmp_path, text)).steps[4].content != before


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.md")).write_text("")
    text = agents("a\ncommand = ['sh', '{item}']\nfor_each = { glob = '*.md' }")
    assert ["not UTF-8" in line for line in refusal(tmp_path, text)] == [True]
    with pytest.raises(ProfileError, match="not UTF-8"):
        for_command(["sh", os.fsdecode(b"\xff")])


def test_an_input_that_an_earlier_agent_may_write_can_be_missing_still(tmp_path: Path) -> None:
    text = agents("a\ncommand = ['sh']", "b\ncommand = ['sh']\nneeds = ['a']\nstdin_file = 'later.md'")
    assert names(load(profile_file(tmp_path, text))) == ["a", "b"]


def test_a_profile_has_one_path_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    profile_file(tmp_path, agents("a\ncommand = ['sh']"))
    plan = load("../p.toml")
    assert (plan.profile, plan.steps[0].cwd) == (str(tmp_path / "p.toml"), str(tmp_path))


def test_a_program_is_found_where_the_agent_runs_and_on_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    text = agents("a\ncommand = ['./tool']\ncwd = 'bin'", f"b\ncommand = ['tool']\nenv.PATH = '{tmp_path}/bin'")
    assert [step.runtime for step in load(profile_file(tmp_path, text)).steps] == ["native", "native"]


def test_single_command_is_planned_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", "{task} {{ {}"]
    plan = for_command(command, soft="100M", hard="200M", retries=2, timeout="5m", name="mine")
    [step] = plan.steps
    assert [finish(word) for word in step.command] == command
    assert (plan.name, plan.profile, step.name, step.cwd) == ("mine", None, "mine", str(tmp_path))
    assert (step.limits.soft, step.limits.hard) == (100 * MIB, 200 * MIB)
    assert (step.retry.attempts, step.timeouts.wall) == (3, 300)
    assert for_command(["/bin/sh"]).name == "sh"


def test_wrong_options_of_one_command_are_named_without_a_file() -> None:
    with pytest.raises(ProfileError) as caught:
        for_command(["no-such-program"], soft="2GiB", hard="1GiB")
    assert str(caught.value).startswith("--soft: soft (2 GiB) is above hard (1 GiB)")


def test_the_state_folder_is_the_profiles_or_the_environments_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = parse('[run]\nstate_dir = "../state"\n' + agents("a"), str(tmp_path / "sub/p.toml"))
    for variable in ("SEQSUP_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir_of(profile) == tmp_path / "state"
    assert state_dir() == tmp_path / ".local/state/seqsup"
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert state_dir() == Path("/xdg/seqsup")
    monkeypatch.setenv("SEQSUP_STATE_DIR", "/own")
    assert state_dir() == Path("/own")
    assert state_dir_of(profile) == tmp_path / "state"


# The commands


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(plan_command, arguments)


@pytest.fixture
def small(tmp_path: Path) -> str:
    text = agents(
        'first\ncommand = ["sh", "-c", "echo {task}\\u001b[2J"]\nenv.TOKEN = "hush-hush"',
        'second\ncommand = ["sh", "{summary:first}"]\nneeds = ["first"]\nwhen = ["button"]',
    )
    return profile_file(tmp_path, text)


def test_the_text_says_what_will_happen_on_lines_that_fit(small: str) -> None:
    shown = invoked(small, "-v", "--task", "paint the wall " * 60).output
    for expected in (
        "execution_mode",
        "sequential",
        "containment",
        "TOKEN",
        "1 h",
        "second: the task contains none of",
    ):
        assert expected in shown
    assert "hush" not in shown
    assert "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines() if "/" not in line and "paint" not in line) <= 100
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_long_task_takes_one_line_of_the_brief_plan(small: str) -> None:
    shown = invoked(small, "--task", "paint the wall " * 60).output
    assert [line for line in shown.splitlines() if "paint" in line] == [
        f"  task {cut('paint the wall ' * 60, 70).rstrip()}"
    ]
    assert "hush" not in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_value_that_most_agents_have_is_shown_once(tmp_path: Path) -> None:
    one = 'memory.hard = "1GiB"\ndrain.available = "none"\nneeds = ["a"]'
    texts = [
        f'{name}\ncommand = ["sh"]\n{rest}'
        for name, rest in zip("abcd", ("", "", one, "retry.attempts = 1"), strict=True)
    ]
    shown = invoked(profile_file(tmp_path, agents(*texts)), "-v").output
    common, own = shown.split("1. a\n")
    assert "all agents (exceptions are shown with the agent)" in common
    assert [own.count(f"   {fact} ") for fact in ("memory", "retried", "drained", "needs", "grace")] == [1, 1, 1, 1, 0]
    assert "hard 1 GiB" in own
    assert "owned within 30 s" in own


def test_the_object_has_numbers_and_no_values_of_the_environment(small: str) -> None:
    result = invoked(small, "--json", "--task", "a button")
    told = json.loads(result.output)
    kept = told["containment"]
    assert kept["tier"] in TIERS
    assert bool(kept["remedy"]) == (kept["tier"] not in LIMITING)
    assert (told["schema"], told["execution_mode"]) == ("seqsup.plan/1", "sequential")
    first, second = told["steps"]
    assert (first["env"], first["timeouts"]["wall"], first["limits"]["soft"]) == (["TOKEN"], 3600, 6 * GIB)
    assert (second["command"], second["needs"]) == (["sh", "{summary:first}"], ["first"])
    assert "hush" not in result.output


def test_a_wrong_profile_is_a_message_and_never_a_traceback(tmp_path: Path) -> None:
    result = invoked(profile_file(tmp_path, "nope = 1\n"))
    assert isinstance(result.exception, SeqsupError)
    assert result.exception.exit_code == 2


@needs_node
def test_the_options_of_a_real_node_are_shown_as_they_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    file = profile_file(tmp_path, agents("a\ncommand = ['node', 'x.js']\nmemory.hard = '1GiB'"))
    [step] = json.loads(invoked(file, "--json").output)["steps"]
    assert step["runtime"] == "node"
    assert step["node"]["node_options"] == f"--require {preload()} --max-old-space-size=819 --no-warnings"
    assert step["node"]["environment"] == {
        "NODE_OPTIONS": step["node"]["node_options"], "MALLOC_TRIM_THRESHOLD_": "131072", "SEQSUP_EXPOSE_GC": "1",
        "SEQSUP_CHANNEL": "{attempt}/channel", "SEQSUP_REPORTS": "{attempt}/reports",
        "PATH": "{attempt}/.seqsup-node:$PATH",
    }  # fmt: skip
    shown = " ".join(invoked(file, "-v").output.split())  # where a line ends depends on how long our own path is
    assert "--max-old-space-size=819 --no-warnings" in shown
    assert "SEQSUP_CHANNEL={attempt}/channel" in shown


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(CliRunner().invoke(schema_command).output)["required"] == ["agents"]


def test_mistakes_and_missing_abilities_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "hook.sh").write_text("#!/bin/sh\n")
    profile = tmp_path / "p.toml"
    profile.write_text(
        '[memory]\nhrad = "1GiB"\n[hooks]\nafter_agent = ["./hook.sh"]\n'
        '[[agents]]\nname = "a"\ncommand = ["no-such-program"]\nneeds = ["b"]\n'
        '[[agents]]\nname = "a"\ncommand = []\n'
        '[[agents]]\nname = "c"\ncommand = ["sh"]\ncwd = "nowhere"\nretry = { on = ["hrad"] }\n'
        '[[agents]]\nname = "d"\ncommand = ["no-other-program"]\nruntime = "deno"\nstdin_file = 1\n'
    )
    with pytest.raises(ProfileError) as raised:
        load(str(profile))
    assert [(complaint.line, complaint.key) for complaint in raised.value.complaints] == [
        (2, "memory.hrad"),
        (4, "hooks.after_agent[0]"),
        (7, "agents[0].command[0]"),
        (8, "agents[0].needs[0]"),
        (10, "agents[1].name"),
        (11, "agents[1].command"),
        (15, "agents[2].cwd"),
        (16, "agents[2].retry.on[0]"),
        (19, "agents[3].command[0]"),
        (20, "agents[3].runtime"),
        (21, "agents[3].stdin_file"),
    ]


def test_mistakes_in_one_line_are_reported_in_their_order(tmp_path: Path) -> None:
    keys = [f"{letter}rong" for letter in "hgfedcba"]
    profile = tmp_path / "p.toml"
    profile.write_text(
        f"run = {{ {', '.join(f'{key} = 1' for key in keys)} }}\n[[agents]]\nname = 'a'\ncommand = ['sh']\n"
    )
    with pytest.raises(ProfileError) as raised:
        load(str(profile))
    assert [complaint.key for complaint in raised.value.complaints] == [f"run.{key}" for key in keys]
