"""How an attempt ended that we did not end: exits and stderr texts as Node 18 to 25 gave them, as one table."""

from datetime import UTC, datetime
from signal import Signals

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seqsup.model.outcome import Exit
from seqsup.model.preset import Preset, preset_names, read_preset
from seqsup.model.profile import Success
from seqsup.model.reason import Reason
from seqsup.policy.classify import blamed, classify, describe, last_words, with_preset
from seqsup.text import unstyled

ZERO = Success(codes=(0,), file=None, output=None)

OOM_20 = b"""
<--- Last few GCs --->

[23369:0x1da50000]     3718 ms: Scavenge 494.1 (504.3) -> 493.6 (505.1) MB, 11.01 / 0.00 ms  allocation failure;

<--- JS stacktrace --->

FATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed - JavaScript heap out of memory
----- Native stack trace -----
 1: 0xb78db3 node::OOMErrorHandler(char const*, v8::OOMDetails const&) [bin/node20]
"""
OOM_24_CUT = (  # the last line of the collector is cut short, without a newline
    b"[23632:0x102a3000]     3001 ms: Scavenge (interleaved) 500.9 (504.1) -> 500.4 (508.9) MB, pooled"
    b"FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n"
)
OOM_SEMI_SPACE = b"FATAL ERROR: Committing semi space failed. Allocation failed - JavaScript heap out of memory\n"
WORKER_OOM = (
    b"Error [ERR_WORKER_OUT_OF_MEMORY]: Worker terminated due to reaching memory limit: JS heap out of memory\n"
)
NOT_ALLOWED = b"/usr/bin/node: --expose-gc is not allowed in NODE_OPTIONS\n"
BAD_OPTION = b"node: bad option: --max-old-space-sise=100\n"
BAD_VALUE = b"node: invalid value for NODE_OPTIONS (unterminated string)\n"
PRELOAD = b"Error: Cannot find module '/run/seqsup/preload.cjs'\nRequire stack:\n- internal/preload\n"
THROWN = b"Error: nothing works\n    at work (/agents/a.mjs:3:9)\n"
DENO = b"""error: Uncaught (in promise) Error: nothing works
throw new Error("nothing works")
      ^
    at file:///agents/a.ts:1:7
"""
BUN = b"""1 | throw new Error("nothing works")
              ^
error: nothing works
      at /agents/a.ts:1:11

Bun v1.4.5 (Linux x64)
"""
NPM_MISSING = b"""npm error code E404
npm error 404 Not Found - GET https://registry.npmjs.org/agnet
npm error 404
npm error 404 Note that you can also install from a
npm error 404 tarball, folder, http url, or git url.
npm error A complete log of this run can be found in: /root/.npm/_logs/2026-11-29T08_13_22_301Z-debug-0.log
"""
NPM_SCRIPT = b"""npm error Missing script: "go"
npm error
npm error To see a list of scripts, run:
npm error   npm run
npm error A complete log of this run can be found in: /root/.npm/_logs/2026-11-29T08_13_22_301Z-debug-0.log
"""
UNCAUGHT = b"""/agents/a.cjs:1
require('./nowhere.cjs')
^

Error: Cannot find module './nowhere.cjs'
Require stack:
- /agents/a.cjs
    at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/agents/a.cjs' ]
}

Node.js v20.20.2
"""


def code(number: int) -> Exit:
    return Exit(code=number, signal=None)


def signal(number: int) -> Exit:
    return Exit(code=None, signal=number)


