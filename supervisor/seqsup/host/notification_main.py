"""Sends one message, in a process of its own: Apprise needs 50 MiB, and a second or more to load.

It is started by its path and imports nothing of seqsup. On stdin is one JSON object, so that no address is among its
arguments. It prints a line for each recipient: its number, and `ok` or why not, without any part of its address.
"""

import html
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import unquote

DESKTOP = "desktop"
OK = "ok"
_NO_TOOL = "notify-send is not installed: install libnotify-bin (on Fedora and Arch: libnotify)"
_SERVICES = "https://appriseit.com/services/"
_SECONDS = 20  # for notify-send, which waits for a service that may hang
_said: ContextVar[list[str]] = ContextVar("said", default=[])  # noqa: B039  (what is no message's is dropped)
_APP: dict[str, Any] = {"app_id": "seqsup", "app_desc": "seqsup", "app_url": "https://github.com/seqsup/seqsup"}


def main() -> None:
    asked = json.load(sys.stdin)
    message = {key: asked[key] for key in ("title", "body", "type") if key in asked}
    handle = _check if asked["check"] else lambda to: _send(to, **message)
    if any(to != DESKTOP for to in asked["to"]):
        import apprise  # noqa: F401  (once, before the threads)

        logging.getLogger("apprise").addHandler(_Listener(logging.WARNING))
    threads = [threading.Thread(target=_answer, args=(number, to, handle)) for number, to in enumerate(asked["to"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _answer(number: int, to: str, handle: Callable[[str], str]) -> None:
    try:
        told = handle(to)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    print(f"{number} {_without(to, told)}\n", end="", flush=True)  # noqa: T201  (one write: threads share the line)


def _check(to: str) -> str:
    """Say whether messages could be sent there, without sending any."""
    if to == DESKTOP:
        return OK if shutil.which("notify-send") else _NO_TOOL
    if _service(to) is not None:
        return OK
    from apprise.manager_plugins import NotificationManager

    services: Any = NotificationManager
    scheme, there, _ = to.partition("://")
    if not there:
        return "not an address: it has no scheme://"
    if scheme.lower() in services().schemas():
        return f"Apprise cannot read this {scheme}:// address; its forms are at {_SERVICES}"
    return f"Apprise knows no service {scheme}://; those it knows are at {_SERVICES}"


def _send(to: str, title: str, body: str, type: str) -> str:
    if to == DESKTOP:
        return _on_desktop(title, body, urgent=type == "failure")
    import apprise

    service = _service(to)
    if service is None:
        return _check(to)
    said: list[str] = []
    _said.set(said)
    sent = apprise.Apprise(service, asset=service.asset).notify(
        title=title, body=body, notify_type=type, body_format=apprise.NotifyFormat.TEXT
    )
    return OK if sent else "".join(said[-1:]) or "the service did not take it"


def _service(to: str) -> Any:
    """Return what sends there; None if Apprise cannot read the address. A plain https:// gets JSON by POST."""
    import apprise

    asset = apprise.AppriseAsset(**_APP)
    found = apprise.Apprise.instantiate(to, asset=asset)
    if found is None and re.match("https?://", to, re.IGNORECASE):
        address, mark, query = re.sub("^http", "json", to, flags=re.IGNORECASE).partition("?")
        own = mark + re.sub("(?<=&)|^", "-", query) if query else ""  # Apprise sends on what begins with a -
        found = apprise.Apprise.instantiate(address + own, asset=asset)
    return found


def _on_desktop(title: str, body: str, *, urgent: bool) -> str:
    env, bus = dict(os.environ), Path(f"/run/user/{os.getuid()}/bus")
    if not env.get("DBUS_SESSION_BUS_ADDRESS"):
        if not bus.exists():
            return f"no desktop session: DBUS_SESSION_BUS_ADDRESS is not set, and {bus} does not exist"
        env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
    urgency = "critical" if urgent else "normal"  # the first stays until it is clicked away
    command = ["notify-send", "--app-name=seqsup", f"--urgency={urgency}", "--", title, html.escape(body, quote=False)]
    try:
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        return _NO_TOOL
    except subprocess.TimeoutExpired:
        return f"notify-send took more than {_SECONDS} s"
    return OK if ended.returncode == 0 else ended.stderr.strip() or f"notify-send: exit {ended.returncode}"


class _Listener(logging.Handler):
    """Collects what Apprise logs of a message that it could not send, also in threads that it starts for that."""

    def emit(self, record: logging.LogRecord) -> None:
        _said.get().append(record.getMessage())


def _without(to: str, told: str) -> str:
    """Take every part of an address out of a text."""
    rest = to.partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in re.split(r"[/:@?&=#,]+", text) if len(part) > 2}
    for part in sorted(parts, key=len, reverse=True):
        told = told.replace(part, "…")
    return " ".join(told.split())


if __name__ == "__main__":
    main()
