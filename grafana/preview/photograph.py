"""A picture of a page, by a headless Chromium."""

import shutil
import subprocess
import sys
from pathlib import Path

_CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--log-level=3")


def browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, _CHROMIUM)), None)


def photograph(url: str, width: int, height: int, file: Path) -> None:
    """Write a PNG of the page's first `height` pixels. Exit with a message if there is no Chromium."""
    program = browser()
    if program is None:
        sys.exit("no chromium: see tests/system/browser/install")
    size, patience = f"--window-size={width},{height}", "--virtual-time-budget=30000"
    command = [program, *_FLAGS, size, patience, f"--screenshot={file}", url]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)  # it says much of no interest