EXITS: list[tuple[str, Exit, bytes, bool, Reason]] = [
    ("a good end", code(0), b"", False, Reason.COMPLETED),
    ("a good end, though a child of it ran out of heap", code(0), OOM_20, False, Reason.COMPLETED),
    ("a good end, while the kernel killed somebody", code(0), b"", True, Reason.COMPLETED),
    ("thrown", code(1), THROWN, False, Reason.FAILED),
    ("no text at all", code(1), b"", False, Reason.FAILED),
    ("a top-level await that never settled", code(13), b"", False, Reason.FAILED),
    ("gemini without credentials", code(41), b"", False, Reason.FAILED),
    ("command not found, told by a shell", code(127), b"sh: 1: nope: not found\n", False, Reason.FAILED),
    ("a worker out of memory", code(1), WORKER_OOM, False, Reason.HEAP_OOM),
    ("a worker out of memory, which its process outlived", code(0), WORKER_OOM, False, Reason.COMPLETED),
    ("V8 out of heap, Node 20, direct", signal(6), OOM_20, False, Reason.HEAP_OOM),
    ("V8 out of heap, Node 24, cut line", signal(6), OOM_24_CUT, False, Reason.HEAP_OOM),
    ("V8 out of heap, under RLIMIT_DATA", signal(6), OOM_SEMI_SPACE, False, Reason.HEAP_OOM),
    ("V8 out of heap, through sh, npx or tsx", code(134), OOM_20, False, Reason.HEAP_OOM),
    ("V8 out of heap, through a CLI that relaunches itself", code(1), OOM_24_CUT, False, Reason.HEAP_OOM),
    ("V8 out of heap, dead of SIGTRAP", signal(5), OOM_24_CUT, False, Reason.HEAP_OOM),
    ("V8 out of heap, though the kernel killed somebody too", signal(6), OOM_20, True, Reason.HEAP_OOM),
    ("process.abort()", signal(6), b"Native stack trace\n", False, Reason.CRASHED),
    ("process.abort() through sh", code(134), b"", False, Reason.CRASHED),
    ("SIGSEGV", signal(11), b"", False, Reason.CRASHED),
    ("SIGSEGV through sh", code(139), b"Segmentation fault\n", False, Reason.CRASHED),
    ("SIGTRAP through sh", code(133), b"", False, Reason.CRASHED),
    ("SIGTERM that was not ours", signal(15), b"", False, Reason.CRASHED),
    ("SIGTERM that was not ours, told by a launcher: may be its own code", code(143), b"", False, Reason.FAILED),
    ("a real-time signal", signal(40), b"", False, Reason.CRASHED),
    ("SIGKILL that was not ours", signal(9), b"", False, Reason.CRASHED),
    ("SIGKILL by the kernel, for want of memory", signal(9), b"", True, Reason.KERNEL_OOM),
    ("the same through sh", code(137), b"Killed\n", True, Reason.KERNEL_OOM),
    ("137 while the kernel killed nobody", code(137), b"Killed\n", False, Reason.CRASHED),
    ("an abort while the kernel killed somebody", signal(6), b"", True, Reason.CRASHED),
    ("an option that Node does not allow there", code(9), NOT_ALLOWED, False, Reason.MISCONFIGURED),
    ("what a shell did not find", code(127), b"sh: nope: not found\n", False, Reason.FAILED),
    ("an option that Node does not know", code(9), BAD_OPTION, False, Reason.MISCONFIGURED),
    ("options that cannot be read", code(9), BAD_VALUE, False, Reason.MISCONFIGURED),
    ("9 for a reason of its own", code(9), THROWN, False, Reason.FAILED),
    ("a preload that is not there", code(1), PRELOAD, False, Reason.MISCONFIGURED),
    ("words of a refused option, but another code", code(3), NOT_ALLOWED, False, Reason.FAILED),
]


@pytest.mark.parametrize(
    ("ending", "stderr", "kernel_oom", "reason"), [row[1:] for row in EXITS], ids=[r[0] for r in EXITS]
)
def test_exit(ending: Exit, stderr: bytes, kernel_oom: str, reason: Reason) -> None:
    found, why = classify(ending=ending, stderr=stderr, kernel_oom=kernel_oom, success=ZERO, missing="")
    assert found is reason
    assert bool(why) == (reason is not Reason.COMPLETED)


