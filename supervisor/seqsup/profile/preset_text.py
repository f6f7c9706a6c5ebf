"""The text of a preset's file into a Preset, or all that is wrong with it at once. Pure."""

import re
from collections.abc import Iterator

from seqsup.model.kinds import KeyPath
from seqsup.model.preset import SLOTS, Preset, PromptForm
from seqsup.model.profile import AUTO, Profile
from seqsup.profile import fields, placeholders
from seqsup.profile.complaint import ProfileError, complaints
from seqsup.profile.parse import keys_of_preset, tables
from seqsup.text import nearest
from seqsup.units import show

_GROUPS = ("epoch", "after", "at", "zone")  # of a usage limit
_SLOT = re.compile(r"\{(\w*)\}")
# Options that have a slot, and its name
_WITH_SLOT = {"model": "model", "mint": "id", "resume": "id", "usd": "usd", "turns": "turns"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)

Wrong = Iterator[tuple[KeyPath, str]]


def parse_preset(text: str, file: str, name: str) -> Preset:
    """Raise ProfileError with file, line and key of each mistake. `name` is that of the preset."""
    raw = tables(text, file)
    wrong: dict[KeyPath, str] = {}
    given = fields.read(Preset, raw, (), wrong.setdefault)
    if not _NAME.fullmatch(name) or name in (AUTO, "none"):
        wrong[()] = f"{show(name)} cannot be the name of a preset\nrename the file to NAME.toml"
    if not wrong:
        preset: Preset = fields.build(Preset, given | {"name": name, "file": file})
        wrong |= dict(_mistakes(preset))
        keys_of_preset(preset, wrong.setdefault)
        if not wrong:
            return preset
    raise ProfileError(complaints(Profile(file=file, text=text), wrong.items()))


def _mistakes(preset: Preset) -> Wrong:
    for key in ("failure", "no_credit"):
        for n, pattern in enumerate(getattr(preset, key)):
            yield from _pattern((key, n), pattern)
    for n, pattern in enumerate(preset.usage_limit):
        yield from _pattern(("usage_limit", n), pattern, _GROUPS)
    for name, value in preset.env.items():
        if any(each == placeholders.SECRET for each, _ in placeholders.written(value)):
            yield ("env", name), "a preset has no secrets\nset this variable in env of an agent"
    if preset.dialect is not None and preset.prompt is None:
        yield ("dialect",), "a JSON stream needs the options that ask for it\nadd [prompt] with command and stream"
    if preset.prompt is not None:
        for at, why in _form(preset.prompt):
            yield ("prompt", *at), why


def _form(form: PromptForm) -> Wrong:
    if not form.command or form.command[0] in ("", *SLOTS):
        yield (
            ("command",),
            'begins with no program\nwrite it so: ["mycli", "{options}", "-p", "{prompt}"]',
        )
        return
    unknown = [
        (n, slot) for n, word in enumerate(form.command) for slot in _SLOT.findall(word) if f"{{{slot}}}" not in SLOTS
    ]
    for n, slot in unknown:
        yield ("command", n), f"unknown slot {{{slot}}}{nearest(slot, [each[1:-1] for each in SLOTS])}"
    if unknown:
        return
    needed = ["{prompt}", "{options}"] + ["{session}"] * bool(form.mint or form.resume)
    for slot in needed:
        there = [word for word in form.command if (slot in word if slot == "{prompt}" else word == slot)]
        if len(there) != 1:
            whole = "" if slot == "{prompt}" else " as a word of its own"
            yield ("command",), f"needs {slot} once{whole}; it is there {len(there)} times"
            break
    for key, slot in _WITH_SLOT.items():
        words = getattr(form, key)
        if words and not any(f"{{{slot}}}" in word for word in words):
            yield (key,), f"lacks {{{slot}}}, which seqsup replaces"
    for n, pattern in enumerate(form.lost):
        yield from _pattern(("lost", n), pattern)


def _pattern(at: KeyPath, pattern: str, groups: tuple[str, ...] = ()) -> Wrong:
    try:
        named = re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        yield at, f"not a regular expression: {error}"
        return
    for group in named:
        if group not in groups:
            remedy = f"\nname it one of {', '.join(groups)}" if groups else "\nremove its name"
            yield at, f"unknown group {group}{nearest(group, groups) or remedy}"
