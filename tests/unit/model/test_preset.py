"""Files of presets: what each has, and how a mistake in one is reported."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from seqsup.model import preset as presets
from seqsup.model.preset import agent_programs, built_in, preset_names, prompt_presets, read_preset
from seqsup.profile.parse import from_tables
from seqsup.profile.preset_text import parse_preset
from seqsup.profile.schema import schema

KNOWN = ("claude", "codex", "copilot", "gemini", "mcp-server", "node", "opencode", "qwen")


def test_presets_are_complete() -> None:
    assert preset_names() == KNOWN
    described = schema()["properties"]["agents"]["items"]["properties"]["preset"]
    assert described["anyOf"][0]["enum"] == ["auto", "none", *KNOWN]


@pytest.mark.parametrize("name", KNOWN)
def test_each_can_be_read_and_used(name: str) -> None:
    preset = read_preset(name)
    file = presets.FOLDER / f"{name}.toml"
    assert replace(parse_preset(file.read_text(), str(file), name), file="") == preset
    assert bool(preset.reports) is (preset.dialect is not None)
    for pattern in (*preset.failure, *preset.usage_limit, *preset.no_credit):
        assert set(re.compile(pattern).groupindex) <= {"epoch", "after", "at", "zone"}
    assert from_tables({"agents": [{"name": "a", "command": ["x"], "preset": name}]}).agents[0].preset == name


def test_programs_and_commands_come_from_the_files() -> None:
    assert set(prompt_presets()) == {"claude", "codex", "copilot", "gemini", "opencode", "qwen"}
    forms = [form for name in prompt_presets() if (form := read_preset(name).prompt) is not None]
    assert all(form.command[0] in agent_programs() for form in forms)


@pytest.mark.parametrize("name", prompt_presets())
def test_the_user_s_options_replace_what_a_cli_may_do(name: str) -> None:
    form = read_preset(name).prompt
    assert form is not None
    words = form.words("Do it", ("--verbose",), ("--resume", "ID"))
    assert [word for word in words if "{" in word] == []
    assert {"--verbose", "--resume", "ID", *form.may} <= set(words)
    assert words[-1].endswith("Do it")
    for option in form.may_options:
        assert not set(form.may) & set(form.words("Do it", (f"{option}=x",))[1:])


@pytest.mark.parametrize(
    ("name", "words", "asked"),
    [
        ("claude", "-p --output-format stream-json --verbose", True),
        ("claude", "-p --output-format=stream-json", True),
        ("claude", "-p --output-format json", False),
        ("claude", "-p --output-format", False),
        ("codex", "exec --json", True),
        ("codex", "exec", False),
        ("gemini", "-o stream-json", True),
        ("qwen", "-o=stream-json", True),
        ("qwen", "-o text", False),
        ("opencode", "run --format json", True),
        ("opencode", "run --format default", False),
        ("copilot", "--output-format json", True),
    ],
)
def test_a_command_that_asks_for_the_stream_is_recognised(name: str, words: str, asked: bool) -> None:
    form = read_preset(name).prompt
    assert form is not None
    assert form.streams(words.split()) == asked
    assert form.streams(form.options(None, ()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of presets."""
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    read_preset.cache_clear()
    preset_names.cache_clear()
    built_in.cache_clear()
    yield tmp_path
    read_preset.cache_clear()
    preset_names.cache_clear()
    built_in.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "X"\nfialure = ["x"]', "unknown field `fialure`"),
        ('title = "X"\n[timeouts]\ngrace = "1s"', "unknown field `timeouts`"),
        ('title = "X"\nfailure = "x"', "`$.failure`"),
        ('title = "X"\nprograms = [1]', "`$.programs[0]`"),
        ("programs = []", "`title`"),
        ("title =", "Invalid value"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(folder: Path, text: str, message: str) -> None:
    (folder / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        read_preset("mine")
    assert str(folder / "mine.toml") in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[keys.timeout]\ngrace = "1s"', "keys.timeout: no table that a preset sets (did you mean timeouts?)"),
        ('[keys.timeouts]\ngrcae = "1s"', "keys.timeouts.grcae: unknown key (did you mean grace?)"),
        ('[keys.memory]\nhard = "big"', "keys.memory.hard: expected"),
    ],
)
def test_a_mistake_in_a_key_that_a_preset_sets_names_the_preset_and_the_key(
    folder: Path, text: str, message: str
) -> None:
    (folder / "claude.toml").write_text(f'title = "X"\n{text}')
    with pytest.raises(ValueError, match=re.escape(f"preset claude: {message}")):
        from_tables({"agents": [{"name": "a", "command": ["x"], "preset": "claude"}]})