def test_the_words_of_v8_are_kept_and_nothing_of_its_stack() -> None:
    _, why = classify(ending=code(134), stderr=OOM_20, kernel_oom="", success=ZERO, missing="")
    assert "Ineffective mark-compacts near heap limit" in why
    assert "SIGABRT" in why
    assert "\n" not in why


def test_last_line_of_the_collector_names_the_dead_process() -> None:
    _, why = classify(ending=code(1), stderr=OOM_20 + b"x\n" + OOM_24_CUT, kernel_oom="", success=ZERO, missing="")
    assert why.startswith("V8 of process 23369 reached its heap limit (exit 1): FATAL ERROR: Ineffective")


@pytest.mark.parametrize(
    ("stderr", "options", "option"),
    [
        (NOT_ALLOWED, ("--expose-gc", "--max-old-space-size=9"), "--expose-gc"),
        (NOT_ALLOWED, ("--max-old-space-size=9",), ""),
        (b"node: --max-heap-size=9 is not allowed in NODE_OPTIONS\n", ("--max-heap-size=9",), "--max-heap-size=9"),
        (b"node: --max-heap-size=9 is not allowed in NODE_OPTIONS\n", ("--max-heap-size=8",), ""),
        (BAD_OPTION, ("--expose-gc",), ""),
        (BAD_VALUE, ("--expose-gc",), ""),
        (PRELOAD, ("--require=/run/seqsup/preload.cjs",), "the preload /run/seqsup/preload.cjs"),
        (PRELOAD, ("--require", "/run/seqsup/preload.cjs"), "the preload /run/seqsup/preload.cjs"),
        (PRELOAD, ("--require=/run/seqsup/other.cjs",), ""),
        (b"", ("--expose-gc",), ""),
    ],
)
def test_we_are_blamed_for_our_own_options_only(stderr: bytes, options: tuple[str, ...], option: str) -> None:
    assert blamed(stderr, options) == option
    reason, why = classify(ending=code(3), stderr=stderr, kernel_oom="", success=ZERO, missing="", options=options)
    assert reason is (Reason.MISCONFIGURED if option else Reason.FAILED)
    assert option in why


def test_a_crash_under_a_limit_of_data_may_be_its_doing() -> None:
    for number, suspect in ((11, True), (5, True), (9, False)):
        _, why = classify(
            ending=signal(number), stderr=b"", kernel_oom="", success=ZERO, missing="", data_limit=1 << 30
        )
        assert ("rlimits.data (1 GiB)" in why) is suspect
    _, why = classify(ending=code(134), stderr=OOM_20, kernel_oom="", success=ZERO, missing="", data_limit=1 << 30)
    assert why.endswith("; or rlimits.data (1 GiB) refused it more")


def test_output_that_is_not_text_does_no_harm() -> None:
    reason, why = classify(
        ending=signal(6), stderr=b"\xff\xfeFATAL ERROR: \xff - JavaScript heap out of memory\0", kernel_oom="",
        success=ZERO, missing="",
    )  # fmt: skip
    assert reason is Reason.HEAP_OOM
    assert "�" in why


def test_a_success_check_that_found_nothing() -> None:
    assert classify(ending=code(0), stderr=b"", kernel_oom="", success=ZERO, missing="no file") == (
        Reason.NO_RESULT,
        "no file",
    )


def test_a_success_check_is_not_asked_about_a_failure() -> None:
    reason, _ = classify(ending=code(1), stderr=b"", kernel_oom="", success=ZERO, missing="no file")
    assert reason is Reason.FAILED


@pytest.mark.parametrize(("number", "reason"), [(0, Reason.FAILED), (3, Reason.COMPLETED), (134, Reason.COMPLETED)])
def test_the_profile_says_which_codes_are_good(number: int, reason: Reason) -> None:
    success = Success(codes=(3, 134), file=None, output=None)
    found, why = classify(ending=code(number), stderr=b"", kernel_oom="", success=success, missing="")
    assert found is reason
    assert why == ("exit 0, success.codes are 3, 134" if reason is Reason.FAILED else "")


