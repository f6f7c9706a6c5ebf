"""The process that sends notifications: how it is started, what it is given and what it answers."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from seqsup.host import users
from seqsup.model.enums import Notice
from seqsup.model.plan import Account

SENDER = str(Path(__file__).with_name("notification_main.py"))
COMMAND = (sys.executable, "-P", "-X", "utf8", SENDER)
PATIENCE = 30.0  # seconds for one message
_TYPES = {Notice.DONE: "success", Notice.FAILED: "failure", None: "info"}  # all others: a warning


def address(to: str, environ: Mapping[str, str]) -> str:
    """Return where a recipient of the profile is: itself, or what its variable holds. KeyError if that is not set."""
    return environ[to[1:]] if to.startswith("$") else to


def message(addresses: Sequence[str], notice: Notice | None, title: str, body: str) -> bytes:
    """Return what the sender gets on stdin. Of no kind is a test."""
    kind = _TYPES.get(notice, "warning")
    return json.dumps({"check": False, "to": list(addresses), "title": title, "body": body, "type": kind}).encode()


def failures(to: Sequence[object], said: str, why: str) -> dict[int, str]:
    """Return by number why recipients did not get the message. `why` is what the sender itself died of, if it did."""
    answers = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    told = {number: answers.get(str(number), why or "the sender does not say why") for number in range(len(to))}
    return {number: answer for number, answer in told.items() if answer != "ok"}


def unfit(to: Sequence[str], environ: Mapping[str, str], account: Account | None) -> dict[int, str]:
    """Return by number what is wrong with recipients, as a profile lists them. Nothing is sent."""
    unset = {n: f"{each[1:]} is not set in the environment" for n, each in enumerate(to) if _unset(each, environ)}
    rest = {n: address(each, environ) for n, each in enumerate(to) if n not in unset}
    by_apprise = [n for n, each in rest.items() if each != "desktop"]
    if by_apprise and find_spec("apprise") is None:
        from seqsup.host.installation import command_to_add  # 1 MiB

        return unset | {by_apprise[0]: f"needs Apprise, which is not installed: {command_to_add('apprise')}"}
    said, why = run(COMMAND, json.dumps({"check": True, "to": [*rest.values()]}).encode(), environ, account)
    if why and account is not None:
        why += f"; {account.name} must be able to read the installation of seqsup, or use notify.command"
    return unset | {[*rest][n]: told for n, told in failures([*rest], said, why).items()}


def _unset(to: str, environ: Mapping[str, str]) -> bool:
    return to.startswith("$") and not environ.get(to[1:])


def run(
    command: Sequence[str], given: bytes, environ: Mapping[str, str], account: Account | None, cwd: str = "/",
    **more: str,
) -> tuple[str, str]:  # fmt: skip
    """Run the sender, or another command, to its end as that user. Return what it printed, and why it failed, if so.

    `more` are variables that it gets.
    """
    become = users.becoming(account) if account is not None else []
    env = users.environment(account, environ) | more
    try:
        ended = subprocess.run(
            [*become, *command], input=given, env=env, cwd=cwd, capture_output=True, timeout=PATIENCE, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace"), f"no answer in {PATIENCE:g} s"
    except OSError as error:
        return "", f"{command[0]} cannot be started: {error.strerror}"
    last = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit {ended.returncode}"
    return ended.stdout.decode(errors="replace"), last if ended.returncode else ""
