"""How an attempt ended that we did not end, pure. (Our own kill record comes first: gemini exits 0 after TERM.)"""

import itertools
import re
import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from seqsup.model.conversation import Conversation, ResultKind
from seqsup.model.outcome import Exit
from seqsup.model.reason import Reason
from seqsup.policy import usage_limit
from seqsup.text import printable, unstyled
from seqsup.units import format_size

if TYPE_CHECKING:  # commands that only look need `last_words`, and no key of a profile
    from seqsup.model.preset import Preset
    from seqsup.model.profile import Success

# Not at a line's start only: Node 24 may cut its last GC line short, without a newline, before FATAL.
_V8_OOM = re.compile(rb"FATAL ERROR: [^\n]{0,200}JavaScript heap out of memory")
_COLLECTOR = re.compile(rb"^\[(\d+):0x[0-9a-f]+\]", re.MULTILINE)  # each line of V8's last words begins with its pid
_WORKER_OOM = re.compile(rb"ERR_WORKER_OUT_OF_MEMORY")
_REFUSED = re.compile(
    rb": (\S+) is not allowed in NODE_OPTIONS|: bad option: (\S+)"
    rb"|illegal value for flag |invalid value for NODE_OPTIONS"
)
_PRELOAD = re.compile(rb"Cannot find module '([^']*)'\s+Require stack:\s+- internal/preload")
# Node 20 under its permission model asks for the right to read preloads too.
_DENIED = re.compile(rb"permission: 'FileSystemRead',\s+resource: '([^']*)'|EACCES: permission denied, open '([^']*)'")
_SAID = {9: _REFUSED, 1: _PRELOAD}  # by exit code: the words of a Node that could not begin
_UNSETTLED = re.compile(rb"unsettled top-level await", re.IGNORECASE)
_FATAL = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV}
_FRAME = re.compile(r"at .*(\)|:\d+)$")  # of a stack
# What launchers and runtimes add below what is to be known.
_ADDED = re.compile(
    r"npm (error|ERR!) A complete log of this run can be found|Bun v\d\S* \(|\W{0,3}ELIFECYCLE\W.*Command failed"
    r"|error: (script )?\"[^\"]*\" exited with code "
)
_NPM = re.compile(r"npm (error|ERR!)")
_NPM_KEYS = re.compile(r"npm \S+( (code|syscall|path|errno|signal|type)\b.*)?")  # of its errors: no words for people
_OF_RESULT = {  # other failures are FAILED
    ResultKind.USAGE_LIMIT: Reason.USAGE_LIMIT,
    ResultKind.NO_CREDIT: Reason.NO_CREDIT,
    ResultKind.BUDGET: Reason.BUDGET,
}
_LAST_LINES = 10  # of an agent that exited well: further up it may speak of others' failures
_LATELY = 16 * 1024  # characters: of a limit that it met earlier and outlived it may speak further up
_LINE = 200  # characters of what it said last
_OF_SHELLS = {126: "a command could not be run", 127: "a command was not found"}


def classify(
    *,
    ending: Exit,
    stderr: bytes,
    kernel_oom: str,
    success: "Success",
    missing: str,
    options: Sequence[str] = (),
    data_limit: int | None = None,
) -> tuple[Reason, str]:
    """Return reason and explanation of an exit that we did not cause.

    `kernel_oom` shows that the kernel killed because memory was short; `missing` is the unmet condition of success;
    `options` are ours in NODE_OPTIONS; `data_limit` is rlimits.data in bytes.
    """
    if ending.code is not None and ending.code in success.codes:
        return (Reason.NO_RESULT, missing) if missing else (Reason.COMPLETED, "")
    how = describe(ending)
    if match := _V8_OOM.search(stderr):
        return Reason.HEAP_OOM, _heap_oom(match, stderr, how) + _or_else(data_limit)
    number = ending.signal if ending.signal is not None else _through_shell(ending)
    if number is not None:
        if number == signal.SIGKILL and kernel_oom:
            return Reason.KERNEL_OOM, f"the kernel killed it: its cgroup or machine ran out of memory ({kernel_oom})"
        return Reason.CRASHED, how + _suspicion(number, data_limit)
    if option := blamed(stderr, options):
        return Reason.MISCONFIGURED, f"Node refused {option}, which seqsup had set ({how})"
    said = _SAID.get(ending.code or 0)
    if said is not None and (match := said.search(stderr)):
        return Reason.MISCONFIGURED, f"Node refused its options ({how}): {_line_of(match, stderr)}"
    if _WORKER_OOM.search(stderr):
        return Reason.HEAP_OOM, f"a worker thread reached V8's heap limit, which its process sets ({how})"
    if ending.code == 13 and _UNSETTLED.search(stderr):
        return Reason.FAILED, f"{how}: a top-level await that never settled"
    if ending.code == 0:
        return Reason.FAILED, f"{how}, success.codes are {', '.join(map(str, success.codes))}"
    return Reason.FAILED, how


