"""Hooks of mkdocs: links out of `docs/` lead to the repository, and the tabs have a fixed order."""

import re
from typing import Any

_TABS = ("Home", "Tutorial", "How to", "Reference", "Explanation", "Contributing")
_OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:profiles|grafana|supervisor|tests|benchmarks|\.github|[A-Z]+\.md)[^)]*)\)")


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Replace links to files of the repository that are no pages."""
    return _OUTSIDE.sub(rf"]({config.repo_url}/blob/main/\1)", markdown)


def on_nav(nav: Any, **_: Any) -> Any:
    """Sort the top level."""
    nav.items.sort(key=lambda item: _TABS.index(item.title if item.title in _TABS else "Home"))
    return nav
