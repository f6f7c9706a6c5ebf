"""Values that a JSON Schema describes, right and wrong."""

from typing import Any

from hypothesis import strategies as st

_ODD: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=12), st.integers(-(2**64), 2**64), st.floats(), st.booleans(), st.just([]), st.just({}),
    st.sampled_from(["", "\x1b[2J", "\u202e", "{", "{item}", "{summary:a}", "none", "auto", "9h"]),
    st.sampled_from(["9" * 30, "a" * 70_000]),
)  # fmt: skip


def fitting(schema: dict[str, Any], odd: float = 0.1) -> st.SearchStrategy[Any]:
    """Values for a schema; of its parts about the share `odd` have any other value."""
    return st.floats(0, 1).flatmap(lambda drawn: _ODD if drawn < odd else _fit(schema, odd))


def _fit(schema: dict[str, Any], odd: float) -> st.SearchStrategy[Any]:
    if "anyOf" in schema:
        return st.one_of([fitting(each, odd) for each in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type", "string")
    if kind == "object":
        return _table(schema, odd)
    if kind == "array":
        return st.lists(fitting(schema.get("items", {}), odd), max_size=3)
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "number"):
        least = schema.get("minimum", 0)
        return st.integers(least, min(schema.get("maximum", least + 100), least + 100))
    return st.sampled_from(["a", "b", "true", "1", "2s", "64M", "1GiB", "x/y", "{{", "{task}", "127.0.0.1:1", "^a+$"])


def _table(schema: dict[str, Any], odd: float) -> st.SearchStrategy[Any]:
    """Draw only a few of dozens of keys, or hardly a profile would have no mistake."""
    known, required = schema.get("properties", {}), set(schema.get("required", ()))
    strange = st.dictionaries(st.text(max_size=4), _ODD, min_size=1, max_size=1)

    def of(names: set[str]) -> st.SearchStrategy[Any]:
        table = st.fixed_dictionaries({name: fitting(known[name], odd) for name in sorted(names | required)})
        return st.one_of(table, table, table, st.tuples(table, strange).map(lambda both: both[0] | both[1]))

    return st.sets(st.sampled_from(sorted(known)), max_size=4).flatmap(of) if known else st.just({})
