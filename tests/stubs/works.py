"""seqsup itself with the queue of helpers/file_queue.py."""

import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import file_queue  # noqa: E402

address = ModuleType("seqsup.queue.address")
address.open_queue = file_queue.open_queue  # type: ignore[attr-defined]
sys.modules["seqsup.queue.address"] = address

from seqsup.__main__ import main  # noqa: E402

sys.exit(main())
