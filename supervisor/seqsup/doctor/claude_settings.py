"""The hooks in Claude Code's settings files, checked: JSON, events, structure, matchers and commands.

Sources: https://code.claude.com/docs/en/hooks, and what Claude Code 2.1.332 did with each mistake.
"""

import json
import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from seqsup.doctor.finding import Finding, Level
from seqsup.doctor.hook_command import Folders, check_line, check_words
from seqsup.doctor.json_places import places, shortened
from seqsup.text import counted, cut, nearest

_USER = ".claude/settings.json"
_PROJECT = (".claude/settings.json", ".claude/settings.local.json")
_EVENTS = frozenset({
    "ConfigChange", "CwdChanged", "DirectoryAdded", "Elicitation", "ElicitationResult", "FileChanged",
    "InstructionsLoaded", "MessageDisplay", "Notification", "PermissionDenied", "PermissionRequest", "PostCompact",
    "PostModelSwitch", "PostToolBatch", "PostToolUse", "PostToolUseFailure", "PreCompact", "PreModelSwitch",
    "PreSkillShellCommand", "PreToolUse", "SessionEnd", "SessionStart", "Setup", "Stop", "StopFailure", "SubagentStart",
    "SubagentStop", "TaskCompleted", "TaskCreated", "TeammateIdle", "UserPromptExpansion", "UserPromptSubmit",
    "WorktreeCreate", "WorktreeRemove",
})  # fmt: skip
_TYPES = {  # and the strings that a hook of the type needs
    "command": ("command",), "http": ("url",), "mcp_tool": ("server", "tool"), "prompt": ("prompt",),
    "agent": ("prompt",),
}  # fmt: skip
_GUARDS = frozenset({"PreToolUse", "PermissionRequest"})  # Claude Code takes no settings without one of these
_MATCHED = _GUARDS | {  # the events with a matcher that is a regular expression
    "Notification", "PermissionDenied", "PostCompact", "PostToolUse", "PostToolUseFailure", "PreCompact", "SessionEnd",
    "SessionStart", "SubagentStart", "SubagentStop",
}  # fmt: skip
_SYNTAX = (  # how Python's errors begin that are errors in JavaScript too
    "bad escape (end", "missing ), unterminated subpattern", "multiple repeat", "nothing to repeat",
    "unbalanced parenthesis", "unterminated character set",
)  # fmt: skip
_NO_JAVASCRIPT = re.compile(r"\(\?(?:[a-zA-Z]+\)|P[<=])")
_KINDS: dict[type, str] = {
    dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip
_MOST = 2**20  # bytes of a file; another user may have written it
_SHOWN = 10  # findings of a file
_TEXT = 80  # characters of a key or a command that are repeated

_OFF = "disableAllHooks"
_WHAT = "claude settings"
_FIX = "fix the JSON; until then Claude Code ignores the file"


class _Told(NamedTuple):
    """Path of a key, what is wrong with it, and the remedy."""

    at: str
    said: str
    remedy: str


def claude_settings(projects: Iterable[str | Path], homes: Iterable[str | Path]) -> Iterator[Finding]:
    """Check the settings of users and of projects. A hook that Claude Code does not run is a warning."""
    known = [Path(home) for home in homes]
    files = {home / _USER: Folders(home, None, None) for home in known}
    only = known[0] if len(known) == 1 else None
    for folder in map(Path, projects):
        files |= {folder / name: Folders(only, folder, folder) for name in _PROJECT if folder / name not in files}
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
        settings = json.loads(text := content.decode(json.detect_encoding(content)))
    except json.JSONDecodeError as error:
        told = f"{file}, line {error.lineno}: {error.msg} (column {error.colno})"
        yield Finding(Level.WARN, _WHAT, told, _FIX)
        return
    except (ValueError, RecursionError):
        yield Finding(Level.WARN, _WHAT, f"{file}: this is not JSON", _FIX)
        return
    wrong = chain(_twice(text), _wrong(settings, folders))
    first = list(islice(wrong, _SHOWN))
    paths = {told.at for told in first}
    lines = {place.path: place.line for place in places(text) if place.path in paths} if first else {}
    for at, said, remedy in first:
        where = f"{file}, line {lines[at]}" if at in lines else f"{file}"
        yield Finding(Level.WARN, _WHAT, f"{where}: {at}{said}", remedy)
    if more := sum(1 for _ in wrong):
        yield Finding(Level.WARN, _WHAT, f"{file}: {counted(more, 'more finding')}")
    if not first:
        events = settings.get("hooks", {})
        hooks = sum(len(group["hooks"]) for groups in events.values() for group in groups)
        told = f"{file}: {counted(hooks, 'hook')} in {counted(len(events), 'event')}"
        yield Finding(Level.OK, _WHAT, told)


def _twice(text: str) -> Iterator[_Told]:
    for path, _, before in places(text):
        if before:
            said = f" is there twice, first in line {before}: Claude Code reads only the last one"
            yield _Told(path, said, "merge the two into one")


def _wrong(settings: Any, folders: Folders) -> Iterator[_Told]:
    """Yield each hook that does not run, and what keeps all of them from running."""
    if not isinstance(settings, dict):
        yield _Told("", f"the file is {_KINDS[type(settings)]}", 'write an object: {"hooks": {…}}')
        return
    off = settings.get(_OFF, False)
    if off is not False:
        said = f" is {_KINDS[type(off)]}: Claude Code ignores this file"
        said = " is true: Claude Code runs no hook, not even those of other settings files" if off is True else said
        yield _Told(_OFF, said, "remove it, or set it to false")
    if not isinstance(events := settings.get("hooks", {}), dict):
        yield _Told("hooks", f" is {_KINDS[type(events)]}", 'write an object: {"Stop": [{"hooks": […]}]}')
        return
    for event, groups in events.items():
        yield from _of_event(event, f"hooks.{shortened(event)}", groups, folders)


def _of_event(event: str, at: str, groups: Any, folders: Folders) -> Iterator[_Told]:
    if event not in _EVENTS:
        other = "SubagentStop runs after a subagent; hooks.after_agent of a profile, after an agent"
        remedy = nearest(event, _EVENTS).strip(" ()") or other
        yield _Told(at, " is not an event of Claude Code: it never runs", remedy)
        return
    so = "no hook of this file runs" if event in _GUARDS else "it never runs"
    if not isinstance(groups, list):
        yield _Told(at, f" is {_KINDS[type(groups)]}: {so}", f'write a list: "{event}": [{_group(groups)}]')
        return
    for number, group in enumerate(groups):
        here = f"{at}[{number}]"
        for told in _of_group(here, group):
            yield told._replace(said=f"{told.said}: {so}")
        matcher, hooks = (group.get("matcher"), group.get("hooks")) if isinstance(group, dict) else (None, None)
        if event in _MATCHED and isinstance(matcher, str) and not _is_matcher(matcher):
            said = f" {cut(matcher, _TEXT)} is not a regular expression of JavaScript: it never runs"
            yield _Told(f"{here}.matcher", said, 'correct it; "Edit|Write" and "mcp__.*" are right')
        for index, hook in enumerate(hooks if isinstance(hooks, list) else ()):
            if isinstance(hook, dict) and hook.get("type") == "command":
                blocked = "the tool call" if event == "PreToolUse" else ""
                yield from _of_command(f"{here}.hooks[{index}].command", hook, folders, blocked)


def _of_group(at: str, group: Any) -> Iterator[_Told]:
    """Yield what is wrong with the structure of a group and its hooks."""
    if not isinstance(group, dict):
        yield _Told(at, f" is {_KINDS[type(group)]}", f"write {_group(group)}")
        return
    if not isinstance(matcher := group.get("matcher", ""), str):
        remedy = 'write a string, such as "Edit|Write", or leave it out'
        yield _Told(f"{at}.matcher", f" is {_KINDS[type(matcher)]}", remedy)
    if "hooks" not in group:
        yield _Told(at, " has no list `hooks`", f"write {_group(group.get('command'))}")
    elif not isinstance(hooks := group["hooks"], list):
        yield _Told(f"{at}.hooks", f" is {_KINDS[type(hooks)]}", f"write a list: [{_hook(hooks)}]")
    else:
        for number, hook in enumerate(hooks):
            yield from _of_hook(f"{at}.hooks[{number}]", hook)


def _of_hook(at: str, hook: Any) -> Iterator[_Told]:
    if not isinstance(hook, dict):
        yield _Told(at, f" is {_KINDS[type(hook)]}", f"write {_hook(hook)}")
        return
    kind = hook.get("type")
    if kind is None:
        yield _Told(at, " has no `type`", 'add "type": "command"')
        return
    if not isinstance(kind, str) or kind not in _TYPES:
        meant = nearest(str(kind), _TYPES).strip(" ()") or f"one of {', '.join(_TYPES)}"
        yield _Told(f"{at}.type", f" is {cut(str(kind), _TEXT)}", meant)
        return
    for key in _TYPES[kind]:
        if key not in hook:
            yield _Told(at, f" has no `{key}`", f'add "{key}": "…"')
        elif not isinstance(value := hook[key], str):
            yield _Told(f"{at}.{key}", f" is {_KINDS[type(value)]}", "write a string")


def _of_command(at: str, hook: dict[str, Any], folders: Folders, blocks: str) -> Iterator[_Told]:
    """Check a command for the shell, or a program with `args`. `blocks`: what the hook's exit code 2 blocks."""
    command = hook.get("command")
    if not isinstance(command, str) or hook.get("shell", "bash") != "bash":
        return
    for said, remedy in check_words([command], folders) if "args" in hook else check_line(command, folders, blocks):
        yield _Told(at, f": {said}", remedy)


def _is_matcher(matcher: str) -> bool:
    """Return whether a matcher works. Of Python's errors only those count that JavaScript has too."""
    if matcher == "*":
        return True
    if _NO_JAVASCRIPT.search(matcher):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sets in sets, which JavaScript does not have
        try:
            re.compile(matcher.replace("[^]", "."))
        except re.error as error:
            return not str(error).startswith(_SYNTAX)
        except (OverflowError, RecursionError):
            return True
    return True


def _hook(command: Any) -> str:
    """Return a correct hook for a command in the wrong place."""
    text = cut(command, _TEXT) if isinstance(command, str) else "…"
    return json.dumps({"type": "command", "command": text}, ensure_ascii=False)


def _group(command: Any) -> str:
    return f'{{"hooks": [{_hook(command)}]}}'
