"""Things outside this Linux: programs of Windows on PATH, and a state folder on a file system of another machine."""

from collections.abc import Iterator
from pathlib import Path

from seqsup.containment.proc_text import filesystem
from seqsup.doctor.finding import Finding, Level
from seqsup.host.machine import in_wsl
from seqsup.model.preset import prompt_presets
from seqsup.node.detect import detect

_TOOLS = ("node", "npm", "npx")
_FOREIGN = ("9p", "drvfs", "nfs", "nfs4", "cifs", "smb3", "fuse", "fuseblk")


def windows_programs(path: str) -> Iterator[Finding]:
    """Warn of programs that WSL would run in Windows."""
    if in_wsl() and (found := [name for name in (*prompt_presets(), *_TOOLS) if detect([name], "/", path).windows]):
        told = f"run in Windows, where seqsup neither measures nor kills them: {', '.join(found)}"
        remedy = "install them inside WSL, or set `[interop] appendWindowsPath=false` in /etc/wsl.conf"
        yield Finding(Level.WARN, "Windows", told, remedy)


def state_folder(folder: Path) -> Iterator[Finding]:
    """Warn of a file system that may keep neither the journal nor permissions as a local one does."""
    kind = filesystem(str(folder.resolve()))
    if kind in _FOREIGN or kind.startswith("fuse."):
        told = f"{folder} is on {kind}: the journal may be damaged there, and other users may be able to read it"
        yield Finding(Level.WARN, "file system", told, "set SEQSUP_STATE_DIR to a folder on a local disk")
