"""The hooks in Claude Code's settings files, checked: JSON, events, structure and scripts.

Source: https://code.claude.com/docs/en/hooks, as of November 2026.
"""

import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seqsup.doctor.finding import Finding, Level
from seqsup.text import counted, cut, nearest

_USER = ".claude/settings.json"
_PROJECT = (".claude/settings.json", ".claude/settings.local.json")
_EVENTS = frozenset({
    "ConfigChange", "CwdChanged", "DirectoryAdded", "Elicitation", "ElicitationResult", "FileChanged",
    "InstructionsLoaded", "MessageDisplay", "Notification", "PermissionDenied", "PermissionRequest", "PostCompact",
    "PostModelSwitch", "PostToolBatch", "PostToolUse", "PostToolUseFailure", "PreCompact", "PreModelSwitch",
    "PreToolUse", "SessionEnd", "SessionStart", "Setup", "Stop", "StopFailure", "SubagentStart", "SubagentStop",
    "TaskCompleted", "TaskCreated", "TeammateIdle", "UserPromptExpansion", "UserPromptSubmit", "WorktreeCreate",
    "WorktreeRemove",
})  # fmt: skip
_TYPES = {  # and the strings that a hook of the type needs
    "command": ("command",), "http": ("url",), "mcp_tool": ("server", "tool"), "prompt": ("prompt",),
    "agent": ("prompt",),
}  # fmt: skip
_INTERPRETERS = frozenset({"bash", "sh", "dash", "zsh", "node", "python", "python3", "bun", "deno", "tsx"})
_PREFIXES = {  # and the folder that each names
    "~/": "home", "$HOME/": "home", "${HOME}/": "home", "$CLAUDE_PROJECT_DIR/": "project",
    "${CLAUDE_PROJECT_DIR}/": "project",
}  # fmt: skip
_KINDS: dict[type, str] = {
    dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip
_MOST = 2**20  # bytes of a file; another user may have written it
_SHOWN = 10  # findings of a file
_TEXT = 80  # characters of a key or a command that are repeated

_WHAT = "claude settings"
_FIX = "fix the JSON; until then Claude Code ignores the file"

Told = tuple[str, str]  # what is wrong and where, and the remedy


class Folders(NamedTuple):
    """The folders that a hook's command may begin with. None: another one in each session."""

    home: Path | None
    project: Path | None


def claude_settings(projects: Iterable[str | Path], homes: Iterable[str | Path]) -> Iterator[Finding]:
    """Check the settings of users and of projects. A hook that Claude Code does not run is a warning."""
    known = [Path(home) for home in homes]
    files = {home / _USER: Folders(home, None) for home in known}
    only = known[0] if len(known) == 1 else None
    for folder in map(Path, projects):
        files |= {folder / name: Folders(only, folder) for name in _PROJECT if folder / name not in files}
    for file, folders in files.items():
        try:
            content = _read(file)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield Finding(Level.WARN, _WHAT, f"{file}: {error.strerror}")
            continue
        yield from _checked(file, content, folders)


def _read(file: Path) -> bytes:
    """Return the content of a file. Another user may have put a pipe or an endless file there."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(0, "this is not a regular file")
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:  # noqa: PTH123
        content = opened.read(_MOST + 1)
    if len(content) > _MOST:
        raise OSError(0, "larger than 1 MiB; it was not read")
    return content


def _checked(file: Path, content: bytes, folders: Folders) -> Iterator[Finding]:
    try:
        settings = json.loads(content)
    except json.JSONDecodeError as error:
        told = f"{file}, line {error.lineno}: {error.msg} (column {error.colno})"
        yield Finding(Level.WARN, _WHAT, told, _FIX)
        return
    except (ValueError, RecursionError):
        yield Finding(Level.WARN, _WHAT, f"{file}: this is not JSON", _FIX)
        return
    wrong = _wrong(settings, folders)
    first = list(islice(wrong, _SHOWN))
    for told, remedy in first:
        yield Finding(Level.WARN, _WHAT, f"{file}: {told}", remedy)
    if more := sum(1 for _ in wrong):
        yield Finding(Level.WARN, _WHAT, f"{file}: {counted(more, 'more finding')}")
    if not first:
        events = settings.get("hooks", {})
        hooks = sum(len(group["hooks"]) for groups in events.values() for group in groups)
        told = f"{file}: {counted(hooks, 'hook')} in {counted(len(events), 'event')}"
        yield Finding(Level.OK, _WHAT, told)


def _wrong(settings: Any, folders: Folders) -> Iterator[Told]:
    """Yield each hook that does not run."""
    if not isinstance(settings, dict):
        yield f"the file is {_KINDS[type(settings)]}", 'write an object: {"hooks": {…}}'
    elif not isinstance(events := settings.get("hooks", {}), dict):
        yield f"hooks is {_KINDS[type(events)]}", 'write an object: {"Stop": [{"hooks": […]}]}'
    else:
        for event, groups in events.items():
            yield from _of_event(event, f"hooks.{cut(event, _TEXT)}", groups, folders)


def _of_event(event: str, at: str, groups: Any, folders: Folders) -> Iterator[Told]:
    if event not in _EVENTS:
        other = "SubagentStop runs after a subagent; hooks.after_agent of a profile, after an agent"
        yield f"{at} is not an event of Claude Code: it never runs", nearest(event, _EVENTS).strip(" ()") or other
        return
    if not isinstance(groups, list):
        yield f"{at} is {_KINDS[type(groups)]}", f'write a list: "{event}": [{_group(groups)}]'
        return
    for number, group in enumerate(groups):
        yield from _of_group(f"{at}[{number}]", group, folders)


def _of_group(at: str, group: Any, folders: Folders) -> Iterator[Told]:
    if not isinstance(group, dict):
        yield f"{at} is {_KINDS[type(group)]}: it never runs", f"write {_group(group)}"
        return
    if not isinstance(matcher := group.get("matcher", ""), str):
        yield f"{at}.matcher is {_KINDS[type(matcher)]}", 'write a string, such as "Edit|Write", or leave it out'
    if "hooks" not in group:
        yield f"{at} has no list `hooks`: it never runs", f"write {_group(group.get('command'))}"
    elif not isinstance(hooks := group["hooks"], list):
        yield f"{at}.hooks is {_KINDS[type(hooks)]}: it never runs", f"write a list: [{_hook(hooks)}]"
    else:
        for number, hook in enumerate(hooks):
            yield from _of_hook(f"{at}.hooks[{number}]", hook, folders)


def _of_hook(at: str, hook: Any, folders: Folders) -> Iterator[Told]:
    if not isinstance(hook, dict):
        yield f"{at} is {_KINDS[type(hook)]}: it never runs", f"write {_hook(hook)}"
        return
    kind = hook.get("type")
    if kind is None:
        yield f"{at} has no `type`: it never runs", 'add "type": "command"'
        return
    if not isinstance(kind, str) or kind not in _TYPES:
        meant = nearest(str(kind), _TYPES).strip(" ()") or f"one of {', '.join(_TYPES)}"
        yield f"{at}.type is {cut(str(kind), _TEXT)}: it never runs", meant
        return
    for key in _TYPES[kind]:
        if key not in hook:
            yield f"{at} has no `{key}`: it never runs", f'add "{key}": "…"'
        elif not isinstance(value := hook[key], str):
            yield f"{at}.{key} is {_KINDS[type(value)]}: it never runs", "write a string"
        elif kind == "command":
            yield from _of_command(f"{at}.{key}", value, folders, line="args" not in hook)


def _hook(command: Any) -> str:
    """Return a correct hook for a command in the wrong place."""
    text = cut(command, _TEXT) if isinstance(command, str) else "…"
    return json.dumps({"type": "command", "command": text}, ensure_ascii=False)


def _group(command: Any) -> str:
    return f'{{"hooks": [{_hook(command)}]}}'


# -- scripts


def _of_command(at: str, command: str, folders: Folders, *, line: bool) -> Iterator[Told]:
    """Look for the script of a command: a line for the shell, or else one program."""
    try:
        words = shlex.split(command) if line else [command]
    except ValueError:
        return
    while words and re.match(r"\w+=", words[0]):
        words.pop(0)
    interpreted = len(words) > 1 and words[0] in _INTERPRETERS
    file = _file(words[interpreted], folders) if words else None
    if file is None:
        return
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        yield f"{at}: there is no {file}", "write the script, or correct its path"
        return
    except OSError as error:
        yield f"{at}: {file}: {error.strerror}", ""
        return
    if not stat.S_ISREG(mode):
        yield f"{at}: {file} is not a file", "correct its path"
    elif not interpreted and not os.access(file, os.X_OK):
        yield f"{at}: {file} is not executable", f"chmod +x {shlex.quote(str(file))}"


def _file(word: str, folders: Folders) -> Path | None:
    """Return the file that a word names; None if it is no path, or only a shell could tell."""
    prefix = next(filter(word.startswith, _PREFIXES), "")
    rest, folder = word.removeprefix(prefix), getattr(folders, _PREFIXES.get(prefix, "project"))
    if "/" not in word or re.search(r"[$`*?;&|<>()]", rest):
        return None
    if rest.startswith("/"):
        return Path(rest)
    return None if folder is None else folder / rest
