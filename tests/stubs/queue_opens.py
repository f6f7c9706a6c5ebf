"""Opens the new queue of one folder after another, each at the same moment as others do: FOLDER FOLDERS OTHERS"""

import os
import sys
from pathlib import Path

from seqsup.queue.embedded import EmbeddedQueue

folder, folders, others = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(folders):
    meeting = folder / f"meeting-{number}"
    meeting.mkdir(exist_ok=True)
    (meeting / str(os.getpid())).touch()
    while len(os.listdir(meeting)) <= others:  # noqa: PTH208
        pass
    EmbeddedQueue(folder / f"queue-{number}").close()
