"""Hooks of mkdocs: links out of `docs/` lead to the repository, and pages stand in the order of docs/index.md."""

import re
from pathlib import Path
from typing import Any

_TABS = ("Home", "Tutorial", "How to", "Reference", "Explanation", "Contributing")
_OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:profiles|grafana|supervisor|tests|benchmarks|\.github|[A-Z]+\.md)[^)]*)\)")
_LINKED = re.findall(r"\]\(([\w/-]+\.md)\)", (Path(__file__).parent / "index.md").read_text(encoding="utf-8"))
_LAST = len(_LINKED)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files of the repository. Remove a comment before the title, which would hide it."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    return _OUTSIDE.sub(rf"]({config.repo_url}/blob/main/\1)", re.sub(r"\A<!--.*-->\s*", "", markdown))


def on_nav(nav: Any, **_: Any) -> Any:
    """Sort tabs and pages."""
    nav.items.sort(key=lambda item: _TABS.index(item.title if item.title in _TABS else "Home"))
    for section in nav.items:
        if section.children:
            section.children.sort(key=_place)
    return nav


def _place(page: Any) -> int:
    return _LINKED.index(page.file.src_uri) if page.file.src_uri in _LINKED else _LAST
