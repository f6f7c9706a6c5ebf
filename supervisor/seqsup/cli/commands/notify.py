"""`seqsup notify --test`: one message to all recipients of a profile, and what came of it."""

import os

import click

from seqsup.cli import complete
from seqsup.errors import SeqsupError
from seqsup.text import printable, styled, wrap
from seqsup.view.terminal import width


@click.command()
@click.argument("profile", required=False, shell_complete=complete.profile)
@click.option("--test", is_flag=True, help="Send it now.")
def notify(profile: str | None, test: bool) -> int:
    """Send a test message to each recipient in PROFILE's [notify]. Exits 1 if one did not get it.

    Without PROFILE: agents.toml, or the only profile of the current folder. PROFILE may be another folder.
    """
    from seqsup.cli.load_plan import load
    from seqsup.cli.read_profile import profile_path
    from seqsup.host import notification

    if not test:
        raise click.UsageError("give --test to send a message")
    path = profile_path(profile)
    plan = load(path)
    rules = plan.notify
    if not (rules.to or rules.command):
        raise SeqsupError(f'{path} has no notifications: add [notify] with to = ["desktop"], or an address')
    title, body = f"seqsup {plan.name}: test", f"Notifications of {path} arrive here."
    told = [(where, "") for where in rules.shown]
    if rules.to:
        addresses = [notification.address(to, os.environ) for to in rules.to]
        given = notification.message(addresses, None, title, body)
        said, why = notification.run(notification.COMMAND, given, os.environ, rules.account)
        for number, each in notification.failures(rules.to, said, why).items():
            told[number] = rules.shown[number], each
    if rules.command:
        given, about = f"{title}\n\n{body}\n".encode(), {"SEQSUP_NOTICE": "test", "SEQSUP_TITLE": title}
        _, why = notification.run(rules.command, given, os.environ, rules.account, rules.cwd, **about)
        told.append((rules.command[0], why))
    for where, why in told:
        result = styled("red", f"not sent: {why}") if why else styled("green", "sent")
        click.echo("\n".join(wrap(f"{printable(where)}  {result}", width(), "  ")))
    return int(any(why for _, why in told))
