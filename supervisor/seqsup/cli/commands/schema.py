"""`seqsup schema`: the JSON Schema of profiles."""

import json

import click


@click.command(short_help="Print the JSON Schema of profiles, for editors.")
def schema() -> None:
    """Print the JSON Schema of profiles; an editor completes and checks with it.

    \b
    seqsup schema > seqsup.schema.json
    and as the first line of a profile:
    #:schema ./seqsup.schema.json
    """
    from seqsup.profile.schema import schema as describe

    click.echo(json.dumps(describe(), indent=2, ensure_ascii=False))
