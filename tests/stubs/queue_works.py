"""A worker whose jobs write their number to a file and take some time: NAME FILE SECONDS. SIGTERM stops it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import JobResult
from seqsup.queue.store import Lease
from seqsup.runner.stop_request import StopRequest

name, file, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])


async def carry_out(lease: Lease) -> JobResult:
    with open(file, "a") as ledger:  # noqa: PTH123
        ledger.write(f"{lease.taken.number}\n")
    await asyncio.sleep(seconds)
    return JobResult(exit_code=0, run=None)


async def main() -> None:
    queue, stop = EmbeddedQueue(Path(os.environ["SEQSUP_STATE_DIR"])), StopRequest()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.interrupt, signal.SIGTERM)
    await queue.serve(name, carry_out, slots=1, until_empty=False, open_now=lambda: True, stop=stop)
    queue.close()


asyncio.run(main())
