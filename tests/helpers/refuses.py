"""Refuses a system call to itself and all that it becomes, as the seccomp profile of an old container does.

python refuses.py CALL ERRNO COMMAND…
"""

import ctypes
import os
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PRCTL = {"x86_64": 157, "aarch64": 167}.get(platform.machine(), -1)

# By number, and the first argument where only that is refused
CALLS: dict[str, tuple[int, int | None]] = {
    "pidfd_open": (434, None), "pidfd_send_signal": (424, None), "prctl": (_PRCTL, 36),
}  # fmt: skip


def refuse(call: str, error: int) -> None:
    number, argument = CALLS[call]
    rules = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 3 if argument is not None else 1, number)]
    if argument is not None:
        rules += [(_LOAD, 0, 0, 16), (_EQUAL, 0, 1, argument)]
    rules += [(_RETURN, 0, 0, _ERRNO | error), (_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, described, 0, 0)):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    try:
        refuse(sys.argv[1], int(sys.argv[2]))
    except OSError:
        sys.exit(99)
    os.execvp(sys.argv[3], sys.argv[3:])
