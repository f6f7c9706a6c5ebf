"""Profiles: every complaint with its line, inheritance, the schema."""

import tomllib
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from helpers.paths import ROOT
from seqsup.model.enums import RetryHow
from seqsup.model.profile import LISTEN, Profile
from seqsup.model.reason import Reason
from seqsup.plan.objections import with_objections
from seqsup.plan.survey import gather
from seqsup.profile import limits as sizes
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.profile.fields import build, keys
from seqsup.profile.lines import locate, nearest_place
from seqsup.profile.parse import from_command, from_tables, parse
from seqsup.profile.placeholders import escape_foreign, finish, quote
from seqsup.profile.schema import schema
from seqsup.text import columns
from seqsup.units import (
    GIB,
    MIB,
)

EXAMPLE = (ROOT / "tests/data/profile.toml").read_text()
AGENT = '[[agents]]\nname = "a"\ncommand = ["true"]\n'
PROMPT = '[[agents]]\nname = "a"\npreset = "claude"\nprompt = "Do it"\n'


def complaints(text: str) -> list[Complaint]:
    with pytest.raises(ProfileError) as caught:
        parse(text, "p.toml")
    return list(caught.value.complaints)


# What is read


def test_the_example_of_the_contract_is_read_with_all_its_units_ended() -> None:
    profile = parse(EXAMPLE, "p.toml")
    first, second = profile.agents
    assert (profile.memory.warn, profile.memory.hard, profile.run.keep) == (4 * GIB, 8 * GIB, 604800)
    assert (profile.timeouts.wall, profile.timeouts.stall, profile.timeouts.grace) == (3600, "auto", 10)
    assert profile.retry.on[:3] == (Reason.HARD, Reason.SOFT, Reason.HEAP_OOM)
    assert profile.companions[0].memory.hard == GIB
    assert (first.memory.soft, first.memory.hard, first.env) == (3 * GIB // 2, 2 * GIB, {"LOG_LEVEL": "info"})
    assert second.for_each is not None
    assert second.for_each.items == ("src/a.ts", "src/b.ts")


def test_the_smallest_profile_has_the_defaults_of_the_contract() -> None:
    """The example spells each default, but for the values that show what can be written."""
    small, example = parse(AGENT, "small.toml"), parse(EXAMPLE, "p.toml")
    assert small.name == "small"
    for table in ("run", "node", "timeouts", "retry"):
        assert getattr(small, table) == getattr(example, table), table
    assert replace(small.metrics, listen=LISTEN) == example.metrics
    assert sizes.resolve(small.memory) == sizes.resolve(example.memory)
    assert sizes.resolve_drain(small.drain) == sizes.resolve_drain(example.drain)


def test_an_agents_table_overrides_the_top_level_key_by_key() -> None:
    profile = parse(f'[timeouts]\nwall = "2h"\ngrace = "1s"\n{AGENT}timeouts.grace = "4s"\n', "p.toml")
    assert (profile.agents[0].timeouts.wall, profile.agents[0].timeouts.grace) == (7200, 4)


@pytest.mark.parametrize(
    ("top", "own", "applied"),
    [
        ("", 'hard = "1GiB"', (512, 768, 1024)),
        ("", 'soft = "900M"\nmemory.hard = "1GiB"', (600, 900, 1024)),
        ("", 'soft = "none"', (4096, None, 8192)),
        ("", 'hard = "none"', (None, None, None)),
        ('soft = "6GiB"\nwarn = "4GiB"', 'hard = "1GiB"', (512, 768, 1024)),
        ('warn = "4GiB"', 'soft = "1536M"\nmemory.hard = "2GiB"', (1024, 1536, 2048)),
        ('warn = "100M"', 'hard = "1GiB"', (100, 768, 1024)),
    ],
)
def test_limits_left_open_follow_those_that_are_set(top: str, own: str, applied: tuple[int | None, ...]) -> None:
    profile = parse(f"[memory]\n{top}\n{AGENT}memory.{own}\n", "p.toml")
    limits = sizes.resolve(profile.agents[0].memory)
    assert tuple(size and size // MIB for size in (limits.warn, limits.soft, limits.hard)) == applied


@pytest.mark.parametrize(
    ("hard", "heap", "ceiling"),
    [(8192, 6553, 7992), (1024, 819, 824), (512, 312, 312), (256, 64, 64), (64, 64, 64)],
)
def test_the_heap_leaves_room_for_what_lies_outside_it(hard: int, heap: int, ceiling: int) -> None:
    profile = parse(AGENT, "p.toml")
    found = sizes.heap(profile.node, hard * MIB)
    assert tuple(size and size // MIB for size in found) == (heap, ceiling)


# What is wrong


WRONG = [
    (AGENT + 'stdin = "{summary}"', "agents[0].stdin", "did you mean {summary:AGENT}? write {{summary} if"),
    (AGENT + 'stdin = "{TASK}"', "agents[0].stdin", "did you mean {task}?"),
    (AGENT + 'stdin = "{sumary:b}"', "agents[0].stdin", "did you mean {summary:b}?"),
    (
        AGENT + 'stdin = "{taks} {word} ${itm} {itm}"',
        "agents[0].stdin",
        "unknown placeholders {taks}, {itm} (did you mean {task}, {item}? write {{taks}, {{itm} if the braces",
    ),
    ('[[agents]]\nname = "a"\ncommand = "claude -p hi"', "agents[0].command", 'command = ["claude", "-p", "hi"])'),
    ("[[agents]]\nname = 'a'\ncommand = \"grep 'a  b' x |\"", "agents[0].command", "\"grep 'a  b' x | COMMAND\"])"),
    ('[[agents]]\nname = "a"\ncommand = "ls | wc"', "agents[0].command", '(write command = ["sh", "-c", "ls | wc"])'),
    (AGENT + "stdin = '{summary:text}'", "agents[0].stdin", "no agent 'text' (write {{summary:text} if the braces"),
    (AGENT + 'stdin = "{item}"', "agents[0].stdin", "with for_each (write {{item} if the braces are text)"),
    (AGENT + 'stdin = "{{tasks}} {{{task}}}"', "agents[0].stdin", "placeholders {{tasks}}, {{{task}}} (did you"),
    (AGENT + 'stdin = "{{task}}"', "agents[0].stdin", "did you mean {task}? write {{{{task}} if the braces are text"),
    (
        AGENT + 'stdin = "{ task } {{ summary:b }} {item }"',
        "agents[0].stdin",
        "unknown placeholders { task }, {{ summary:b }}, {item } (did you mean {task}, {summary:b}, {item}? write"
        " {{ task }, {{{{ summary:b }}, {{item } if the braces are text)",
    ),
    (AGENT + 'when = ["x", "//"]', "agents[0].when[1]", "an empty regular expression (write"),
    (AGENT + 'when = ["//i"]', "agents[0].when[0]", "an empty regular expression (write"),
    (AGENT + 'when = [" / "]', "agents[0].when[0]", "a single slash (write"),
    (AGENT + 'when = ["/api/gu"]', "agents[0].when[0]", 'unknown flags gu (write "/api/", which matches in any'),
    (AGENT + "drain.allow = ['']", "agents[0].drain.allow[0]", "keeps every process (write a part"),
    ('drain.allow = ["x", " "]\n' + AGENT, "drain.allow[1]", "keeps every process (write a part"),
    (AGENT + "drain.allow = ['*?*']", "agents[0].drain.allow[0]", "keeps every process (write a part"),
    (AGENT + "drain.allow = ['[']", "agents[0].drain.allow[0]", "'[' has a [ without its ] (write '[[]' for"),
    (AGENT + "drain.allow = ['a[b]c[!]']", "agents[0].drain.allow[0]", "without its ] (write 'a[b]c[[]!]' for"),
    ('[[agents]]\nname = "a"\ncommand = ["|", "x"]', "agents[0].command[0]", '(write ["sh", "-c", "COMMAND | x"])'),
    ('[[agents]]\nname = "a"\ncommand = ["x", ">"]', "agents[0].command[1]", '(write ["sh", "-c", "x > FILE"])'),
    (AGENT + 'for_each = ["x", " "]', "agents[0].for_each[1]", "a blank item"),
    (AGENT + 'for_each = { items = [""] }', "agents[0].for_each.items[0]", "a blank item"),
    ("[run]\nkeep = 7\n" + AGENT, "run.keep", '7 has no unit (write "7d")'),
    ('[run]\nkeep = "30"\n' + AGENT, "run.keep", '30 has no unit (write "30d")'),
    (
        AGENT + "timeouts.wall = 90000",
        "agents[0].timeouts.wall",
        '90000 looks like milliseconds (write "90s", or "25h" if it is seconds)',
    ),
    (AGENT + 'retry.wait = "1000"', "agents[0].retry.wait", 'looks like milliseconds (write "1s", or "1000s"'),
    (AGENT + 'needs = "b"', "agents[0].needs", '(write needs = ["b"])'),
    (
        AGENT + 'success.command = ["test", "-e", "x", "&&", "true"]\nhard_limit = 1',
        "agents[0].hard_limit",
        "unknown key (did you mean memory.hard?)",
    ),
    (
        AGENT + 'success.command = ["grep", "x", "y", "&&", "true"]',
        "agents[0].success.command[3]",
        '(write ["sh", "-c", "grep x y && true"])',
    ),
    ("[hooks]\nafter_run = [\"a 'b c' && d\"]\n" + AGENT, "hooks.after_run[0]", "(write \"sh -c 'a "),
    (AGENT + "for_each = []", "agents[0].for_each", "no items (list some, or set glob or lines; for_each.allow_empty"),
    ('[[agents]]\nname = "a"', "agents[0].command", "missing: set command or prompt"),
    (AGENT + 'prompt = "x"\npreset = "claude"', "agents[0].prompt", "set command or prompt, not both"),
    (
        PROMPT.replace("claude", "none"),
        "agents[0].preset",
        "a prompt needs the CLI that gets it (set",
    ),
    ('[[agents]]\nname = "a"\nprompt = "x"', "agents[0].preset", "a prompt needs the CLI that gets it (set preset"),
    (PROMPT.replace("claude", "node"), "agents[0].preset", "node takes no prompt (set command in place of prompt, or"),
    (PROMPT.replace("claude", "cluade"), "agents[0].preset", "no preset 'cluade' (did you mean claude?)"),
    (PROMPT.replace("Do it", " "), "agents[0].prompt", "empty; write what the agent shall do"),
    ('[[agents]]\nname = "a"\nprompt = 3', "agents[0].prompt", "expected text in quotes"),
    (PROMPT + 'model = ""', "agents[0].model", "empty; write a model's name"),
    (PROMPT + 'args = "-c x"', "agents[0].args", '(write args = ["-c x"])'),
    (AGENT + 'args = ["x"]', "agents[0].args", "goes with a prompt only (write it into command)"),
    (AGENT + 'model = "x"', "agents[0].model", "goes with a prompt only (write it into command)"),
    (PROMPT + 'cwd = "{summary:a}"', "agents[0].cwd", "use it in command, prompt, args, env or stdin"),
    ("", "agents", "missing"),
    ("agents = []", "agents", "no agents"),
    ("agents = 3", "agents", "expected tables, each with the heading [[agents]], not 3"),
    ('[agents]\nname = "a"', "agents", "expected tables, each with the heading [[agents]], not a table"),
    ("agents = [3]", "agents[0]", "expected a table, not 3"),
    ("[[agents]]", "agents[0].name", "missing"),
    (AGENT + "memori = {}", "agents[0].memori", "did you mean memory"),
    (AGENT + 'comand = "x"', "agents[0].comand", "did you mean command?"),
    ('[[agents]]\nname = "a"\ncommand = "true x"', "agents[0].command", "expected a list in brackets"),
    ('[[agents]]\nname = "a"\ncommand = []', "agents[0].command", "empty"),
    ('[[agents]]\nname = "a"\ncommand = ["a\\u0000"]', "agents[0].command[0]", "NUL"),
    ('[[agents]]\nname = "../a"\ncommand = ["x"]', "agents[0].name", "letters, digits"),
    ('[[agents]]\nname = ".a"\ncommand = ["x"]', "agents[0].name", "letters, digits"),
    (AGENT + AGENT, "agents[1].name", "another agent has the name a"),
    (AGENT + 'for_each = ["x"]\n' + AGENT.replace('"a"', '"a.1"'), "agents[1].name", "copy of a"),
    (AGENT + 'needs = ["b"]', "agents[0].needs[0]", "no agent 'b'"),
    (AGENT + 'needs = ["a"]', "agents[0].needs", "dependency cycle: a → a"),
    (AGENT + 'stdin = "{tsk}"', "agents[0].stdin", "unknown placeholder {tsk}"),
    (AGENT + 'stdin = "{item}"', "agents[0].stdin", "only in an agent with for_each"),
    (AGENT + 'stdin = "{summary}"', "agents[0].stdin", "unknown placeholder {summary}"),
    (AGENT + 'stdin = "{summary:b}"', "agents[0].stdin", "no agent 'b'"),
    (AGENT + 'stdin = "{summary:a}"', "agents[0].stdin", "that is the agent itself; its own folder is {artifacts}"),
    (AGENT + 'cwd = "{artifacts}"', "agents[0].cwd", "known only when the agent starts"),
    (AGENT + 'stdin = "x"\nstdin_file = "y"', "agents[0].stdin_file", "set stdin or stdin_file"),
    (AGENT + 'for_each = { glob = "*", lines = "x" }', "agents[0].for_each", "one of glob and lines"),
    (AGENT + "for_each = 3", "agents[0].for_each", "expected a list, or a table"),
    (AGENT + 'env = { "A=B" = "x" }', 'agents[0].env."A=B"', "not a variable name"),
    (AGENT + "env = { A = 3 }", "agents[0].env.A", "expected text in quotes"),
    (AGENT + 'success.output = "("', "agents[0].success.output", "not a regular expression"),
    (AGENT + "success.codes = [256]", "agents[0].success.codes[0]", "from 0 to 255"),
    (AGENT + "success.codes = []", "agents[0].success.codes", "no exit code would mean success"),
    (AGENT + 'expect = ["hrd"]', "agents[0].expect[0]", "did you mean hard?"),
    (AGENT + 'retry.on = ["completed"]', "agents[0].retry.on[0]", "expected one of"),
    (AGENT + 'retry.usage_limit = "wait"', "agents[0].retry.usage_limit", "unknown key (did you mean usage.on_limit?)"),
    ('[usage]\nwindow = "22-7"\n' + AGENT, "usage.window", "times of day such as \"22:00-07:00\", not '22-7'"),
    ('[usage]\nwindow = "24:00-07:00"\n' + AGENT, "usage.window", "times of day such as"),
    ('[usage]\nwindow = "07:00-7:00"\n' + AGENT, "usage.window", 'is empty (write "" for any time of day)'),
    ("[usage]\nwindow = 22\n" + AGENT, "usage.window", "times of day such as"),
    ("[budget]\nusd = 0\n" + AGENT, "budget.usd", 'must be above 0 ("none" turns it off)'),
    ("[budget]\nusd = -1.5\n" + AGENT, "budget.usd", 'must be above 0 ("none" turns it off)'),
    ("[budget]\nusd = nan\n" + AGENT, "budget.usd", "expected a number such as 2.5"),
    (AGENT + "budget.tokens = 0", "agents[0].budget.tokens", 'a whole number from 1, or "none", not 0'),
    (AGENT + 'budget.turns = "ten"', "agents[0].budget.turns", "a whole number from 1"),
    (
        PROMPT.replace("claude", "codex") + "budget.usd = 1",
        "agents[0].budget.usd",
        "codex reports no cost (use budg",
    ),
    (PROMPT.replace("claude", "copilot") + "budget.tokens = 1", "agents[0].budget.tokens", "(use budget.turns)"),
    (
        PROMPT + 'args = ["--output-format=text"]\nbudget.tokens = 1',
        "agents[0].budget.tokens",
        "claude reports its tokens in the JSON stream only (take the option for another output out of args)",
    ),
    (
        "run.budget.usd = 5\n" + PROMPT.replace("claude", "codex"),
        "run.budget.usd",
        "a: codex reports no cost (use",
    ),
    (AGENT + 'timeouts.stall = "Auto"', "agents[0].timeouts.stall", "write \"auto\", not 'Auto'"),
    (AGENT + "usage.stop_at = 80", "agents[0].usage.stop_at", 'a share such as "80%", or "none", not 80'),
    (AGENT + 'usage.stop_at = "101%"', "agents[0].usage.stop_at", 'a share such as "80%"'),
    (AGENT + 'usage.stop_at = "0%"', "agents[0].usage.stop_at", "must be above 0"),
    (AGENT + "usage.wait_at_most = 0", "agents[0].usage.wait_at_most", "must be above 0"),
    (AGENT + 'retry.wait = "2m"', "agents[0].retry.max_wait", "below retry.wait"),
    (AGENT + 'retry.how = "again"', "agents[0].retry.how", "'again'"),
    (AGENT + 'retry.how = "resume"', "agents[0].retry.how", "only an agent with a prompt has a conversation"),
    (
        PROMPT.replace("claude", "opencode") + 'args = ["--format", "default"]\nretry.how = "resume"',
        "agents[0].retry.how",
        "remove the option for another output from args",
    ),
    ('[retry]\nhow = "resume"\n' + AGENT, "retry.how", 'set prompt in place of command, or how = "auto"'),
    (PROMPT + 'args = ["--model=x", "--resume=1"]', "agents[0].args[1]", "seqsup sets --resume itself"),
    ("[memory]\nhard = 8\n" + AGENT, "memory.hard", "8 has no unit (write 8GiB or 8MiB)"),
    (AGENT + "memory.soft = 6", "agents[0].memory.soft", "6 has no unit (write 6GiB or 6MiB)"),
    (AGENT + "memory.warn = 1.5", "agents[0].memory.warn", "1.5 has no unit (write 1.5GiB or 1.5MiB)"),
    (AGENT + 'node.max_old_space_size = "4096"', "agents[0].node.max_old_space_size", "(write 4096MiB or 4096KiB)"),
    (AGENT + "drain.threshold = 999_999", "agents[0].drain.threshold", "999999 has no unit"),
    (AGENT + 'memory.soft = "6B"', "agents[0].memory.soft", "6 B is too little for any program"),
    (AGENT + 'memory.soft = "9GiB"', "agents[0].memory.soft", "soft (9 GiB) is above hard (8 GiB)"),
    (AGENT + 'memory.warn = "7GiB"', "agents[0].memory.warn", "warn (7 GiB) is above soft (6 GiB)"),
    (AGENT + 'memory.hard = "0"', "agents[0].memory.hard", '"none" turns it off'),
    (AGENT + 'memory.hard = "1Gx"', "agents[0].memory.hard", 'a size such as "512M"'),
    (AGENT + 'memory.hard = "None"', "agents[0].memory.hard", 'write "none"'),
    (AGENT + "rlimits.nofile = 4_000_000_000", "agents[0].rlimits.nofile", "must be at most 2147483648"),
    (AGENT + "rlimits.nofile = 3", "agents[0].rlimits.nofile", 'a whole number from 64, or "none"'),
    (AGENT + 'runtime = "node"\nmemory.hard = "63M"', "agents[0].memory.hard", "needs about 64 MiB"),
    (AGENT + 'runtime = "node"\nnode.max_old_space_size = "8G"', "agents[0].node.max_old_space_size", "not fit"),
    (AGENT + 'timeouts.wall = "soon"', "agents[0].timeouts.wall", 'a duration such as "250ms"'),
    (AGENT + "timeouts.grace = true", "agents[0].timeouts.grace", "a number of seconds, not true"),
    (AGENT + 'timeouts.grace = "none"', "agents[0].timeouts.grace", "expected a duration"),
    ('[rlimits]\ncore = "lots"\n' + AGENT, "rlimits.core", 'a size such as "512M"'),
    ("[run]\nconcurrency = 2\n" + AGENT, "run.concurrency", "one at a time"),
    ("[run]\nchain = 0\n" + AGENT, "run.chain", "from 1"),
    ('[run]\non_failure = "stopp"\n' + AGENT, "run.on_failure", "did you mean stop?"),
    ("[node]\nexpose_gc = 1\n" + AGENT, "node.expose_gc", "true or false"),
    ('[metrics]\nlisten = "9472"\n' + AGENT, "metrics.listen", "host:port"),
    ('name = "a/b"\n' + AGENT, "name", "letters, digits"),
    ("nope = 1979-05-27\n" + AGENT, "nope", "unknown key"),
    ('[[companions]]\nname = "x"\ncommand = []\n' + AGENT, "companions[0].command", "empty"),
    (
        '[[companions]]\nname = "x"\ncommand = ["x"]\nready = { port = 1, log = "x" }\n' + AGENT,
        "companions[0].ready",
        "set only one of",
    ),
]


@pytest.mark.parametrize(
    "given", ['env = "TOKEN=4711"', "env = { TOKEN = 4711 }", 'env = ["TOKEN=4711"]', "stdin = 4711"]
)
def test_a_secret_in_a_wrong_place_is_not_quoted(given: str) -> None:
    assert "4711" not in str(complaints(AGENT + given))


@pytest.mark.parametrize(("text", "key", "message"), WRONG, ids=[f"{key}-{n}" for n, (_, key, _) in enumerate(WRONG)])
def test_mistake_is_named_with_its_key(text: str, key: str, message: str) -> None:
    found = [complaint for complaint in complaints(text) if complaint.key == key]
    assert len(found) == 1, complaints(text)
    assert message in str(found[0])


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a = 1\nb = = 2\n", "p.toml:2:5: not TOML: "),
        ('a = 1\nb = "x', "p.toml:2:7: not TOML: "),
        ("a = 1\na = 2\n", "p.toml:2:1: not TOML: cannot overwrite a value (the key is there twice: remove one)"),
        ("a = " + "[" * 5000, "p.toml:1: "),
        ("a = " + "9" * 5000, "p.toml:1: a number of more than 4300 digits"),
    ],
)
def test_text_that_is_not_toml_is_named_with_its_line(text: str, start: str) -> None:
    [complaint] = complaints(text)
    assert str(complaint).startswith(start)


@pytest.mark.parametrize(
    "text", ["a." * 5000 + "a = 1", "[" + "a." * 5000 + "a]", "a = " + "{a = " * 200 + "1" + "}" * 200]
)
def test_keys_nested_beyond_reason_are_complained_of_like_any_other(text: str) -> None:
    assert complaints(f"{text}\n{AGENT}")[0].message.startswith(("unknown key", "nested too deeply"))


def test_comments_are_not_read_to_find_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake below a million of them was a minute's search."""
    read: list[str] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        read.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    assert ("agents", 0, "name") in locate("# x\n\n  # y\n" * 10 + AGENT)
    assert read == []


def test_all_complaints_come_at_once_in_the_order_of_the_text() -> None:
    text = 'nam = "x"\n[memory]\nsoft = "9GiB"\n' + AGENT + 'needs = ["b"]\n[drain]\nsweep = 2\n'
    assert [(complaint.line, complaint.key) for complaint in complaints(text)] == [
        (1, "nam"), (3, "memory.soft"), (7, "agents[0].needs[0]"), (9, "drain.sweep"),
    ]  # fmt: skip
    assert str(complaints(text)[0]) == "p.toml:1:1: nam: unknown key (did you mean name?)"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('name = 3\n[[companions]]\nname = 3\ncommand = ["x"]\n' + AGENT + 'needs = ["b"]', ["agents[0].needs[0]"]),
        ('[[agents]]\ncommand = ["x"]\n' + AGENT + AGENT, ["agents[2].name"]),
        (
            AGENT + "memory.softt = 1\n" + AGENT.replace('"a"', '"b"') + 'memory.soft = "9GiB"',
            ["agents[1].memory.soft"],
        ),
        (AGENT + 'needs = ["a"]\nstdin = "{summary:b}"', ["agents[0].needs", "agents[0].stdin"]),
    ],
)
def test_a_mistake_hides_none_that_does_not_follow_from_it(text: str, keys: list[str]) -> None:
    assert [complaint.key for complaint in complaints(text)][-len(keys) :] == keys


