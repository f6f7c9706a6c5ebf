"""The JSON Schema of profiles, from the same types that read them."""

from typing import Any

from msgspec import NODEFAULT, UNSET

from seqsup.model.kinds import Schema, Table, ValueKind
from seqsup.model.preset import Preset
from seqsup.model.profile import SHARED, AgentTable, Profile
from seqsup.profile.fields import Key, keys


def preset_schema() -> Schema:
    described = _of_table(Preset)
    of_agent = keys(AgentTable)
    tables = {name: _of_table(table) for name in SHARED if (table := of_agent[name].table) is not None}
    described["properties"]["keys"] |= {"additionalProperties": False, "properties": tables}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "seqsup preset",
        "description": (Preset.__doc__ or "").strip(),
        **described,
    }


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
    for name in table.must_have:
        described["properties"][name].pop("default", None)  # it never applies
    if table.must_have:
        described["required"] = list(table.must_have)
    if table.must_have_one:
        described["oneOf"] = [{"required": [name]} for name in table.must_have_one]
    return described


def _key_schema(key: Key) -> Schema:
    described: Schema = {"description": key.description, **_values_schema(key)}
    if not isinstance(key.default, Table) and key.default not in (UNSET, NODEFAULT, None):
        described["default"] = _spell(key.default, key.kind)
    elif key.default is None and key.kind and key.kind.off is not None:
        described["default"] = key.kind.off
    return described | key.schema


def _values_schema(key: Key) -> Schema:
    forms = [key.kind.schema] if key.kind else []
    forms += [_of_table(key.table)] if key.table else []
    one = forms[0] if len(forms) == 1 else {"anyOf": forms}
    if key.many is tuple:
        return {"type": "array", "items": one}
    return {"type": "object", "additionalProperties": one} if key.many is dict else one


def _spell(default: Any, kind: ValueKind | None) -> Any:
    if isinstance(default, tuple):
        return [_spell(item, kind) for item in default]
    return kind.write(default) if kind else default