def test_words_far_apart_on_one_line_are_not_v8s() -> None:
    stderr = b"FATAL ERROR: " * 80_000 + b"JavaScript heap out of memory"  # sought in all that follows each: 20 s
    assert classify(ending=code(1), stderr=stderr[:-1], kernel_oom="", success=ZERO, missing="")[0] is Reason.FAILED
    far = b"FATAL ERROR: " + b" " * 1000 + b"JavaScript heap out of memory"
    assert classify(ending=code(1), stderr=far, kernel_oom="", success=ZERO, missing="")[0] is Reason.FAILED


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", ""),
        (b"first\nno credentials\n\n", "no credentials"),
        (b"10 %\r20 %\r\x1b[31mError: \x1b[1mno credentials\x1b[0m\n", "Error: no credentials"),
        (b"a\x08b\x07\xff\n", "ab\ufffd"),
        (b"no credentials\n" + b"\0" * 300 + b"\n", "no credentials"),
        (b"x" * 1000, "x" * 199 + "…"),
        (THROWN, "Error: nothing works"),
        (UNCAUGHT, "Error: Cannot find module './nowhere.cjs'"),
        (b"Node.js v20.20.2\n", "Node.js v20.20.2"),
        (DENO, "error: Uncaught (in promise) Error: nothing works"),
        (BUN, "error: nothing works"),
        (UNCAUGHT + b'error: script "go" exited with code 1\n', "Error: Cannot find module './nowhere.cjs'"),
        (UNCAUGHT + b"[ELIFECYCLE] Command failed with exit code 1.\n", "Error: Cannot find module './nowhere.cjs'"),
        (NPM_MISSING, "npm error 404 Not Found - GET https://registry.npmjs.org/agnet"),
        (NPM_SCRIPT, 'npm error Missing script: "go"'),
        (b"npm error code 1\nnpm error path /agents\n", "npm error path /agents"),
        (b"^\n", "^"),
        (b"Uncaught:\n5\n(Use `node --trace-uncaught`)\n\nNode.js v20.20.2\n", "(Use `node --trace-uncaught`)"),
    ],
)
def test_last_words_of_an_agent(output: bytes, words: str) -> None:
    assert last_words(output) == words


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (code(0), "exit 0"),
        (code(3), "exit 3"),
        (signal(9), "killed by SIGKILL"),
        (signal(40), "killed by signal 40"),
        (code(134), "exit 134: SIGABRT, reported by a shell or launcher"),
        (code(143), "exit 143"),
        (code(255), "exit 255"),
    ],
)
def test_an_exit_in_words(ending: Exit, words: str) -> None:
    assert describe(ending) == words


# -- words and bounds


def why(ending: Exit, stderr: bytes = b"", *, options: tuple[str, ...] = (), data_limit: int | None = None) -> str:
    return classify(
        ending=ending, stderr=stderr, kernel_oom="oom_kill 1", success=ZERO, missing="", options=options,
        data_limit=data_limit,
    )[1]  # fmt: skip


UNSETTLED = b"Warning: Detected unsettled top-level await at file:///a.mjs:1\n"
DENIED = (
    b"Error: Access to this API has been restricted.\n  code: 'ERR_ACCESS_DENIED',\n  permission: 'FileSystemRead',\n"
    b"  resource: '/run/seqsup/preload.cjs'\n"
)
CLOSED = b"Error: EACCES: permission denied, open '/run/seqsup/preload.cjs'\n"


