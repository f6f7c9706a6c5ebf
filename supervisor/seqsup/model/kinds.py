"""How the keys of a profile are declared: a table is a Struct, a key its field, and a kind says what values it takes.

A key's `Annotated` carries a description (text). A `ValueKind` there ends the value's unit, a dict there adds to its
JSON Schema.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from msgspec import Struct

from seqsup.text import nearest
from seqsup.units import (
    AGE,
    BYTES,
    DURATION_FORMS,
    DURATION_PATTERN,
    SHARE_PATTERN,
    SIZE_FORMS,
    SIZE_PATTERN,
    parse_age,
    parse_duration,
    parse_share,
    parse_size,
    show,
    write_duration,
    write_share,
    write_size,
)

KeyPath = tuple[str | int, ...]  # ("agents", 0, "memory", "hard")
Schema = dict[str, Any]
_MOST = 2**31  # of any whole number


class Table(Struct, frozen=True, kw_only=True):
    """A table of the profile."""

    must_have: ClassVar[tuple[str, ...]] = ()
    must_have_one: ClassVar[tuple[str, ...]] = ()  # exactly one of these
    meant: ClassVar[dict[str, str]] = {}  # what others call a key -> ours


class ValueKind(Struct, frozen=True):
    """How one value is read (ValueError says what was expected), described, and its default spelled."""

    read: Callable[[Any], Any]
    schema: Schema
    write: Callable[[Any], Any] = lambda value: value
    off: str | None = None  # how a value of None is spelled
    secret: bool = False  # no message shows a value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text in quotes")  # what it is instead may be a secret, in env or stdin
    if "\0" in value:
        raise ValueError("holds a NUL character, which no command, path or variable can carry")
    if any("\ud800" <= character <= "\udfff" for character in value):  # as Python keeps an argument's odd bytes
        raise ValueError("contains bytes that are not UTF-8")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {show(value)}")
    return value


def _positive(read: Callable[[Any], float], off: str = "") -> Callable[[Any], Any]:
    def above_zero(value: object) -> float:
        number = read(value)
        if number <= 0:
            raise ValueError(f"must be above 0{off}")
        return number

    return above_zero


def _at_least(read: Callable[[Any], int], least: int) -> Callable[[Any], int]:
    def bounded(value: object) -> int:
        if (size := read(value)) < least:
            raise ValueError(f'must be at least {write_size(least)} ("none" turns it off)')
        return size

    return bounded


def _or_word(word: str, ended: Any, kind: ValueKind, forms: str) -> ValueKind:
    """The kind, or one word in its place."""

    def read(value: object) -> Any:
        if value == word:
            return ended
        if isinstance(value, str) and value.lower() == word:
            raise ValueError(f'write "{word}", not {show(value)}')
        try:
            return kind.read(value)
        except ValueError as error:
            if "expected" not in str(error):
                raise
            raise ValueError(f'expected {forms}, or "{word}", not {show(value)}') from None

    def write(value: Any) -> Any:
        return word if value == ended else kind.write(value)

    described = {"anyOf": [{"const": word}, *kind.schema.get("anyOf", [kind.schema])]}
    return ValueKind(read, described, write, word if ended is None else kind.off)


def whole(least: int, most: int = _MOST) -> ValueKind:
    def read(value: object) -> int:
        if isinstance(value, int) and value > _MOST:
            raise ValueError(f"must be at most {_MOST}, not {show(value)}")
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            bound = f"from {least}" if most == _MOST else f"from {least} to {most}"
            raise ValueError(f"expected a whole number {bound}, not {show(value)}")
        return value

    return ValueKind(read, {"type": "integer", "minimum": least, "maximum": most})


def _sum(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value < _MOST:
        raise ValueError(f"expected a number such as 2.5, not {show(value)}")
    return float(value)


def whole_or_none(least: int) -> ValueKind:
    return _or_word("none", None, whole(least), f"a whole number from {least}")


def whole_auto_or_none(least: int) -> ValueKind:
    return _or_word("auto", "auto", whole_or_none(least), f'a whole number from {least}, or "none"')


def number(least: float, most: float) -> ValueKind:
    def read(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"expected a number from {least:g} to {most:g}, not {show(value)}")
        return float(value)

    return ValueKind(read, {"type": "number", "minimum": least, "maximum": most})


def one_of(choices: Iterable[str], ended: Callable[[str], Any] = str) -> ValueKind:
    words = [str(choice) for choice in choices]

    def read(value: object) -> Any:
        if value not in words:
            near = nearest(value, words) if isinstance(value, str) else ""
            raise ValueError(f"expected one of {', '.join(words)}, not {show(value)}{near}")
        return ended(str(value))

    return ValueKind(read, {"enum": words}, str)


TEXT = ValueKind(_text, {"type": "string"})
FLAG = ValueKind(_flag, {"type": "boolean"})
TEXT_OR_NONE = ValueKind(lambda value: _text(value) or None, {"type": "string"}, off="")

_SIZE_SCHEMA: Schema = {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": BYTES}]}
_AMOUNT_SCHEMA: Schema = {"anyOf": [*_SIZE_SCHEMA["anyOf"], {"const": 0}]}
_MILLISECONDS: Schema = {"minimum": 1000, "multipleOf": 1000}  # whole thousands look like them
_FEW_SECONDS: Schema = {"exclusiveMinimum": 0, "exclusiveMaximum": AGE}


def _durations(slip: Schema) -> Schema:
    text = {"type": "string", "pattern": DURATION_PATTERN}
    return {"anyOf": [text, {"type": "number", "minimum": 0, "not": slip}]}


_DURATION_SCHEMA = _durations(_MILLISECONDS)
SIZE = ValueKind(_positive(parse_size, ' ("none" turns it off)'), _SIZE_SCHEMA, write_size)
DURATION = ValueKind(parse_duration, _DURATION_SCHEMA, write_duration)
AGE_OF_DAYS = ValueKind(parse_age, _durations({"anyOf": [_MILLISECONDS, _FEW_SECONDS]}), write_duration)
SPAN = ValueKind(_positive(parse_duration), _DURATION_SCHEMA, write_duration)  # a duration above zero
SIZE_OR_NONE = _or_word("none", None, SIZE, SIZE_FORMS)
AMOUNT_OR_NONE = _or_word("none", None, ValueKind(parse_size, _AMOUNT_SCHEMA, write_size), SIZE_FORMS)  # 0 too
OUTPUT_OR_NONE = _or_word(
    "none", None, ValueKind(_at_least(parse_size, 64 * 1024), _SIZE_SCHEMA, write_size), SIZE_FORMS
)
SPAN_OR_NONE = _or_word("none", None, SPAN, DURATION_FORMS)
SPAN_AUTO_OR_NONE = _or_word("auto", "auto", SPAN_OR_NONE, DURATION_FORMS + ', or "none"')
SIZE_AUTO_OR_NONE = _or_word("auto", "auto", SIZE_OR_NONE, SIZE_FORMS + ', or "none"')
SHARE_OR_NONE = _or_word(
    "none",
    None,
    ValueKind(_positive(parse_share), {"type": "string", "pattern": SHARE_PATTERN}, write_share),
    'a share such as "80%"',
)
SUM_OR_NONE = _or_word(
    "none",
    None,
    ValueKind(_positive(_sum, ' ("none" turns it off)'), {"type": "number", "exclusiveMinimum": 0}),
    "a number such as 2.5",
)
