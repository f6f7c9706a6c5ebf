"""A profile as a unit of systemd's, which gives seqsup a cgroup of its own. Pure text."""

from pathlib import PurePath

from msgspec import Struct

from .model import Plan
from .policy import KILL_DEADLINE

_TERMED = 143  # what seqsup exits with after SIGTERM: a stop that was asked for, no failure
_SPARE = 15.0  # seconds, for the last sweep and the journal


class Service(Struct, frozen=True, kw_only=True):
    command: tuple[str, ...]  # what starts seqsup
    profile: str
    path: str  # PATH
    system: bool  # the system's manager, else the user's


def write(service: Service, plan: Plan) -> str:
    """The unit's text, with how to enable it."""
    name = f"seqsup-{plan.name}.service"
    control = "systemctl" if service.system else "systemctl --user"
    folder = "/etc/systemd/system" if service.system else "~/.config/systemd/user"
    linger = "" if service.system else "# To run while nobody is logged in:  loginctl enable-linger\n"
    online = "Wants=network-online.target\nAfter=network-online.target\n" if service.system else ""
    last = max((step.timeouts.grace + step.drain.timeout for step in plan.steps), default=0.0)
    return f"""\
# Save:    seqsup doctor {service.profile} --unit > {folder}/{name}
# Enable:  {control} daemon-reload && {control} enable --now {name}
{linger}
[Unit]
Description=seqsup: the agents of {_plain(plan.name)}, one at a time
{online}
[Service]
Type=exec
ExecStart={" ".join(map(_quoted, (*service.command, "start", service.profile)))}
WorkingDirectory={_plain(str(PurePath(service.profile).parent))}
Environment={_quoted("PATH=" + service.path, dollar="$")}
# A group of its own, with limits for each agent; seqsup itself stays outside of them.
Delegate=yes
DelegateSubgroup=supervisor
# The kernel killed an agent: seqsup tells and goes on.
OOMPolicy=continue
# TERM is for seqsup alone: it stops the agent with its grace, and drains. What is left after that is killed.
KillMode=mixed
TimeoutStopSec={last + KILL_DEADLINE + _SPARE:.0f}
SuccessExitStatus={_TERMED}

[Install]
WantedBy={"multi-user" if service.system else "default"}.target
"""


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str, *, dollar: str = "$$") -> str:
    """One word, as systemd reads it: % and, in commands, $ mean something."""
    word = _plain(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", dollar)
    return f'"{word}"' if not word or any(character in " \t'\";" for character in word) else word
