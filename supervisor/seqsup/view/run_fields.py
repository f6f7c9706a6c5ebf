"""A run as programs get it, in `status --json` and `report --json`: its moments are timestamps."""

from collections.abc import Iterable
from typing import Any

from seqsup.model.run_view import RunView
from seqsup.view.ndjson import timestamp


def of_run(view: RunView) -> dict[str, Any]:
    """Return the fields of a run."""
    fields = view.fields()
    date([fields], "started", "resumed", "ended")
    date((*fields["agents"].values(), *fields["hooks"]), "started", "ended", "retry_at", "limit_until")
    return fields


def date(tables: Iterable[dict[str, Any]], *keys: str) -> None:
    """Replace moments, in seconds since the epoch, by timestamps."""
    for table in tables:
        table.update({key: timestamp(table[key]) for key in keys if table.get(key) is not None})
