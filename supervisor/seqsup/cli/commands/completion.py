"""`seqsup completion`: what makes a shell complete commands, options, agents and runs."""

import click
from click.shell_completion import get_completion_class

from seqsup.cli.app import COMPLETE, seqsup


@click.command(short_help="Print the shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, agents of the profile and runs.

    \b
    bash  echo 'eval "$(seqsup completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(seqsup completion zsh)"' >> ~/.zshrc  (behind compinit)
    fish  echo 'seqsup completion fish | source' >> ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(seqsup, {}, "seqsup", COMPLETE).source())