@pytest.mark.parametrize(
    ("ending", "stderr", "words"),
    [
        (signal(9), b"", "the kernel killed it: its cgroup or machine ran out of memory (oom_kill 1)"),
        (signal(11), b"", "killed by SIGSEGV"),
        (code(1), THROWN, "exit 1"),
        (code(1), WORKER_OOM,
         "a worker thread reached V8's heap limit, which its process sets (exit 1)"),
        (code(13), UNSETTLED, "exit 13: a top-level await that never settled"),
        (code(13), b"", "exit 13"),
        (code(12), UNSETTLED, "exit 12"),
        (signal(6), OOM_SEMI_SPACE,
         "V8 reached its heap limit (killed by SIGABRT): FATAL ERROR: Committing semi space failed."
         " Allocation failed - JavaScript heap out of memory"),
        (code(9), b"first\n" + BAD_OPTION + b"last\n",
         "Node refused its options (exit 9): node: bad option: --max-old-space-sise=100"),
        (code(9), b"first\n" + BAD_VALUE.strip(),
         "Node refused its options (exit 9): node: invalid value for NODE_OPTIONS (unterminated string)"),
        (code(1), PRELOAD, "Node refused its options (exit 1): Error: Cannot find module '/run/seqsup/preload.cjs'"),
        (code(126), b"", "exit 126: a command could not be run"),
        (code(127), b"", "exit 127: a command was not found"),
    ],
)  # fmt: skip
def test_failure_in_words(ending: Exit, stderr: bytes, words: str) -> None:
    assert why(ending, stderr) == words


@pytest.mark.parametrize("name", ["SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGSEGV"])
def test_crash_that_a_shell_tells_of_is_a_crash(name: str) -> None:
    number = Signals[name]
    reason, told = classify(ending=code(128 + number), stderr=b"", kernel_oom="", success=ZERO, missing="")
    assert (reason, told) == (Reason.CRASHED, f"exit {128 + number}: {name}, reported by a shell or launcher")


@pytest.mark.parametrize("number", [128, 129, 130, 141, 143, 255])
def test_exit_code_that_may_be_the_programs_own_is_no_crash(number: int) -> None:
    assert classify(ending=code(number), stderr=b"", kernel_oom="", success=ZERO, missing="")[0] is Reason.FAILED


@pytest.mark.parametrize(("number", "suspect"), [(4, True), (5, True), (6, True), (11, True), (7, False), (8, False)])
def test_signals_of_which_v8_dies_when_it_gets_no_memory_name_that_limit(number: int, suspect: bool) -> None:
    words = "; a process that exceeds rlimits.data (1 GiB) exits like this"
    assert why(signal(number), data_limit=1 << 30).endswith(words) is suspect
    assert "rlimits" not in why(signal(number))


@pytest.mark.parametrize(("between", "reason"), [(200, Reason.HEAP_OOM), (201, Reason.FAILED)])
def test_v8s_words_are_at_most_200_bytes_apart(between: int, reason: Reason) -> None:
    stderr = b"FATAL ERROR: " + b" " * between + b"JavaScript heap out of memory"
    assert classify(ending=code(1), stderr=stderr, kernel_oom="", success=ZERO, missing="")[0] is reason


def test_process_is_named_by_the_collector_before_v8s_last_words_and_not_after() -> None:
    later = b"[7:0xabc] 1 ms: Scavenge\n"
    assert why(code(1), OOM_20 + later).startswith("V8 of process 23369 reached")
    assert why(code(1), OOM_SEMI_SPACE + later).startswith("V8 reached")


@pytest.mark.parametrize("stderr", [DENIED, CLOSED])
@pytest.mark.parametrize("option", ["--require=/run/seqsup/preload.cjs", "/run/seqsup/preload.cjs"])
def test_preload_that_node_may_not_read_is_ours(stderr: bytes, option: str) -> None:
    assert blamed(stderr, [option]) == "the preload /run/seqsup/preload.cjs"
    assert blamed(stderr, ["--require=/run/seqsup/other.cjs"]) == ""
    told = "Node refused the preload /run/seqsup/preload.cjs, which seqsup had set (exit 1)"
    assert why(code(1), stderr, options=(option,)) == told


def test_preload_may_have_an_equals_sign_in_its_path() -> None:
    stderr = b"Error: EACCES: permission denied, open '/a=b/preload.cjs'\n"
    assert blamed(stderr, ["--require=/a=b/preload.cjs"]) == "the preload /a=b/preload.cjs"


