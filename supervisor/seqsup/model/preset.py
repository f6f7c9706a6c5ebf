"""Facts about agent CLIs and similar tools, as data: one TOML file for each in presets/."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from seqsup.model.kinds import FLAG, Table, ValueKind, one_of

FOLDER = Path(__file__).parent / "presets"
DIALECTS = ("claude", "codex", "gemini", "qwen", "opencode", "copilot")
SLOTS = ("{options}", "{session}", "{prompt}")  # of prompt.command

_TABLE = ValueKind(lambda value: value, {"type": "object"})  # `parse` reads it as the profile's


class PromptForm(Table, frozen=True, forbid_unknown_fields=True):
    """How a CLI is started with a prompt. Each list holds words of the command line."""

    must_have: ClassVar[tuple[str, ...]] = ("command",)

    command: Annotated[
        tuple[str, ...],
        "Program and arguments. {options} and {session} are words of their own; {prompt} may be part of one.",
    ]
    may: Annotated[tuple[str, ...], "Options that let it change files without asking."] = ()
    may_options: Annotated[tuple[str, ...], "Options of `args` that replace `may`."] = ()
    stream: Annotated[tuple[str, ...], "Options for its JSON stream."] = ()
    stream_options: Annotated[tuple[str, ...], "Options of `args` that replace `stream`."] = ()
    model: Annotated[tuple[str, ...], "Options for a model: {model} is replaced."] = ()
    mint: Annotated[tuple[str, ...], "Options for a new session of a given id: {id} is replaced."] = ()
    resume: Annotated[tuple[str, ...], "Words that resume a session: {id} is replaced."] = ()
    lost: Annotated[tuple[str, ...], "Patterns of the message that a session does not exist."] = ()
    usd: Annotated[tuple[str, ...], "Options for a budget in USD: {usd} is replaced."] = ()
    turns: Annotated[tuple[str, ...], "Options for a number of turns: {turns} is replaced."] = ()

    def words(self, prompt: str, options: tuple[str, ...] = (), session: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the command line. `options` may include those of the user; see `with_may`."""
        slots = {"{options}": self.with_may(options), "{session}": session}
        return tuple(each for word in self.command for each in slots.get(word, (word.replace("{prompt}", prompt),)))

    def options(self, model: str | None, args: tuple[str, ...]) -> tuple[str, ...]:
        """Return the options for the stream, for a model and `args`, which may ask for another output."""
        stream = () if self.sets_output(args) else self.stream
        return stream + (put(self.model, "model", model) if model is not None else ()) + args

    def sets_output(self, words: Sequence[str]) -> bool:
        """Return whether one of the words says what the CLI prints."""
        return not {word.partition("=")[0] for word in words}.isdisjoint(self.stream_options)

    def streams(self, words: Sequence[str]) -> bool:
        """Return whether the words of a command line ask for the JSON stream."""
        value = [word for word in self.stream[1:2] if not word.startswith("-")]
        for n, word in enumerate(words):
            option, equals, given = word.partition("=")
            if option in self.stream_options and value in ([], [given] if equals else list(words[n + 1 : n + 2])):
                return True
        return False

    def limits(self, usd: float | None, turns: int | None, given: Sequence[str]) -> tuple[str, ...]:
        """Return the options for a budget, unless they are among the `given` ones."""
        named = {word.partition("=")[0] for word in given}
        wanted = ((self.usd, "usd", None if usd is None else f"{usd:.4f}"), (self.turns, "turns", turns))
        return tuple(
            word for option, slot, value in wanted if value is not None and named.isdisjoint(option)
            for word in put(option, slot, str(value))
        )  # fmt: skip

    def with_may(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """Put `may` before the options, unless they already say what the CLI may do."""
        given = {option.partition("=")[0] for option in options}
        return options if given.intersection(self.may_options) else self.may + options


class Preset(Table, frozen=True, forbid_unknown_fields=True):
    """Facts about an agent CLI: a file of presets/."""

    must_have: ClassVar[tuple[str, ...]] = ("title",)

    title: Annotated[str, "What people call it."]
    programs: Annotated[tuple[str, ...], "Names of the executable and of its package."] = ()
    prompt: Annotated[PromptForm | None, "How it is started with a prompt."] = None
    dialect: Annotated[str | None, one_of(DIALECTS), "Whose JSON stream it writes."] = None
    stop: Annotated[
        tuple[str, ...],
        one_of(("INT", "TERM")),
        "Signals that end it, in order, before KILL. All but TERM are for the CLI alone, TERM is for its whole tree.",
    ] = ("TERM",)
    session_env: Annotated[
        tuple[str, ...], "Variables that it sets for its tools. No agent gets them from seqsup's own environment."
    ] = ()
    env: Annotated[dict[str, str], "Environment variables. The user's own win."] = msgspec.field(default_factory=dict)
    keys: Annotated[
        dict[str, Any], _TABLE, "Keys of the profile, by table. The profile's own win."
    ] = msgspec.field(default_factory=dict)  # fmt: skip
    failure: Annotated[tuple[str, ...], "Patterns of a failure that may exit with 0, for its last lines."] = ()
    usage_limit: Annotated[
        tuple[str, ...], "Patterns of a usage limit. Groups named epoch, after, at and zone say when it resets."
    ] = ()
    no_credit: Annotated[tuple[str, ...], "Patterns of exhausted credit, which does not reset by itself."] = ()
    reports: Annotated[
        tuple[str, ...], one_of(("usd", "tokens", "turns")), "What its stream reports: which budgets it can have."
    ] = ()
    exit_codes: Annotated[dict[str, str], "What some of its exit codes mean."] = msgspec.field(default_factory=dict)
    leaks: Annotated[tuple[str, ...], "Known leaks, for the reader of a plan."] = ()
    spare: Annotated[bool, FLAG, "Whether it notices that its tool was killed, and continues."] = True

    name: str = ""
    file: str = ""  # of a user's preset


def put(words: tuple[str, ...], slot: str, value: str) -> tuple[str, ...]:
    """Replace {slot} in each of the words."""
    return tuple(word.replace(f"{{{slot}}}", value) for word in words)


@cache
def preset_names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@cache
def read_preset(name: str) -> Preset:
    """Read a preset's file. Raise ValueError with its path if it has a value of a wrong type."""
    import tomllib  # most commands read no preset

    file = FOLDER / f"{name}.toml"
    try:
        return msgspec.convert({"name": name, **tomllib.loads(file.read_text())}, Preset)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


@cache
def prompt_presets() -> tuple[str, ...]:
    """Return the names of the presets that take a prompt."""
    return tuple(name for name in preset_names() if read_preset(name).prompt is not None)


def takeover(dialect: str | None, session: str) -> tuple[str, ...]:
    """Return the command by which a person continues a session; empty where the CLI has none."""
    form = read_preset(dialect).prompt if dialect in preset_names() else None
    return (form.command[0], *put(form.resume, "id", session)) if form is not None and form.resume else ()


@cache
def session_variables() -> frozenset[str]:
    """Return the names of the variables by which a CLI's tools know its session."""
    return frozenset(name for preset in preset_names() for name in read_preset(preset).session_env)


@cache
def built_in() -> dict[str, Preset]:
    """Return the presets of seqsup by their names."""
    return {name: read_preset(name) for name in preset_names()}


def presets_by_program(presets: Mapping[str, Preset]) -> dict[str, str]:
    """Return the name of the preset by each program's name. One of the user's wins."""
    ordered = sorted(presets.items(), key=lambda item: item[1].file != "")
    return {program: name for name, preset in ordered for program in preset.programs}


@cache
def agent_programs() -> frozenset[str]:
    """Return the names of all presets' programs."""
    return frozenset(presets_by_program(built_in()))
