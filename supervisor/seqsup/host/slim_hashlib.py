"""hashlib and hmac without OpenSSL: 4 MiB less, for as long as an agent runs.

Import it before anything else imports one of them. Python's own digests take four times as long, for the few bytes that
are digested here.
"""

import sys

_BLOCKED = "_hashlib" not in sys.modules
if _BLOCKED:
    sys.modules["_hashlib"] = None  # type: ignore[assignment]

import hashlib  # noqa: E402
import hmac  # noqa: E402

if _BLOCKED:
    del sys.modules["_hashlib"]

__all__ = ["hashlib", "hmac"]
