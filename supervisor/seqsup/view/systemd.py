"""A profile as a unit of systemd's, which gives seqsup a cgroup of its own. Pure text."""

import shlex
from pathlib import PurePath

from msgspec import Struct

from seqsup.model.plan import Plan
from seqsup.policy.watch import KILL_DEADLINE
from seqsup.units import GIB, write_size

_TERMED = 143  # what seqsup exits with after SIGTERM: a stop that was asked for, no failure
_SPARE = 15.0  # seconds, for the last sweep and the journal


class Service(Struct, frozen=True, kw_only=True):
    command: tuple[str, ...]  # what starts seqsup
    profile: str
    variables: dict[str, str]  # that it needs as they are here
    log: str  # where a timer writes memory
    system: bool  # the system's manager, else the user's


def write(service: Service, plan: Plan) -> str:
    """The unit's text, with how to enable it."""
    name = f"seqsup-{plan.name}.service"
    control = "systemctl" if service.system else "systemctl --user"
    linger = "" if service.system else "# To run while nobody is logged in:  loginctl enable-linger\n"
    online = "Wants=network-online.target\nAfter=network-online.target\n" if service.system else ""
    variables = "\n".join(
        f"Environment={_quoted(f'{key}={value}', dollar='$')}" for key, value in service.variables.items()
    )
    last = max((step.timeouts.grace + step.drain.timeout for step in plan.steps), default=0.0)
    return f"""\
# Save:    {_saving(service, "--systemd", name)}
# Enable:  {control} daemon-reload && {control} enable --now {name}
{linger}
[Unit]
Description=seqsup: the agents of {_plain(plan.name)}, one at a time
{online}
[Service]
Type=exec
ExecStart={" ".join(map(_quoted, (*service.command, "start", service.profile)))}
WorkingDirectory={_plain(str(PurePath(service.profile).parent))}
{variables}
# A group of its own, with limits for each agent; seqsup itself stays outside of them.
Delegate=yes
DelegateSubgroup=supervisor
# The kernel killed an agent: seqsup reports it and continues.
OOMPolicy=continue
# TERM is for seqsup alone: it stops the agent with its grace, and drains. What is left after that is killed.
KillMode=mixed
TimeoutStopSec={last + KILL_DEADLINE + _SPARE:.0f}
SuccessExitStatus={_TERMED}

[Install]
WantedBy={"multi-user" if service.system else "default"}.target
"""


def timer(service: Service, plan: Plan) -> str:
    """A timer that starts the unit every night, how to enable it, and the same for cron."""
    name = f"seqsup-{plan.name}"
    control = "systemctl" if service.system else "systemctl --user"
    start = " ".join(map(shlex.quote, (*service.command, "start", service.profile)))
    largest = max((step.limits.soft or step.limits.hard or 0 for step in plan.steps), default=0)
    variables = "\n".join(f"#   {key}={value}" for key, value in service.variables.items())
    most = write_size(largest or GIB)
    watch = " ".join(map(shlex.quote, (*service.command, "mem", "--log", service.log, "--threshold", most)))
    user = "" if service.system else "--user "
    return f"""\
# Save:    {_saving(service, "--timer", f"{name}.timer")}
# Enable:  {control} daemon-reload && {control} enable --now {name}.timer   (the timer, not its service)
# Watch:   systemd-run {user}--unit={name}-memory --on-calendar='*:0/5' {watch}   (logs memory, until the next boot)
# Without systemd, as lines of `crontab -e`: the run; and every five minutes, memory.
{variables}
#   0 2 * * *    {_cron(start)} --quiet
#   */5 * * * *  {_cron(watch)} || echo 'memory is above {most}' | logger -t {name}

[Unit]
Description=seqsup: the agents of {_plain(plan.name)}, every night

[Timer]
OnCalendar=*-*-* 02:00:00
# A machine that slept makes up for it, and an active run is not started twice.
Persistent=true

[Install]
WantedBy=timers.target
"""


def _saving(service: Service, option: str, name: str) -> str:
    """The command that puts a text of ours where systemd finds it."""
    words = shlex.join((*service.command, "init", service.profile, option))
    if service.system:
        return f"{words} > /etc/systemd/system/{name}"
    return f"mkdir -p ~/.config/systemd/user && {words} > ~/.config/systemd/user/{name}"


def _cron(command: str) -> str:
    return command.replace("%", "\\%")  # else the end of the line


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str, *, dollar: str = "$$") -> str:
    """One word, as systemd reads it: % and, in commands, $ mean something."""
    word = _plain(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", dollar)
    return f'"{word}"' if not word or any(character in " \t'\";" for character in word) else word
