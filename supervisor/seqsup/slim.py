"""asyncio without TLS, for which the supervisor has no use: 3.8 MiB less, for as long as an agent runs.

Import it before anything else imports asyncio. Whoever asks for `ssl` later gets it.
"""

import sys

_ABSENT = "ssl" not in sys.modules
if _ABSENT:
    sys.modules["ssl"] = None  # type: ignore[assignment]

import asyncio  # noqa: E402

if _ABSENT:
    del sys.modules["ssl"]

__all__ = ["asyncio"]