def test_dependency_cycle_hides_no_other() -> None:
    needs = {"a": "b", "b": "a", "c": "c", "d": "e", "e": "d", "f": "a"}
    text = "".join(f'[[agents]]\nname = "{a}"\ncommand = ["x"]\nneeds = ["{b}"]\n' for a, b in needs.items())
    assert [(complaint.key, complaint.message) for complaint in complaints(text)] == [
        ("agents[0].needs", "dependency cycle: a → b → a"),
        ("agents[2].needs", "dependency cycle: c → c"),
        ("agents[3].needs", "dependency cycle: d → e → d"),
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [('[notify]\nto = ["desktop"]\non = ["dnoe"]\n' + AGENT, "notify.on[0]"),
     ('[[agents]]\nname = "a"\ncommand = [3]', "agents[0].command[0]"),
     (AGENT + "success.codes = [300]", "agents[0].success.codes[0]")],
)  # fmt: skip
def test_list_that_only_a_mistake_empties_is_not_called_empty(text: str, key: str) -> None:
    assert [complaint.key for complaint in complaints(text)] == [key]


def test_consequence_of_a_mistake_is_not_reported() -> None:
    assert [complaint.key for complaint in complaints('agents = ["a"]')] == ["agents[0]"]


def test_a_wrong_key_at_the_top_level_is_complained_of_once_for_all_agents() -> None:
    text = '[memory]\nsoft = "9GiB"\n' + AGENT + AGENT.replace('"a"', '"b"')
    assert [complaint.key for complaint in complaints(text)] == ["memory.soft"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ('["cat", "x", "|", "wc", "-l"]', 'p.toml:3:24: agent a: command[2]: | is a word for a shell'),
        ('["echo", "a b", ">", "out"]', """(write ["sh", "-c", "echo 'a b' > out"])"""),
        ('["claude", "-p", "{task}", "|", "tee", "{summary:b}"]',
         '(write ["sh", "-c", "claude -p \\"$1\\" | tee \\"$2\\"", "sh", "{task}", "{summary:b}"])'),
        ('["ls", "*.ts", "~", "$HOME", "2>&1"]', '(write ["sh", "-c", "ls *.ts ~ $HOME 2>&1"])'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tail", ["", '[[agents]]\nname = "b"\ncommand = ["x"]\n'])
def test_command_meant_for_a_shell_is_refused_with_the_whole_line(command: str, told: str, tail: str) -> None:
    text = f'[[agents]]\nname = "a"\ncommand = {command}\nneeds = ["b"]\n[[agents]]\nname = "b"\ncommand = ["x"]\n'
    [complaint] = complaints(text)
    assert told in str(complaint)


@pytest.mark.parametrize(
    "command",
    [
        ["find", ".", "-exec", "rm", "{}", ";"], ["cut", "-d", "|", "-f1"], ["sort", "-t", ";"], ["tr", ";", ","],
        ["expr", "1", "<", "2"], ["sh", "-c", "x", "&&"], ["sh", "-c", "a | b > c"], ["claude", "-p", "a | b"],
        ["tmux", "new", ";", "split"],
    ],
)  # fmt: skip
def test_operator_that_is_the_programs_own_passes(command: list[str]) -> None:
    parse(f'[[agents]]\nname = "a"\ncommand = {command}\n[hooks]\nafter_run = ["grep \'|\' x", "sh -c \'a | b\'"]', "p")
    from_command(["cut", "|"], None, {})


EXCERPTS = [
    ("nmae = 1\n" + AGENT, 80, [
        "p.toml:1:1: nmae: unknown key", "  1 | nmae = 1", "    | ^^^^", "  hint: did you mean name?"]),
    ("[memory]\n\twarn =\t4 # é\n" + AGENT, 80, [
        "p.toml:2:9: memory.warn: 4 has no unit", "  2 |     warn =  4 # é", "    |             ^",
        "  hint: write 4GiB or 4MiB"]),
    ('[[agents]]\nname = "日本"\ncommand = ["true"]\n', 80, [
        "p.toml:2:8: agent 日本: name: '日本': a name is up to 64 ASCII letters, digits, '_',",
        "  '-' and '.', and begins with none of '-.'",
        '  2 | name = "日本"', "    |        ^^^^^^"]),
    (AGENT + 'for_each = ["x"]\ncwd = "日本\u202e/{taks}"\n', 80, [
        "p.toml:5:12: agent a: cwd: unknown placeholder {taks}",
        '  5 | cwd = "日本 /{taks}"', "    |              ^^^^^^",
        "  hint: did you mean {task}? write {{taks} if the braces are text"]),
    ("a = 1\nb = = 2\n", 80, None),
    ('x = "' + "y" * 200 + '"\nmemory = 3\n' + AGENT, 40, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "width", "lines"), EXCERPTS)
def test_mistake_is_shown_in_its_line_with_a_caret(text: str, width: int, lines: list[str] | None) -> None:
    error = refusal(lambda: parse(text, "p.toml"))
    assert error is not None
    told = error.lines(width)
    if lines is not None:
        assert told == lines
    assert all(columns(line) <= width for line in told[1:] if not line.startswith("  hint"))
    [caret, *_] = [line for line in told if line.endswith("^")]
    assert told[told.index(caret) - 1].startswith("  ")


@given(st.text(), st.integers(0, 60), st.integers(1, 60), st.integers(20, 120))
def test_excerpt_of_any_line_fits_and_marks_the_same_text(source: str, start: int, length: int, width: int) -> None:
    source = "".join(source.split("\n"))
    complaint = Complaint(file="p", line=7, column=start + 1, message="m", source=f"a{source}", length=length)
    _, line, caret = complaint.lines(width)
    assert line.isprintable()
    assert columns(line) <= max(width, 32)
    assert columns(caret) <= max(width, 32)
    assert "^" in caret


def test_line_with_a_secret_is_not_shown() -> None:
    for line in ('env = { API_KEY = "4711", B = 3 }', 'stdin = "4711 {taks}"', 'x = { token = "4711" }'):
        assert "4711" not in "\n".join(ProfileError(complaints(AGENT + line)).lines(80))
    for text in ('TOKEN = "4711', '[[agents]]\n[agents.env]\nAUTH = "4711', f"{AGENT}[agents.env]\nAUTH = 4711 x"):
        assert "4711" not in "\n".join(ProfileError(complaints(text)).lines(80))
    assert "4711" in "\n".join(
        ProfileError(complaints(f'{AGENT}[agents.env]\nA = "1"\n[[agents]]\nname = 4711 x')).lines(80)
    )


FOREIGN = (
    "{}", '{"a": {"b": 1}}', "a{2,3}", "{a: 1}", "{ x }", "${HOME}", "{{.Names}}", "{{ .X }}", "${{ github.x }}",
    "${{ task }}", "${task}", "{{x}}", "{{", '{summary:"S"}', "{task: 1}", "{task:1}", "{ task, item }", "{ items }",
    "{{range .Items}}{{.}}{{end}}", "const f = ({ summary, x }) => ({summary: f(x)})",
)  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN)
def test_braces_of_another_program_reach_it_unchanged(text: str) -> None:
    from_tables({"agents": [{"name": "a", "command": ["x", text]}]}, "p.toml")
    assert finish(escape_foreign(text)) == text


@pytest.mark.parametrize(
    ("written", "text"),
    [("{{task}", "{task}"), ("{{{{task}}", "{{task}}"), ("{{ task }", "{ task }"), ("{{item} {{{task}", "{item} {T"),
     ("{{summary:b}", "{summary:b}"), ("{{summary: b}", "{summary: b}"), ("{{itm}", "{itm}"), ("{x:{task}}", "{x:T}")],
)  # fmt: skip
def test_two_braces_before_a_placeholder_are_one(written: str, text: str) -> None:
    from_tables({"agents": [{"name": "a", "command": ["x", written]}]}, "p.toml")
    assert finish(escape_foreign(written), lambda *_: "T") == text


@given(st.lists(st.sampled_from(["{", "{{", "}", "$", " ", "task", "taks", "summary", ":", "b", "x"])).map("".join))
def test_quoted_text_reaches_the_agent_unchanged(text: str) -> None:
    assert finish(escape_foreign(quote(text)), lambda *_: "T") == text


def test_agents_run_after_what_they_need() -> None:
    text = "".join(
        f'[[agents]]\nname = "{n}"\ncommand = ["{{summary:{m}}}"]\nneeds = ["{m}"]\n'
        for n, m in [("a", "b"), ("b", "c")]
    )
    parse(text + '[[agents]]\nname = "c"\ncommand = ["x"]\n', "p.toml")


# Whatever is written


def refusal(read: Callable[[], Profile]) -> ProfileError | None:
    try:
        read()
    except ProfileError as error:
        return error
    return None


TOML_WORDS = [*EXAMPLE.splitlines(keepends=True), "[[agents]]\n", "[memory]\n", '"""', "'''", *"{}[]=#\n\\"]


@given(st.lists(st.sampled_from(TOML_WORDS) | st.text(max_size=8), max_size=30).map("".join))
def test_no_text_ends_in_anything_but_a_profile_or_complaints(text: str) -> None:
    if error := refusal(lambda: parse(text, "p.toml")):
        assert error.complaints
        assert all(1 <= (complaint.line or 0) <= text.count("\n") + 1 for complaint in error.complaints)


KEYS = st.sampled_from(sorted({*keys(Profile), *keys(type(parse(AGENT, "p").agents[0])), "hard", "soft", "on", "glob"}))
VALUES = st.recursive(
    st.none().map(lambda _: "none") | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["1GiB", "5m", "auto", "a", "{item}", "{summary:a}", "hard"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_no_value_ends_in_anything_but_a_profile_or_complaints(raw: dict[str, Any]) -> None:
    if error := refusal(lambda: from_tables(raw)):
        assert error.complaints


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=6), max_size=3), st.dictionaries(KEYS, VALUES, max_size=3))
def test_every_readable_profile_can_be_checked_against_the_machine(
    agents: list[dict[str, Any]], tables: dict[str, Any]
) -> None:
    error = refusal(lambda: from_tables({**tables, "agents": agents}))
    if error is not None and error.rest is not None:
        profile, unknown = error.rest.profile, error.rest.unknown_agents
        survey = gather(profile, folder="/", task="", environ={"PATH": "/bin"}, but=unknown)
        assert set(error.complaints) <= set(with_objections(error, error.rest, survey, "").complaints)


