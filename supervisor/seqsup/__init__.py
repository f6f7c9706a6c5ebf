"""seqsup runs AI agents strictly one at a time, each in a contained process tree."""

__version__ = "0.1.0"
