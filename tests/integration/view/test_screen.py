"""The lines that a run redraws on its terminal."""

import os
import pty
import termios
from contextlib import closing

from seqsup.view.screen import Screen


def echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_keys_leave_no_lines_behind_and_the_terminal_is_as_before() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
        before = termios.tcgetattr(theirs)
        with closing(Screen(stream)):
            assert not echoes(theirs)
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
