"""`seqsup completion`: what makes a shell complete commands, options, agents and runs."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_SEQSUP_COMPLETE"  # set by the script when it asks us


@click.command(short_help="The script that makes a shell complete.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, agents of the profile and runs.

    \b
    bash  seqsup completion bash > ~/.local/share/bash-completion/completions/seqsup
    zsh   seqsup completion zsh > "${fpath[1]}/_seqsup"
    fish  seqsup completion fish > ~/.config/fish/completions/seqsup.fish
    """
    from . import seqsup

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(seqsup, {}, "seqsup", VARIABLE).source())