def blamed(stderr: bytes, options: Sequence[str]) -> str:
    """Name what Node refused if it was one of `options`: another Node than the one asked, or a file that is gone."""
    given = [option.encode() for option in options]
    for match in _REFUSED.finditer(stderr):
        refused = match[1] or match[2]
        if any(refused in (option, option.partition(b"=")[0]) for option in given):
            return str(refused, "utf-8")  # as it was given
    for match in (*_PRELOAD.finditer(stderr), *_DENIED.finditer(stderr)):
        file = match[match.lastindex or 0]
        if any(file in (option, option.partition(b"=")[2]) for option in given):
            return f"the preload {file.decode()}"
    return ""


def _heap_oom(match: re.Match[bytes], stderr: bytes, how: str) -> str:
    before = _COLLECTOR.findall(stderr, 0, match.start())
    source = f"V8 of process {before[-1].decode()}" if before else "V8"
    return f"{source} reached its heap limit ({how}): {match.group().decode(errors='replace')}"


def _or_else(data_limit: int | None) -> str:
    return "" if data_limit is None else f"; or rlimits.data ({format_size(data_limit)}) refused it more"


def _suspicion(number: int, data_limit: int | None) -> str:
    """V8 says nothing when the kernel refuses it memory: SIGSEGV on Node 20, SIGTRAP on 24."""
    if data_limit is None or number not in (signal.SIGSEGV, signal.SIGTRAP, signal.SIGILL, signal.SIGABRT):
        return ""
    return f"; a process that exceeds rlimits.data ({format_size(data_limit)}) exits like this"


def _line_of(match: re.Match[bytes], text: bytes) -> str:
    start, end = text.rfind(b"\n", 0, match.start()) + 1, text.find(b"\n", match.start())
    return text[start : end if end >= 0 else None].decode(errors="replace").strip()


def with_preset(
    preset: "Preset", told: tuple[Reason, str], printed: Sequence[str], now: datetime
) -> tuple[Reason, str, float | None]:
    """Take into account what is known of an agent CLI: failures that exit 0, and its provider's limit.

    `printed` are the ends of its outputs. The third value is when the limit resets, in seconds of the epoch.
    """
    reason, why = told
    if reason is Reason.COMPLETED:
        last = ("\n".join(text.splitlines()[-_LAST_LINES:]) for text in printed)
        line = next((line for text in last if (line := usage_limit.first_line(preset.failure, text))), "")
        if not line:
            return reason, why, None
        reason, why = Reason.FAILED, f"it exited with a success code, but printed: {line}"
    if reason not in (Reason.FAILED, Reason.NO_RESULT):
        return reason, why, None
    late = [text[-_LATELY:] for text in printed]
    if line := next((line for text in late if (line := usage_limit.first_line(preset.no_credit, text))), ""):
        return Reason.NO_CREDIT, f"{preset.name} has no credit left: {line}", None
    for text in late:
        if (limit := usage_limit.find(preset.usage_limit, text, now)) is not None:
            return Reason.USAGE_LIMIT, f"{preset.name} reached its usage limit: {limit.said}", limit.resets_at
    return reason, why, None


