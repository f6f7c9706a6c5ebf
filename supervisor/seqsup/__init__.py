"""seqsup runs AI agents strictly one at a time, each in a contained process tree."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqsup.running import run

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> object:
    """Import `run` when it is asked for: `seqsup --version` must not pay for it."""
    if name == "run":
        from seqsup.running import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