def test_option_that_is_no_ascii_is_named_and_what_is_no_text_is_not_ours() -> None:
    assert blamed("node: bad option: --título=1\n".encode(), ["--título=1"]) == "--título=1"
    assert blamed(b"node: bad option: --t\xff\n", ["--t", "--t\ufffd"]) == ""
    missing = "Cannot find module '/é.cjs'\nRequire stack:\n- internal/preload\n".encode()
    assert blamed(missing, ["--require=/é.cjs"]) == "the preload /é.cjs"


def test_second_of_two_refused_options_may_be_ours() -> None:
    stderr = b"node: --theirs is not allowed in NODE_OPTIONS\nnode: bad option: --ours=\xff\n"
    assert blamed(stderr, ["--expose-gc", "--theirs-too"]) == ""
    assert blamed(b"node: bad option: --ours=1\n" + stderr, ["--ours=1"]) == "--ours=1"
    assert blamed(stderr, ["--theirs=3"]) == "--theirs"


# -- an agent CLI's own words

CLI = Preset(name="cli", title="CLI", failure=("^broken", "^error: .*$"), usage_limit=("out of (tokens)", "quota"))
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def said(reason: Reason, *printed: str) -> tuple[Reason, str, float | None]:
    return with_preset(CLI, (reason, "why"), printed, NOON)


@pytest.mark.parametrize(("after", "reason"), [(9, Reason.FAILED), (10, Reason.COMPLETED)])
def test_failure_that_exits_with_zero_is_found_in_the_last_ten_lines(after: int, reason: Reason) -> None:
    assert said(Reason.COMPLETED, "error: no key\n" + "and more\n" * after)[0] is reason


def test_failure_is_found_by_its_line_in_either_output() -> None:
    assert said(Reason.COMPLETED, "fine\nError: no key\nbye\n", "") == (
        Reason.FAILED, "it exited with a success code, but printed: Error: no key", None,
    )  # fmt: skip
    assert (
        said(Reason.COMPLETED, "", "x\nbroken pipe\n")[1] == "it exited with a success code, but printed: broken pipe"
    )
    assert said(Reason.COMPLETED, "no error: here\n") == (Reason.COMPLETED, "why", None)
    assert said(Reason.COMPLETED) == (Reason.COMPLETED, "why", None)


def test_failure_without_a_limit_keeps_its_words() -> None:
    assert said(Reason.FAILED, "error: no key") == (Reason.FAILED, "why", None)
    assert said(Reason.NO_RESULT, "error: no key") == (Reason.NO_RESULT, "why", None)
    assert said(Reason.CRASHED, "quota") == (Reason.CRASHED, "why", None)


def test_usage_limit_is_found_with_the_preset_and_its_line() -> None:
    assert said(Reason.FAILED, "", "a\nQuota  is up\nb\n") == (
        Reason.USAGE_LIMIT, "cli reached its usage limit: Quota is up", None,
    )  # fmt: skip


@pytest.mark.parametrize(("after", "reason"), [(16384 - 5, Reason.USAGE_LIMIT), (16384 - 4, Reason.FAILED)])
def test_usage_limit_is_looked_for_in_the_last_16_ki_characters(after: int, reason: Reason) -> None:
    assert said(Reason.FAILED, "quota" + "x" * after)[0] is reason


def test_usage_limit_says_when_it_resets() -> None:
    limited = replace(CLI, usage_limit=(r"wait (?P<after>\w+)",))
    assert with_preset(limited, (Reason.FAILED, ""), ["wait 1h"], NOON)[2] == NOON.timestamp() + 3600


# -- the last words

