"""A worker of a fleet with a trivial CarryOut: `carries.py URL NAME [SLOTS] [--until-empty]`.

It runs the command of each job as a child in its own process group, in the job's folder. SIGTERM: no further job.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from seqsup.model.enums import Halt
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.jobs import JobResult
from seqsup.queue.store import Lease, Unfinished
from seqsup.runner.stop_request import StopRequest

url, name, slots = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1
stop = StopRequest()


async def carry_out(lease: Lease) -> JobResult:
    taken = lease.taken
    environment = {**os.environ, "WORKER": name, "NUMBER": str(taken.number), "LOST": str(taken.lost)}
    state = os.environ["SEQSUP_STATE_DIR"]
    attempt = Path(state, "runs", f"r{taken.number}", "sh", "1")
    attempt.mkdir(parents=True, exist_ok=True)
    with (attempt / "stdout.log").open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *taken.order.command, cwd=taken.order.folder, env=environment, stdout=output
        )
    lease.begin(f"r{taken.number}", state)
    lease.note("works")
    asked = Halt.NONE
    while child.returncode is None:
        asked = max(asked, lease.wanted())
        if max(asked, stop.halt) >= Halt.NOW:
            child.kill()
        await asyncio.wait([asyncio.ensure_future(child.wait())], timeout=0.05)
    if child.returncode < 0 and not asked and stop.halt:
        raise Unfinished("its worker stopped")
    if child.returncode == 77:
        raise Unfinished("its supervisor was killed", lost=True)
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return JobResult(exit_code=code, run=f"r{taken.number}", cancelled=asked >= Halt.AFTER_AGENT)


async def main() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.interrupt, signal.SIGTERM)
    queue = FleetQueue(url)
    queue.say = lambda text: print(text, file=sys.stderr, flush=True)
    print("serves", file=sys.stderr, flush=True)
    await queue.serve(
        name, carry_out, slots=slots, until_empty="--until-empty" in sys.argv, open_now=lambda: True, stop=stop
    )


asyncio.run(main())