# Lines


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Valid TOML in which every key has a name of its own and all layouts are mixed."""
    counter = iter(range(10_000))
    values = st.sampled_from([
        '"x"', "'#'", "[1, 2]", '[\n  1, # "one"\n\n  "]",\n]', '"""a\nb = 1\n[x]\n"""', "'''\n[[y]]\n'''",
        '"""\\"""" # c', "[[1], [2]]", "1979-05-27", '"a\\"]"', '""',
    ])  # fmt: skip
    parts = []

    def key() -> str:
        name = f"k{next(counter)}_"
        return draw(st.sampled_from([name, f'"{name}"', f"'{name}'", f"{name}.k{next(counter)}_"]))

    def pairs(prefix: str) -> None:
        for _ in range(draw(st.integers(0, 3))):
            value = draw(values)
            if draw(st.booleans()):
                value = f"{{ {key()} = {value if chr(10) not in value else 1}, k{next(counter)}_ = 1 }}"
            if " # c" in value:
                value = value if value.startswith('"') else "1"
            parts.append(f"{prefix}{key()} = {value}\n" + draw(st.sampled_from(["", "\n", "# k = 1\n", "\r\n"])))

    pairs("")
    arrays = [f"k{next(counter)}_" for _ in range(2)]
    for _ in range(draw(st.integers(0, 5))):
        array = draw(st.sampled_from(arrays))
        opened = any(part.startswith(f"[[{array}]]") for part in parts)
        headers = [f"[[{array}]]", f"[ {key()} ]", f"[{key()}.k{next(counter)}_]"]
        if opened:
            headers += [f"[{array}.k{next(counter)}_]", f"[[ {array} . k{next(counter)}_ ]]"]
        parts.append(draw(st.sampled_from(headers)) + "\n")
        pairs(draw(st.sampled_from(["", "  ", "\t"])))
    return "".join(parts)


def paths(tree: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in inside for path in ((*at, key), *paths(value, (*at, key)))]


def inner(tree: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@given(documents())
def test_the_line_of_a_key_holds_that_key(text: str) -> None:
    found = locate(text)
    expected = paths(tomllib.loads(text))
    assert set(found) == set(expected)
    for path in expected:
        key, value = found[path]
        if isinstance(path[-1], str):
            assert text[key.start : key.end].strip("\"'") == path[-1]
        if value is not None:
            assert tomllib.loads(f"a = {text[value.start : value.end]}")["a"] == inner(tomllib.loads(text), path)


def test_a_line_is_found_through_comments_strings_and_agents_that_stand_apart() -> None:
    text = (
        '# [memory]\nname = """\n[x]\n"""\n[[agents]]\nname = "a"\ncommand = [\n  "x",\n  5,\n]\n'
        '[memory]\nhard = "1GiB"\n[[agents]]\nname = "b"\nmemory.hart = 1\n[agents.env]\nX = 1\n'
    )
    found = locate(text)

    def line(*at: str | int) -> int:
        return text.count("\n", 0, nearest_place(found, at).key.start) + 1

    assert line("agents", 0, "command") == 7
    assert line("memory", "hard") == 12
    assert line("agents", 1, "memory", "hart") == 15
    assert line("agents", 1, "env", "X") == 17
    assert line("agents", 0, "command", 1, "deeper") == 9
    assert line("run", "chain") == 1


# The schema


def schema_paths(tree: dict[str, Any], at: str = "") -> set[str]:
    found = set()
    for name, inner in tree.get("properties", {}).items():
        found |= {f"{at}{name}", *schema_paths(inner, f"{at}{name}.")}
    for option in (*tree.get("anyOf", ()), *([tree["items"]] if "items" in tree else [])):
        found |= schema_paths(option, at)
    return found


def test_every_key_of_the_contract_is_in_the_schema_and_valid_by_it() -> None:
    raw = tomllib.loads(EXAMPLE)
    jsonschema.Draft7Validator.check_schema(schema())
    jsonschema.Draft7Validator(schema()).validate(raw)
    written = {".".join(str(key) for key in path if isinstance(key, str)) for path in paths(raw)}
    assert written - {"agents.env.LOG_LEVEL"} <= schema_paths(schema())


def test_every_key_of_the_schema_is_described() -> None:
    def undescribed(tree: dict[str, Any]) -> list[str]:
        here = [name for name, inner in tree.get("properties", {}).items() if not inner.get("description")]
        options = [*tree.get("properties", {}).values(), *tree.get("anyOf", ()), tree.get("items", {})]
        return here + [name for option in options if option for name in undescribed(option)]

    assert undescribed(schema()) == []


def test_the_defaults_that_the_schema_tells_are_those_that_are_used() -> None:
    def told(tree: dict[str, Any]) -> dict[str, Any]:
        return {
            name: inner["default"] if "default" in inner else told(inner)
            for name, inner in tree["properties"].items()
            if "default" in inner or "properties" in inner
        }

    top = told({"properties": {n: s for n, s in schema()["properties"].items() if n not in ("agents", "companions")}})
    top.pop("name")
    top.pop("workspace")  # without one there is none
    spelled, silent = (from_tables({**tables, "agents": [{"name": "a", "command": ["x"]}]}) for tables in (top, {}))
    assert sizes.resolve(spelled.memory) == sizes.resolve(silent.memory)
    assert sizes.resolve_drain(spelled.drain) == sizes.resolve_drain(silent.drain)
    for table in ("run", "node", "timeouts", "retry", "hooks"):
        assert getattr(spelled, table) == getattr(silent, table)
    assert silent.metrics.listen is UNSET  # as the environment says, else:
    assert spelled.metrics == replace(silent.metrics, listen=LISTEN)


@pytest.mark.parametrize(("text", "key", "message"), WRONG[:8] + WRONG[36:])
def test_the_schema_never_refuses_what_is_read_and_is_a_schema(text: str, key: str, message: str) -> None:
    """An editor may know less than we do; what it does not refuse must at least not break it."""
    list(jsonschema.Draft7Validator(schema()).iter_errors(tomllib.loads(text)))


def test_a_table_is_built_with_its_defaults() -> None:
    assert build(Profile, {}) == Profile()


@pytest.mark.parametrize(
    ("command", "preset"),
    [
        (["claude", "-p", "x"], "claude"),
        (["/opt/bin/codex", "exec", "x"], "codex"),
        (["npx", "claude"], "claude"),
        (["npx", "-y", "@anthropic-ai/claude-code@2.1.3", "-p", "x"], "claude"),
        (["npx", "--package", "@openai/codex", "codex", "exec"], "codex"),
        (["pnpm", "dlx", "@google/gemini-cli"], "gemini"),
        (["pnpm", "claude"], None),
        (["env", "X=1", "timeout", "-k", "5", "1h", "qwen", "-p", "x"], "qwen"),
        (["sh", "-c", "cd app && X=1 exec opencode run 'a b'"], "opencode"),
        (["sh", "-c", "claude -p x | tee log"], None),
        (["echo", "claude"], None),
        (["claude-mcp"], None),
    ],
)
def test_preset_follows_the_name_of_the_program(command: list[str], preset: str | None) -> None:
    agents = [{"name": "a", "command": command}, {"name": "b", "command": command, "preset": "none"}]
    found, off = from_tables({"agents": agents}).agents
    assert (found.preset, off.preset) == (preset, None)
    assert from_command(command, None, {}).agents[0].preset == preset


def test_keys_of_a_profile_win_over_the_preset_of_its_program() -> None:
    given = {"name": "a", "command": ["opencode", "run", "x"]}
    assert from_tables({"agents": [given]}).agents[0].preset == "opencode"
    assert from_tables({"agents": [given], "timeouts": {"stall": "1h"}}).agents[0].timeouts.stall == 3600
    assert from_tables({"agents": [given | {"preset": "none"}]}).agents[0].preset is None


def test_otherwise_and_expressions_of_when_are_checked_with_line_and_key() -> None:
    text = """\
