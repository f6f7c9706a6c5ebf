"""Replace ~ in the paths of a profile with the home of the user whose process uses the path."""

import os
import pwd
from collections.abc import Callable

from msgspec.structs import replace

from seqsup.model.profile import AgentTable, Profile
from seqsup.profile.placeholders import quote
from seqsup.state.run_folder import at_home


def with_homes(profile: Profile) -> Profile:
    """Replace the ~ of cwd, stdin_file, success.file, for_each.glob, for_each.lines and workspace.git."""
    user = profile.run.user
    agents = tuple(_agent(agent, _home(agent.user or user)) for agent in profile.agents)
    companions = tuple(replace(each, cwd=_under(_home(user), each.cwd)) for each in profile.companions)
    own = profile.workspace
    own = own and replace(own, git=_under(_home(user), own.git))
    return replace(profile, agents=agents, companions=companions, workspace=own)


def _agent(table: AgentTable, home: Callable[[], str]) -> AgentTable:
    def filled(path: str) -> str:
        return _under(lambda: quote(home()), path)  # placeholders are filled in later

    each, success = table.for_each, table.success
    if each is not None:
        each = replace(each, glob=each.glob and _under(home, each.glob), lines=each.lines and _under(home, each.lines))
    return replace(
        table, cwd=filled(table.cwd), stdin_file=table.stdin_file and filled(table.stdin_file), for_each=each,
        success=replace(success, file=success.file and filled(success.file)),
    )  # fmt: skip


def _under(home: Callable[[], str], path: str) -> str:
    return home() + path[1:] if path == "~" or path.startswith("~/") else path


def _home(user: str | None) -> Callable[[], str]:
    """Look a home up when a path needs it. That of a user who does not exist stays `~`: the user is refused."""

    def look_up() -> str:
        if not user:
            return str(at_home("~"))
        try:
            other = pwd.getpwnam(user)
        except KeyError:
            return "~"
        return str(at_home("~")) if other.pw_uid == os.geteuid() else other.pw_dir

    return look_up
