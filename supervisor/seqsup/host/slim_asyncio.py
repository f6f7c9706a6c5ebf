"""asyncio without TLS: 4 MiB less, for as long as an agent runs. Whatever asks for `ssl` later gets it.

Import it before anything else imports asyncio.
"""

import sys

_BLOCKED = "ssl" not in sys.modules
if _BLOCKED:
    sys.modules["ssl"] = None  # type: ignore[assignment]

import asyncio  # noqa: E402

if _BLOCKED:
    del sys.modules["ssl"]

__all__ = ["asyncio"]
