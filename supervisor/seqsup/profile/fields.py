"""Tables in general: which keys one has, and how it is read. Knows no particular table.

Reading complains of all that is wrong, and continues.
"""

import enum
import types
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET, Struct

from seqsup.model.kinds import FLAG, TEXT, KeyPath, Schema, Table, ValueKind, one_of
from seqsup.profile import words
from seqsup.text import nearest
from seqsup.units import show

UNKNOWN_KEY = "unknown key"

Complain = Callable[[KeyPath, str], object]


class Key(Struct, frozen=True):
    many: type | None  # tuple or dict where it holds several values
    table: type[Table] | None  # what a value is
    kind: ValueKind | None  # how a value is read; of a table, what turns a shorthand into one
    description: str
    schema: Schema
    default: Any


@cache
def keys(table: type[Struct]) -> dict[str, Key]:
    """The keys of a table: its fields that carry a description."""
    hints = get_type_hints(table, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(table):
        hint = hints[field.name]
        inner, *marks = get_args(hint) if get_origin(hint) is Annotated else (None,)
        words = [mark for mark in marks if isinstance(mark, str)]
        if words:
            many = next((each for each in (tuple, dict) if get_origin(inner) is each), None)
            value = get_args(inner)[many is dict] if many else inner
            holds = _table_in(value)
            kind = next((mark for mark in marks if isinstance(mark, ValueKind)), None)
            found[field.name] = Key(
                many=many,
                table=holds,
                kind=kind if kind or holds else _kind_of(value),
                description=words[0],
                schema=next((mark for mark in marks if isinstance(mark, dict)), {}),
                default=field.default if field.default_factory is NODEFAULT else field.default_factory(),
            )
    return found


def _table_in(hint: Any) -> type[Table] | None:
    for inner in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if isinstance(inner, type) and issubclass(inner, Table):
            return inner
    return None


def _kind_of(hint: Any) -> ValueKind:
    if get_origin(hint) is Literal:
        return one_of(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return one_of([member.value for member in hint], hint)
    return {str: TEXT, bool: FLAG}[hint]


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
            complain((*at, name), f"{UNKNOWN_KEY}{meant}")
        elif (ended := _read_key(known[name], value, (*at, name), complain)) is not UNSET:
            given[name] = ended
    for name in table.must_have:
        if name not in raw:
            meaning = known[name].description
            complain((*at, name), f"missing: {meaning[:1].lower()}{meaning[1:]}")
    one = [name for name in table.must_have_one if name in raw]
    if len(one) > 1:
        complain((*at, one[-1]), f"set {' or '.join(one)}, not both")
    elif table.must_have_one and not one:
        complain((*at, table.must_have_one[0]), f"missing: set {' or '.join(table.must_have_one)}")
    return given


def _read_key(key: Key, value: Any, at: KeyPath, complain: Complain) -> Any:
    if key.many is tuple:
        if not isinstance(value, list):
            wanted = f"tables, each with the heading [[{at[-1]}]]" if key.table else "a list in brackets"
            found = "" if key.kind is not None and key.kind.secret else f", not {show(value)}{_as_list(key, value, at)}"
            complain(at, f"expected {wanted}{found}")
            return UNSET
        items = [_read_value(key, item, (*at, n), complain) for n, item in enumerate(value)]
        return tuple(item for item in items if item is not UNSET)
    if key.many is dict:
        if not isinstance(value, dict):
            complain(at, 'expected a table, such as { NAME = "value" }')  # the text of env may hold a secret
            return UNSET
        ended = {name: _read_value(key, item, (*at, name), complain) for name, item in value.items()}
        return {name: item for name, item in ended.items() if item is not UNSET}
    return _read_value(key, value, at, complain)


def _as_list(key: Key, value: Any, at: KeyPath) -> str:
    """The hint for a list that was written as one string."""
    if key.kind is not TEXT or not isinstance(value, str) or not value.strip():
        return ""
    is_command = at[-1] in ("command", "until")
    return f"\nwrite {at[-1]} = {words.listed(words.meant([value])[1] if is_command else [value])}"


def _read_value(key: Key, value: Any, at: KeyPath, complain: Complain) -> Any:
    try:
        value = key.kind.read(value) if key.kind else value
    except ValueError as error:
        complain(at, str(error))
        return UNSET
    return read(key.table, value, at, complain) if key.table else value


def build(table: type[Table], given: dict[str, Any]) -> Any:
    """The table's Struct; a key that was not given has its default."""
    values, known = dict(given), keys(table)
    for name, value in given.items():
        if name in known and (inner := known[name].table):
            values[name] = (
                tuple(build(inner, item) for item in value) if isinstance(value, tuple) else build(inner, value)
            )
    return table(**values)
