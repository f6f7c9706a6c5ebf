"""Presets of users: every complaint with its line and key, and what they mean for a profile."""

import tomllib

import jsonschema
import pytest

from seqsup.model.preset import FOLDER, Preset, built_in
from seqsup.profile.complaint import ProfileError
from seqsup.profile.parse import from_command, parse
from seqsup.profile.preset_text import parse_preset
from seqsup.profile.schema import preset_schema

MINE = """\
title = "Mine"
programs = ["mine", "claude"]
usage_limit = ['resets at (?P<at>\\d+)']

[prompt]
command = ["mine", "{options}", "--do={prompt}"]
model = ["-m{model}"]

[keys.timeouts]
stall = "7m"
"""
PROFILE = '[[agents]]\nname = "a"\n'


def mine(text: str = MINE) -> Preset:
    return parse_preset(text, "/p/mine.toml", "mine")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('title = "Mine"', "", "mine.toml:1:1: title: missing: what people call it."),
        ("programs", "program", "mine.toml:2:1: program: unknown key (did you mean programs or prompt?)"),
        ("(?P<at>", "(?P<at", "mine.toml:3:16: usage_limit[0]: not a regular expression: missing >"),
        ("(?P<at>", "(?P<art>", "mine.toml:3:16: usage_limit[0]: unknown group art (did you mean at?)"),
        ("(?P<at>", "(?P<when>", "usage_limit[0]: unknown group when (name it one of epoch, after, at, zone)"),
        ("={prompt}", "", "mine.toml:6:11: prompt.command: needs {prompt} once; it is there 0 times"),
        ('"{options}", ', "", "prompt.command: needs {options} once as a word of its own; it is there 0 times"),
        ("{options}", "{option}", "mine.toml:6:21: prompt.command[1]: unknown slot {option} (did you mean options?)"),
        ('["mine", "{options}", "--do={prompt}"]', "[]", "prompt.command: begins with no program (write it so"),
        ("model = [", "resume = [", "prompt.command: needs {session} once as a word of its own"),
        ('"-m{model}"', '"-m"', "mine.toml:7:9: prompt.model: lacks {model}, which seqsup replaces"),
        ("keys.timeouts", "keys.timeout", "keys.timeout: no table that a preset sets (did you mean timeouts?)"),
        ("stall", "stal", "mine.toml:10:1: keys.timeouts.stal: unknown key (did you mean stall?)"),
        ('"7m"', '"7 mice"', "mine.toml:10:9: keys.timeouts.stall: expected"),
        ('"Mine"', "", "mine.toml:1:9: not TOML"),
    ],
)
def test_a_mistake_is_reported_with_its_place(old: str, new: str, told: str) -> None:
    assert old in MINE
    with pytest.raises(ProfileError) as caught:
        mine(MINE.replace(old, new, 1))
    assert told in str(caught.value)


def test_a_preset_has_a_name_that_a_profile_can_write() -> None:
    with pytest.raises(ProfileError, match="'auto' cannot be the name of a preset"):
        parse_preset(MINE, "auto.toml", "auto")


def test_a_profile_names_it_and_it_wins_over_those_of_seqsup() -> None:
    presets = {**built_in(), "mine": mine()}
    [agent] = parse(PROFILE + 'preset = "mine"\nprompt = "x"', "p.toml", presets).agents
    assert (agent.settings, agent.timeouts.stall) == (mine(), 420)
    assert from_command(["claude"], None, {}, presets).agents[0].preset == "mine"
    with pytest.raises(ProfileError, match=r"no preset 'miner' \(did you mean mine\?\)"):
        parse(PROFILE + 'preset = "miner"\nprompt = "x"', "p.toml", presets)


def test_its_schema_takes_what_is_read() -> None:
    checker = jsonschema.Draft7Validator(preset_schema())
    for text in (MINE, *(file.read_text() for file in FOLDER.glob("*.toml"))):
        checker.validate(tomllib.loads(text))
    for wrong in (MINE.replace("stall", "stal"), MINE.replace("model =", "modle ="), MINE.replace("title", "name")):
        assert not checker.is_valid(tomllib.loads(wrong))
