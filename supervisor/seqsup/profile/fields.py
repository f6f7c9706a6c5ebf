"""Keys in general: how one is written, read and described. Knows no particular key.

A key is a Struct's field whose `Annotated` carries a description (text); a `Kind` there ends its unit,
a dict there adds to its JSON Schema. Reading complains of all that is wrong and goes on.
"""

import enum
import types
from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET, Struct

from seqsup.profile.lines import KeyPath
from seqsup.text import nearest
from seqsup.units import (
    DURATION_FORMS,
    DURATION_PATTERN,
    SIZE_FORMS,
    SIZE_PATTERN,
    parse_duration,
    parse_size,
    show,
    write_duration,
    write_size,
)

Complain = Callable[[KeyPath, str], object]
Schema = dict[str, Any]
_MOST = 2**31  # of any whole number


class Table(Struct, frozen=True, kw_only=True):
    """A table of the profile."""

    must_have: ClassVar[tuple[str, ...]] = ()
    meant: ClassVar[dict[str, str]] = {}  # what others call a key -> ours


class Kind(Struct, frozen=True):
    """How one value is read (ValueError says what was expected), described, and its default spelled."""

    read: Callable[[Any], Any]
    schema: Schema
    write: Callable[[Any], Any] = lambda value: value
    off: str | None = None  # how a value of None is spelled


class Key(Struct, frozen=True):
    name: str
    type: Any
    description: str
    kind: Kind | None
    schema: Schema
    default: Any


# Kinds ------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text in quotes")  # what it is instead may be a secret, in env or stdin
    if "\0" in value:
        raise ValueError("holds a NUL character, which no command, path or variable can carry")
    if any("\ud800" <= character <= "\udfff" for character in value):  # as Python keeps an argument's odd bytes
        raise ValueError("holds bytes that are not UTF-8")
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


def _or_word(word: str, ended: Any, kind: Kind, forms: str) -> Kind:
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
    return Kind(read, described, write, word if ended is None else kind.off)


def whole(least: int, most: int = _MOST) -> Kind:
    def read(value: object) -> int:
        if isinstance(value, int) and value > _MOST:
            raise ValueError(f"must be at most {_MOST}, not {show(value)}")
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            bound = f"from {least}" if most == _MOST else f"from {least} to {most}"
            raise ValueError(f"expected a whole number {bound}, not {show(value)}")
        return value

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most})


def whole_or_none(least: int) -> Kind:
    return _or_word("none", None, whole(least), f"a whole number from {least}")


def number(least: float, most: float) -> Kind:
    def read(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"expected a number from {least:g} to {most:g}, not {show(value)}")
        return float(value)

    return Kind(read, {"type": "number", "minimum": least, "maximum": most})


def one_of(choices: Iterable[str], ended: Callable[[str], Any] = str) -> Kind:
    words = [str(choice) for choice in choices]

    def read(value: object) -> Any:
        if value not in words:
            near = nearest(value, words) if isinstance(value, str) else ""
            raise ValueError(f"expected one of {', '.join(words)}, not {show(value)}{near}")
        return ended(str(value))

    return Kind(read, {"enum": words}, str)


TEXT = Kind(_text, {"type": "string"})
FLAG = Kind(_flag, {"type": "boolean"})
TEXT_OR_NONE = Kind(lambda value: _text(value) or None, {"type": "string"}, off="")

_SIZE_SCHEMA: Schema = {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}]}
_DURATION_SCHEMA: Schema = {
    "anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}]
}
SIZE = Kind(_positive(parse_size, ' ("none" turns it off)'), _SIZE_SCHEMA, write_size)
DURATION = Kind(parse_duration, _DURATION_SCHEMA, write_duration)
SPAN = Kind(_positive(parse_duration), _DURATION_SCHEMA, write_duration)  # a duration above zero
SIZE_OR_NONE = _or_word("none", None, SIZE, SIZE_FORMS)
AMOUNT_OR_NONE = _or_word("none", None, Kind(parse_size, _SIZE_SCHEMA, write_size), SIZE_FORMS)  # 0 too
OUTPUT_OR_NONE = _or_word("none", None, Kind(_at_least(parse_size, 64 * 1024), _SIZE_SCHEMA, write_size), SIZE_FORMS)
SPAN_OR_NONE = _or_word("none", None, SPAN, DURATION_FORMS)
SIZE_AUTO_OR_NONE = _or_word("auto", "auto", SIZE_OR_NONE, SIZE_FORMS + ', or "none"')


# Types ------------------------------------------------------------------------------------------


