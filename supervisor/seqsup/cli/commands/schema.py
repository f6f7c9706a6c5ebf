"""`seqsup schema`: the JSON Schema of profiles and of presets."""

import json

import click


@click.command(short_help="Print the JSON Schema of profiles, for editors.")
@click.option("--preset", is_flag=True, help="Print the schema of presets instead.")
def schema(preset: bool) -> None:
    """Print the JSON Schema of profiles; an editor completes and checks with it.

    \b
    seqsup schema > seqsup.schema.json
    and as the first line of a profile:
    #:schema ./seqsup.schema.json
    """
    from seqsup.profile.schema import preset_schema, schema

    click.echo(json.dumps(preset_schema() if preset else schema(), indent=2, ensure_ascii=False))
