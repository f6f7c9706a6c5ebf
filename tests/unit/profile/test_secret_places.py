"""{secret:NAME} is for env of agents and companions alone."""

import pytest

from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.profile.parse import from_command, parse
from seqsup.profile.placeholders import escape_but_secrets, finish, secrets
from seqsup.profile.preset_text import parse_preset

AGENT = '[[agents]]\nname = "a"\ncommand = ["c"]\n'
COMPANION = '[[companions]]\nname = "m"\ncommand = ["c"]\n'
ELSEWHERE = "{secret:X} is replaced only in env of an agent or a companion"


def complaints(text: str) -> list[Complaint]:
    with pytest.raises(ProfileError) as caught:
        parse(text, "p.toml")
    return list(caught.value.complaints)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        (AGENT + 'stdin = "{secret:X}"', "agents[0].stdin", 4),
        ('[[agents]]\nname = "a"\ncommand = ["c", "--key={secret:X}"]', "agents[0].command[1]", 3),
        ('[[agents]]\nname = "a"\npreset = "claude"\nprompt = "Use {secret:X}"', "agents[0].prompt", 4),
        (AGENT + 'success.command = ["x", "{secret:X}"]', "agents[0].success.command[1]", 4),
        (AGENT + 'for_each = ["x", "{secret:X}"]', "agents[0].for_each[1]", 4),
        (AGENT + 'cwd = "{secret:X}"', "agents[0].cwd", 4),
        (COMPANION + 'cwd = "{secret:X}"\n' + AGENT, "companions[0].cwd", 4),
        ('[[companions]]\nname = "m"\ncommand = ["c", "{secret:X}"]\n' + AGENT, "companions[0].command[1]", 3),
        ('[hooks]\nafter_run = ["curl {secret:X}"]\n' + AGENT, "hooks.after_run[0]", 2),
        ('[notify]\ncommand = ["m", "{secret:X}"]\n' + AGENT, "notify.command[1]", 2),
        ('[metrics]\npushgateway = "http://{secret:X}@h:1"\n' + AGENT, "metrics.pushgateway", 2),
    ],
)
def test_secret_elsewhere_is_refused_with_its_place_and_the_remedy(text: str, key: str, line: int) -> None:
    [complaint] = complaints(text)
    assert (complaint.key, complaint.line, complaint.message) == (key, line, ELSEWHERE)
    assert complaint.hint == "set it there, or write {{secret:X} if the braces are text"


@pytest.mark.parametrize("table", [AGENT, AGENT + COMPANION])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("{secret:2X}", "the name of a secret has ASCII letters"),
        ("{secret:sk-X}", "the name of a secret has ASCII letters"),
        ("{secret}", "unknown placeholder {secret} (did you mean {secret:NAME}?"),
        ("{ secret:X }", "unknown placeholder { secret:X } (did you mean {secret:X}?"),
        ("{secrets:X}", "unknown placeholder {secrets:X} (did you mean {secret:X}?"),
    ],
)
def test_slip_in_a_secret_is_refused(table: str, value: str, told: str) -> None:
    [complaint] = complaints(f'{table}env = {{ A = "{value}" }}\n')
    assert told in str(complaint)
    assert complaint.source == "", "env may hold a secret"
    assert "sk-X" not in str(complaint)


@pytest.mark.parametrize("name", ["SEQSUP_KEY", "MALLOC_KEY"])
def test_secret_in_a_variable_that_seqsup_writes_to_a_file_is_refused(name: str) -> None:
    [complaint] = complaints(f'{AGENT}env = {{ {name} = "{{secret:X}}" }}\n')
    assert "to a file (choose another variable)" in str(complaint)


def test_preset_has_no_secrets() -> None:
    with pytest.raises(ProfileError, match=r"env.A: a preset has no secrets \(set this variable in env of an agent\)"):
        parse_preset('title = "x"\nenv = { A = "{secret:X}" }\n', "x.toml", "x")


def test_command_line_has_no_secrets() -> None:
    made = from_command(["echo", "{secret:X}"], None, {})
    assert finish(made.agents[0].command[1]) == "{secret:X}"


def test_all_other_braces_of_a_companion_are_text() -> None:
    text = "{task} {{secret:A} ${secret:B} {secret:C}{secret:D} { } {x: 1}"
    escaped = escape_but_secrets(text)
    assert secrets([escaped]) == ["C", "D"]
    assert finish(escaped, lambda _, name: f"<{name}>") == "{task} {secret:A} ${secret:B} <C><D> { } {x: 1}"
