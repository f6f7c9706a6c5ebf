"""asyncio without TLS, hashlib and hmac without OpenSSL: 8 MiB less, for as long as an agent runs.

Import it before anything else imports one of them. Whoever asks for `ssl` later gets it; Python's own digests take four
times as long, for the few bytes that are digested here.
"""

import sys

_UNUSED = [name for name in ("ssl", "_hashlib") if name not in sys.modules]
for _name in _UNUSED:
    sys.modules[_name] = None  # type: ignore[assignment]

import asyncio  # noqa: E402
import hashlib  # noqa: E402
import hmac  # noqa: E402

for _name in _UNUSED:
    del sys.modules[_name]

__all__ = ["asyncio", "hashlib", "hmac"]