@cache
def keys(table: type[Struct]) -> dict[str, Key]:
    """The keys of a table: its fields that carry a description."""
    hints = get_type_hints(table, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(table):
        inner, *marks = get_args(hints[field.name]) if _annotated(hints[field.name]) else (None,)
        words = [mark for mark in marks if isinstance(mark, str)]
        if words:
            kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
            extra = next((mark for mark in marks if isinstance(mark, dict)), {})
            default = field.default if field.default_factory is NODEFAULT else field.default_factory()
            found[field.name] = Key(field.name, inner, words[0], kind, extra, default)
    return found


def _annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated


@cache
def _table_in(hint: Any) -> type[Table] | None:
    for inner in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if isinstance(inner, type) and issubclass(inner, Table):
            return inner
    return None


@cache
def _kind_of(hint: Any) -> Kind:
    if get_origin(hint) is Literal:
        return one_of(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return one_of([member.value for member in hint], hint)
    return {str: TEXT, bool: FLAG}[hint]


# Reading ----------------------------------------------------------------------------------------


def read(table: type[Table], raw: object, at: KeyPath, complain: Complain) -> dict[str, Any]:
    """What the user gave, units ended; what cannot be read is complained of and left out."""
    if not isinstance(raw, dict):
        complain(at, f"expected a table, not {show(raw)}")
        return {}
    known = keys(table)
    given = {}
    for name, value in raw.items():
        if name not in known:
            meant = f" (did you mean {table.meant[name]}?)" if name in table.meant else nearest(name, known)
            complain((*at, name), f"unknown key{meant}")
        elif (ended := _read_value(known[name].type, known[name].kind, value, (*at, name), complain)) is not UNSET:
            given[name] = ended
    for name in table.must_have:
        if name not in raw:
            meaning = known[name].description
            complain((*at, name), f"missing: {meaning[:1].lower()}{meaning[1:]}")
    return given


def _read_value(hint: Any, kind: Kind | None, value: Any, at: KeyPath, complain: Complain) -> Any:
    if get_origin(hint) is tuple:
        return _read_list(get_args(hint)[0], kind, value, at, complain)
    if get_origin(hint) is dict:
        return _read_map(get_args(hint)[1], kind, value, at, complain)
    table = _table_in(hint)
    try:
        if kind or not table:  # a table's kind turns a shorthand into the table
            value = (kind or _kind_of(hint)).read(value)
    except ValueError as error:
        complain(at, str(error))
        return UNSET
    return read(table, value, at, complain) if table else value


def _read_list(hint: Any, kind: Kind | None, value: Any, at: KeyPath, complain: Complain) -> Any:
    if not isinstance(value, list):
        wanted = f"tables, each begun by [[{at[-1]}]]" if _table_in(hint) else "a list in brackets"
        complain(at, f"expected {wanted}, not {show(value)}")
        return UNSET
    ended = [_read_value(hint, kind, item, (*at, n), complain) for n, item in enumerate(value)]
    return tuple(item for item in ended if item is not UNSET)


def _read_map(hint: Any, kind: Kind | None, value: Any, at: KeyPath, complain: Complain) -> Any:
    if not isinstance(value, dict):
        complain(at, 'expected a table, such as { NAME = "value" }')  # the text of env may hold a secret
        return UNSET
    ended = {name: _read_value(hint, kind, item, (*at, name), complain) for name, item in value.items()}
    return {name: item for name, item in ended.items() if item is not UNSET}


def build(table: type[Table], given: dict[str, Any]) -> Any:
    """The table's Struct; a key that was not given has its default."""
    values = dict(given)
    for name, inner, many in _tables_of(table):
        if name in given:
            values[name] = tuple(build(inner, item) for item in given[name]) if many else build(inner, given[name])
    return table(**values)


@cache
def _tables_of(table: type[Table]) -> list[tuple[str, type[Table], bool]]:
    """Which of its keys hold a table, or many of them, and of what type."""
    found = []
    for name, key in keys(table).items():
        many = get_origin(key.type) is tuple
        if inner := _table_in(get_args(key.type)[0] if many else key.type):
            found.append((name, inner, many))
    return found


# JSON Schema ------------------------------------------------------------------------------------


def schema(table: type[Table]) -> Schema:
    described: Schema = {"type": "object", "additionalProperties": False}
    described["properties"] = {name: _key_schema(key) for name, key in keys(table).items()}
    if table.must_have:
        described["required"] = list(table.must_have)
    return described


def _key_schema(key: Key) -> Schema:
    described: Schema = {"description": key.description, **_type_schema(key.type, key.kind)}
    if not isinstance(key.default, Table) and key.default not in (UNSET, NODEFAULT, None):
        described["default"] = _spell(key.default, key.kind)
    elif key.default is None and key.kind and key.kind.off is not None:
        described["default"] = key.kind.off
    return described | key.schema


def _type_schema(hint: Any, kind: Kind | None) -> Schema:
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type_schema(get_args(hint)[0], kind)}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _type_schema(get_args(hint)[1], kind)}
    if table := _table_in(hint):
        return {"anyOf": [kind.schema, schema(table)]} if kind else schema(table)
    return (kind or _kind_of(hint)).schema


def _spell(default: Any, kind: Kind | None) -> Any:
    if isinstance(default, tuple):
        return [_spell(item, kind) for item in default]
    return kind.write(default) if kind else msgspec.to_builtins(default)