LOG_OF_NPM = b"npm error A complete log of this run can be found in: x\n"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"x" * 200, "x" * 200),
        (b"x" * 201, "x" * 199 + "…"),
        (b"a\tb\n", "a b"),
        (LOG_OF_NPM, "npm error A complete log of this run can be found in: x"),
        (b"npm ERR! code 1\nnpm ERR! it broke\n" + LOG_OF_NPM, "npm ERR! it broke"),
        (b"npm error code 1\nnpm error path /a\nnpm error errno 2\n", "npm error errno 2"),
        (b"it broke\nBun v1.2 (Linux)\n", "it broke"),
        (b'it broke\nerror: "tsc" exited with code 2\n', "it broke"),
        (b"it broke\n ELIFECYCLE  Command failed with exit code 1.\n", "it broke"),
        (b"npm notice\nnpm error code 1\nnpm error first\nnpm error second\n", "npm error first"),
        (b"at work (/a.mjs:3:9)\n", "at work (/a.mjs:3:9)"),
        (b"nothing works\nat work (/a.mjs:3:9)\nat /a.mjs:4\n", "nothing works"),
        (b"at noon it broke\n", "at noon it broke"),
        (b"a.js:1\nx\n^^^\nTypeError: no\nNode.js v22.1.0\n", "TypeError: no"),
        (b"a\n^\nfirst\nb\n^\nsecond\nthird\nNode.js v22.1.0\n", "second"),
        (b"it broke\nNode.js v22.1.0\n", "it broke"),
        (b"error: no\nsource line\n   ^^\n", "error: no"),
        (b"source line\n^\n", "^"),
    ],
)  # fmt: skip
def test_line_that_names_the_error_is_the_last_word(output: bytes, words: str) -> None:
    assert last_words(output) == words


@given(st.binary(max_size=300))
def test_last_words_are_one_printable_line_of_200_characters_at_most(output: bytes) -> None:
    words = last_words(output)
    assert len(words) <= 200
    assert words.isprintable()
    assert bool(words) == any(unstyled(line).strip() for line in output.decode(errors="replace").splitlines())


def test_claudes_stream_is_judged_by_its_last_result() -> None:
    tool = '{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":"exit 3"}]}}'
    good = '{"duration_api_ms":0,"is_error":false,"type":"result","result":"say \\"type\\":\\"result\\""}'
    bad = '{"duration_api_ms":0,"is_error":true,"type":"result","result":"API Error"}'

    def reason(*lines: str) -> Reason:
        printed = ["\n".join(lines) + "\n"]
        return with_preset(read_preset("claude"), (Reason.COMPLETED, ""), printed, NOON)[0]

    assert reason(tool, good) is Reason.COMPLETED
    assert reason(tool) is Reason.COMPLETED
    assert reason(bad, good) is Reason.COMPLETED
    assert reason(good, bad) is Reason.FAILED
    assert reason(bad) is Reason.FAILED


def test_no_preset_makes_a_cli_refuse_subagents() -> None:
    assert not any("SUBAGENT" in name for preset in preset_names() for name in read_preset(preset).env)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("claude", '{"type":"result","is_error":true,"result":"Credit balance is too low"}'),
        ("codex", '{"type":"turn.failed","error":{"message":"Quota exceeded. Check your plan and billing details."}}'),
        ("codex", "You exceeded your current quota, please check your plan and billing details."),
        ("gemini", '{"message":"[API Error: {\\"error\\":{\\"code\\":402,\\"message\\":\\"billing is off\\"}}]"}'),
        ("gemini", "{\n  status: 402\n}"),
        ("qwen", "429 insufficient_quota"),
        ("opencode", "insufficient_quota"),
        ("node", "429 insufficient_quota: too many requests"),
    ],
)
def test_exhausted_credit_is_no_usage_limit(name: str, said: str) -> None:
    found = with_preset(read_preset(name), (Reason.FAILED, "exit 1"), ["", f"well\n{said}\n"], NOON)
    assert (found[0], found[2]) == (Reason.NO_CREDIT, None)
    assert found[1].startswith(f"{name} has no credit left: ")


def test_exit_code_is_named_as_the_preset_says() -> None:
    assert describe(Exit(code=173, signal=None), read_preset("gemini").exit_codes) == "exit 173 (HTTP 429)"
    assert describe(Exit(code=1, signal=None), read_preset("gemini").exit_codes) == "exit 1"
