"""`seqsup`, and `python -m seqsup`."""

from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal


def main() -> int:
    """Load the command line and answer. A Ctrl-C while it loads ends us like any program; `cli` then takes it over."""
    if getsignal(SIGINT) is default_int_handler:  # else it is ignored
        signal(SIGINT, SIG_DFL)
    from seqsup.cli.app import main as answer

    return answer()


if __name__ == "__main__":
    raise SystemExit(main())
