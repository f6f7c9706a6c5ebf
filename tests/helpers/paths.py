"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


STUBS = ROOT / "tests" / "stubs"


NO_NODE = ROOT / "tests" / "no_node"  # for PYTHONPATH
