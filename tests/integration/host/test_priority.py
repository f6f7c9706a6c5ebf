"""Processor time for the supervisor."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.waiting import wait_for
from seqsup.host import priority
from seqsup.host.priority import Precedence


def test_precedence_is_taken_where_it_may_be_and_given_up_again() -> None:
    before, precedence = os.sched_getscheduler(0), Precedence()
    taken = precedence.take()
    try:
        assert (os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR) is taken
        child = subprocess.run(["sh", "-c", "ulimit -r; cat /proc/self/stat"], capture_output=True, check=True)
        assert child.stdout.split()[-12] == b"0", "a process that is started meanwhile is ordinary"
    finally:
        precedence.give_up()
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == before


def test_a_session_and_its_group_give_way() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            priority.lower(process.pid)
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
            session = Path(f"/proc/{process.pid}/autogroup")
            if not session.exists() or not session.read_text():
                pytest.skip("this kernel shares nothing among sessions")

            def changed(change: Callable[[], None], nice: int) -> bool:
                change()  # again: the kernel takes one in 0.1 s from all other users than root
                return session.read_text().endswith(f"nice {nice}\n")

            wait_for(lambda: changed(lambda: priority.lower(process.pid), 19))
            wait_for(lambda: changed(lambda: priority.restore_session([2**22, process.pid]), 0))
        finally:
            process.kill()
