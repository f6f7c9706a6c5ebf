"""A terminal, for tests of the command line."""

from helpers.terminals import terminal

__all__ = ["terminal"]