[[agents]]
name = "a"
command = ["x"]
when = ["sql", "/(/"]
[[agents]]
name = "b"
command = ["x"]
otherwise = true
[[agents]]
name = "c"
command = ["x"]
when = ["form"]
otherwise = true
"""
    with pytest.raises(ProfileError) as refused:
        parse(text, "p.toml")
    assert [(each.line, each.key) for each in refused.value.complaints] == [
        (4, "agents[0].when[1]"), (13, "agents[2].otherwise"),
    ]  # fmt: skip
    assert "not a regular expression" in str(refused.value)


def test_resume_at_the_top_level_is_for_agents_that_can() -> None:
    profile = parse('[retry]\nhow = "resume"\n' + AGENT + PROMPT.replace('"a"', '"b"'), "x.toml")
    assert {agent.retry.how for agent in profile.agents} == {RetryHow.RESUME}


def test_gap_of_collections_is_at_most_a_minute() -> None:
    text = '[gc]\nmode = "aggressive"\ngap = "{}"\n[[agents]]\nname = "a"\ncommand = ["x"]\n'
    assert parse(text.format("1m"), "p.toml").agents[0].gc.gap == 60
    with pytest.raises(ProfileError, match=r"p\.toml:3.*gc\.gap: more than 1min"):
        parse(text.format("61s"), "p.toml")
