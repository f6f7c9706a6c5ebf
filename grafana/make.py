"""Writes the dashboards: `python grafana/make.py`. A test holds the files to it."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "boards"), str(HERE.parent / "supervisor")]

import fleet_board  # noqa: E402
import memory_board  # noqa: E402

FOLDER = HERE / "dashboards"


def texts() -> dict[str, str]:
    """Name of the file -> its text."""
    made = {"seqsup-memory.json": memory_board.build(), "seqsup-fleet.json": fleet_board.build()}
    return {
        name: json.dumps(each, indent=2, ensure_ascii=False, sort_keys=True) + "\n" for name, each in made.items()
    }  # fmt: skip


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
