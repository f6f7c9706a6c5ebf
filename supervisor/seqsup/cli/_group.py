"""A command with commands below it."""

import click


class Group(click.Group):
    """Tells of a command that it has not."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            from seqsup.text import nearest  # slips are rare

            raise click.UsageError(f'no command "{args[0]}"{nearest(args[0], known)}', ctx)
        return super().resolve_command(ctx, args)