def with_conversation(
    preset: "Preset", told: tuple[Reason, str], conversation: Conversation, exited: str, complained: str, now: datetime
) -> tuple[Reason, str, float | None]:
    """Take into account what an agent CLI reported in its JSON stream: its last result decides.

    `exited` says how it exited, `complained` is the end of stderr.

    The third value is when the usage limit resets, in seconds of the epoch.
    """
    (reason, why), result = told, conversation.result
    if reason not in (Reason.COMPLETED, Reason.FAILED, Reason.NO_RESULT):
        return reason, why, None
    failed = result is not None and result.kind is not ResultKind.COMPLETED
    if reason is Reason.COMPLETED and not failed:
        return reason, why, None
    words = result.text if result is not None and failed else ""
    if result is not None and failed:
        reason = _OF_RESULT.get(result.kind, Reason.FAILED)
        why = f"{exited}{':' if told[0] is Reason.FAILED else ', but it reported:'} {_first(words) or result.kind}"
    limit = conversation.limit if conversation.limit is not None and conversation.limit.rejected else None
    texts = (words, complained[-_LATELY:])
    poor = next((line for text in texts if (line := usage_limit.first_line(preset.no_credit, text))), "")
    if reason is Reason.NO_CREDIT or poor:
        return Reason.NO_CREDIT, f"{preset.name} has no credit left: {poor or _first(words)}", None
    found = next((each for text in texts if (each := usage_limit.find(preset.usage_limit, text, now))), None)
    if reason is Reason.USAGE_LIMIT or limit is not None or found is not None:
        said = found.said if found is not None else _first(words) or "reported in its stream"
        resets_at = limit.resets_at if limit is not None else None
        resets_at = found.resets_at if resets_at is None and found is not None else resets_at
        return Reason.USAGE_LIMIT, f"{preset.name} reached its usage limit: {said}", resets_at
    return reason, why, None


def _first(text: str) -> str:
    """Return the first line of a text, for a line of prose."""
    line = next((line for line in map(printable, text.splitlines()) if line.strip()), "").strip()
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def last_words(output: bytes) -> str:
    """Return the last line of a program's output, or the line that names the error of npm, Node, Bun or Deno."""
    lines = [said for line in output.decode(errors="replace").splitlines() if (said := unstyled(line).strip())]
    while len(lines) > 1 and _ADDED.match(lines[-1]):
        lines.pop()
    of_npm = list(itertools.takewhile(_NPM.match, reversed(lines)))[::-1]
    lines = [next((line for line in of_npm if not _NPM_KEYS.fullmatch(line)), of_npm[-1])] if of_npm else lines
    if len(lines) > 1 and lines[-1].startswith("Node.js v"):
        marks = [number for number, line in enumerate(lines) if not line.strip("^")]
        lines = lines[: marks[-1] + 2] if marks else lines[:-1]
    while len(lines) > 1 and _FRAME.match(lines[-1]):
        lines.pop()
    if len(lines) > 2 and not lines[-1].strip("^"):
        lines = lines[:-2]  # Deno's way: the error, its line, and where in it
    last = printable(lines[-1]) if lines else ""
    return last if len(last) <= _LINE else last[: _LINE - 1] + "…"


def describe(ending: Exit, meanings: Mapping[str, str] = MappingProxyType({})) -> str:
    """Say how a process ended, as a person would. `meanings` are what exit codes of its program mean."""
    if ending.signal is not None:
        return f"killed by {_name(ending.signal)}"
    if (number := _through_shell(ending)) is not None:
        return f"exit {ending.code}: {_name(number)}, reported by a shell or launcher"
    if meaning := meanings.get(str(ending.code)):
        return f"exit {ending.code} ({meaning})"
    if ending.code in _OF_SHELLS:
        return f"exit {ending.code}: {_OF_SHELLS[ending.code]}"
    return f"exit {ending.code}"


def _through_shell(ending: Exit) -> int | None:
    """A shell says 128 + n of what died of signal n; SIGTERM and the like may be a program's own exit code."""
    number = (ending.code or 0) - 128
    return number if number in _FATAL else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
