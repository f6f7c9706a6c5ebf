"""The help page of a command, also for a narrow terminal."""

from collections.abc import Iterable

import click

_LEAST = 20  # columns


class HelpPage(click.HelpFormatter):
    """Formats a page also for less than 50 columns, which are click's least."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        import shutil  # only a help page needs it

        super().__init__(indent_increment, width, max_width)
        self.width = min(self.width, max(shutil.get_terminal_size().columns - 2, _LEAST))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, self.width // 3) if self.width < 50 else col_max, col_spacing)

    def getvalue(self) -> str:
        """Return the page. Lines that a text has broken itself are broken again where they do not fit."""
        from seqsup.text import wrap

        lines = super().getvalue().split("\n")
        return "\n".join(part for line in lines for part in wrap(line, self.width + 2, " " * 4))
