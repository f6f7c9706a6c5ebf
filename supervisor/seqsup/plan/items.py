"""The items of a profile's agents with for_each, without a plan. Read-only."""

import os
from collections.abc import Mapping

from seqsup.host import users
from seqsup.model.kinds import KeyPath
from seqsup.model.plan import Account
from seqsup.model.profile import AgentTable, Profile
from seqsup.plan.expand import numbered
from seqsup.plan.objections import no_items
from seqsup.plan.survey import Survey, Unreadable, read_items
from seqsup.profile.complaint import ProfileError, complaints


def find_items(profile: Profile, folder: str) -> Mapping[str, dict[str, str]]:
    """Return the items of each agent with for_each by the names of its copies. `folder` is that of the profile.

    ProfileError: they cannot be read, or an agent has none and must have some.
    """
    items: dict[str, dict[str, str]] = {}
    problems: dict[KeyPath, str] = {}
    for n, table in enumerate(profile.agents):
        if table.for_each is not None:
            items[table.name] = {}
            try:
                with users.acting_as(reader_of(table, profile)):
                    items[table.name] = numbered(table.name, read_items(table, folder), {})
            except Unreadable as error:
                problems["agents", n, "for_each", "lines"] = str(error)
    survey = Survey(folder=folder, memory=0, items=items, agents={}, problems=problems)
    wrong = [*problems.items(), *no_items(profile, survey, [name for name, found in items.items() if not found])]
    if wrong:
        raise ProfileError(complaints(profile, wrong))
    return items


def reader_of(table: AgentTable, profile: Profile) -> Account | None:
    """Return the user that root opens an agent's files as; None: the present one."""
    user = table.user or profile.run.user
    return users.look_up(user) if user and os.geteuid() == 0 else None
