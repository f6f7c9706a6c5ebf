"""The JSON Schema of profiles, from the same types that read them."""

from typing import Any, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET

from seqsup.model.kinds import Schema, Table, ValueKind
from seqsup.model.profile import Profile
from seqsup.profile.fields import Key, keys, kind_of, table_in


def schema() -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "seqsup profile",
        "description": (Profile.__doc__ or "").strip(),
        **_of_table(Profile),
    }


def _of_table(table: type[Table]) -> Schema:
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


def _type_schema(hint: Any, kind: ValueKind | None) -> Schema:
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type_schema(get_args(hint)[0], kind)}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _type_schema(get_args(hint)[1], kind)}
    if table := table_in(hint):
        return {"anyOf": [kind.schema, _of_table(table)]} if kind else _of_table(table)
    return (kind or kind_of(hint)).schema


def _spell(default: Any, kind: ValueKind | None) -> Any:
    if isinstance(default, tuple):
        return [_spell(item, kind) for item in default]
    return kind.write(default) if kind else msgspec.to_builtins(default)
