"""A profile, or a worker, as a unit of systemd's, which gives seqsup a cgroup of its own. Pure text."""

import shlex
from pathlib import PurePath

from msgspec import Struct

from seqsup.model.plan import Plan
from seqsup.policy.watch import KILL_DEADLINE
from seqsup.units import GIB, write_size

_INTERRUPTED, _TERMED = 130, 143  # exit codes after SIGINT and SIGTERM: a stop that was asked for, no failure
_SPARE = 15.0  # seconds, for the last sweep and the journal
_WORKER = "seqsup-worker.service"
_WORKER_STOP = 120.0  # seconds, for the grace period and the drain of any job's agent
_GROUP = """\
# A group of its own, with limits for each agent; seqsup itself stays outside of them.
Delegate=yes
DelegateSubgroup=supervisor
# The kernel killed an agent: seqsup reports it and continues.
OOMPolicy=continue"""


class Service(Struct, frozen=True, kw_only=True):
    command: tuple[str, ...]  # what starts seqsup
    profile: str = ""
    variables: dict[str, str]  # that it needs as they are here
    log: str = ""  # where a timer writes memory
    system: bool  # the system's manager, else the user's


def write(service: Service, plan: Plan) -> str:
    """The unit's text, with how to enable it."""
    name = f"seqsup-{plan.name}.service"
    last = max((step.timeouts.grace + step.drain.timeout for step in plan.steps), default=0.0)
    return f"""\
# Save:    {_saving(service, "--systemd", name)}
{_head(service, name, f"the agents of {_plain(plan.name)}, one at a time")}
[Service]
Type=exec
ExecStart={" ".join(map(_quoted, (*service.command, "start", service.profile)))}
WorkingDirectory={_plain(str(PurePath(service.profile).parent))}
{_environment(service)}
{_GROUP}
# TERM is for seqsup alone: it stops the agent with its grace, and drains. What is left after that is killed.
KillMode=mixed
TimeoutStopSec={last + KILL_DEADLINE + _SPARE:.0f}
SuccessExitStatus={_TERMED}
{_tail(service)}"""


def write_worker(service: Service) -> str:
    """The text of a unit that carries jobs of the queue out, with how to enable it."""
    control = "systemctl" if service.system else "systemctl --user"
    return f"""\
# Save:    {_saving(service, "--unit worker", _WORKER)}
{_head(service, _WORKER, "a worker of the queue")}
[Service]
Type=exec
ExecStart={" ".join(map(_quoted, (*service.command, "work")))}
{_environment(service)}
{_GROUP}
# Stop: INT asks for an end after the running agent, and TERM for one now, with its grace. The job is resumed at the
# next start. To wait for the agent:  {control} kill --kill-whom=main {_WORKER}
ExecStop=/bin/kill -INT $MAINPID
KillMode=mixed
TimeoutStopSec={_WORKER_STOP:.0f}
SuccessExitStatus={_INTERRUPTED} {_TERMED}
Restart=on-failure
RestartSec=5
{_tail(service)}"""


def timer(service: Service, plan: Plan) -> str:
    """A timer that starts the unit every night, how to enable it, and the same for cron."""
    name = f"seqsup-{plan.name}"
    start = " ".join(map(shlex.quote, (*service.command, "start", service.profile)))
    watch = _watch(service, plan)
    variables = "\n".join(f"#   {key}={value}" for key, value in service.variables.items())
    return f"""\
# Save:    {_saving(service, "--timer", f"{name}.timer")}
# Enable:  {_enabling(service, f"{name}.timer")}
# Memory:  {shlex.join((*service.command, "init", service.profile, "--memory", "--systemd", "--timer"))}
#          (prints a service and a timer that log memory every five minutes)
# Without systemd, as lines of `crontab -e`: the run; and every five minutes, memory.
{variables}
#   0 2 * * *    {_cron(start)} --quiet
#   */5 * * * *  {_cron(shlex.join(watch))} || echo 'memory is above {watch[-1]}' | logger -t {name}

[Unit]
Description=seqsup: the agents of {_plain(plan.name)}, every night

[Timer]
OnCalendar=*-*-* 02:00:00
# A machine that slept makes up for it, and an active run is not started twice.
Persistent=true

[Install]
WantedBy=timers.target
"""


def write_memory(service: Service, plan: Plan) -> str:
    """A unit that logs memory once, with how to save it."""
    return f"""\
# Save:    {_saving(service, "--memory --systemd", f"seqsup-{plan.name}-memory.service")}

[Unit]
Description=seqsup: memory of the active run, as a line of JSON

[Service]
Type=oneshot
# The threshold is the profile's largest memory.soft. Above it the exit code is 1, so systemd lists the unit as failed.
ExecStart={" ".join(map(_quoted, _watch(service, plan)))}
{_environment(service)}
"""


def memory_timer(service: Service, plan: Plan) -> str:
    """A timer that logs memory every five minutes, with how to enable it."""
    name = f"seqsup-{plan.name}-memory.timer"
    return f"""\
# Save:    {_saving(service, "--memory --timer", name)}
# Enable:  {_enabling(service, name)}

[Unit]
Description=seqsup: memory of the active run, every five minutes

[Timer]
OnCalendar=*:0/5

[Install]
WantedBy=timers.target
"""


def _head(service: Service, name: str, what: str) -> str:
    control = "systemctl" if service.system else "systemctl --user"
    linger = "" if service.system else "# To run while nobody is logged in:  loginctl enable-linger\n"
    online = "Wants=network-online.target\nAfter=network-online.target\n" if service.system else ""
    return f"""\
# Enable:  {control} daemon-reload && {control} enable --now {name}
{linger}
[Unit]
Description=seqsup: {what}
{online}"""


def _tail(service: Service) -> str:
    return f"""
[Install]
WantedBy={"multi-user" if service.system else "default"}.target
"""


def _watch(service: Service, plan: Plan) -> tuple[str, ...]:
    """Return the command that logs memory, with the threshold as its last word."""
    largest = max((step.limits.soft or step.limits.hard or 0 for step in plan.steps), default=0)
    return (*service.command, "mem", "--log", service.log, "--threshold", write_size(largest or GIB))


def _environment(service: Service) -> str:
    return "\n".join(f"Environment={_quoted(f'{key}={value}', dollar='$')}" for key, value in service.variables.items())


def _enabling(service: Service, timer: str) -> str:
    control = "systemctl" if service.system else "systemctl --user"
    return f"{control} daemon-reload && {control} enable --now {timer}   (the timer, not its service)"


def _saving(service: Service, options: str, name: str) -> str:
    """The command that puts a text of ours where systemd finds it."""
    profile = (service.profile,) if service.profile else ()
    words = shlex.join((*service.command, "init", *profile, *options.split()))
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
