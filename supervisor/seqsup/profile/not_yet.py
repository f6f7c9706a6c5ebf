"""What a profile may say and seqsup does not do yet. An issue that builds one deletes its line here."""

from collections.abc import Iterator

from .lines import Path
from .tables import Profile

# Accepted, no effect yet: key (or table) -> what is missing.
ACCEPTED = {
    "agents.preset": "presets are not known",
    "agents.success.command": "the command is not run",
}


def accepted(profile: Profile) -> tuple[str, ...]:
    """The keys that the profile sets and that have no effect, each with its reason."""
    found = {}
    for key in profile.given:
        shared = key.removeprefix("agents.")
        for known, why in ACCEPTED.items():
            if known in (key, shared) or key.startswith(known + "."):
                found[known] = why
    return tuple(f"{key}: {why}" for key, why in found.items())


def refused(profile: Profile) -> Iterator[tuple[Path, str]]:
    """Keys whose value asks for a promise that cannot be kept yet."""
    if profile.run.concurrency > 1 and profile.run.allow_concurrency:
        yield ("run", "concurrency"), "more than one agent at a time is not built yet; leave it at 1"
