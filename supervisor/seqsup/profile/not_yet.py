"""What a profile may ask for and seqsup cannot do yet."""

from collections.abc import Iterator

from .lines import Path
from .tables import Profile


def refused(profile: Profile) -> Iterator[tuple[Path, str]]:
    """Keys whose value asks for a promise that cannot be kept yet."""
    if profile.run.concurrency > 1 and profile.run.allow_concurrency:
        yield ("run", "concurrency"), "more than one agent at a time is not built yet; leave it at 1"
