"""The peer of a fleet: so many plain tasks of Procrastinate, each of which runs /bin/true, on so many workers.

Print the seconds from the start of the first until the end of the last.
"""

import asyncio
import subprocess
import sys

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONValue

url, number, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
app = App(connector=PsycopgConnector(conninfo=url))


@app.task(name="true")
async def true(number: int) -> None:
    process = await asyncio.create_subprocess_exec("/bin/true")
    await process.wait()


async def main() -> None:
    async with app.open_async():
        if len(sys.argv) > 4:  # a worker
            await app.run_worker_async(concurrency=1, wait=False)
            return
        await app.schema_manager.apply_schema_async()
        tasks: list[dict[str, JSONValue]] = [{"number": each} for each in range(number)]
        await true.batch_defer_async(*tasks)
        started = [subprocess.Popen([*[sys.executable, *sys.argv], "work"]) for _ in range(workers)]
        for process in started:
            process.wait()
        row = await app.connector.execute_query_one_async(
            "SELECT extract(epoch FROM max(at) - min(at))::float AS seconds FROM procrastinate_events"
            " WHERE type IN ('started', 'succeeded')"
        )
        print(row["seconds"])


asyncio.run(main())
