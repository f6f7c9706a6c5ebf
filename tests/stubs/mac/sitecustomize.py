"""Make Python as on macOS: first in PYTHONPATH, it takes what only Linux has away before any program begins.

Calls that take other structures or numbers there are answered as macOS answers them. What the program starts is not
changed. With MAC_PROC psutil reads /proc at that path, for a machine on which /proc itself is hidden.
"""

import asyncio  # noqa: F401
import ctypes
import errno
import fcntl
import multiprocessing  # noqa: F401
import os
import platform
import resource
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess  # noqa: F401
import sys
import sysconfig
import time
import uuid  # noqa: F401
from typing import Any

import psutil  # all these choose by sys.platform when they are imported

_HERE = os.path.dirname(__file__)  # noqa: PTH120
_MOST_FILES = 122880  # kern.maxfilesperproc
_ONLY_LINUX: tuple[tuple[Any, str], ...] = (
    (os, "pidfd_open eventfd eventfd_read EFD_CLOEXEC EFD_NONBLOCK memfd_create sched_getaffinity sched_setscheduler"),
    (os, "sched_param SCHED_BATCH waitid posix_fadvise posix_fallocate getxattr setxattr listxattr fdatasync pipe2"),
    (os, "O_PATH O_TMPFILE O_DIRECT copy_file_range splice getrandom getresuid setresuid unshare setns"),
    (select, "epoll EPOLLIN EPOLLPRI"),
    (signal, "pidfd_send_signal sigtimedwait sigwaitinfo SIGRTMIN SIGRTMAX SIGPWR SIGPOLL"),
    (socket, "SOCK_NONBLOCK SOCK_CLOEXEC SO_PEERCRED AF_NETLINK"),
    (resource, "prlimit"),
    (fcntl, "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_OFD_SETLK F_OFD_SETLKW F_OFD_GETLK"),
    (time, "CLOCK_BOOTTIME"),
)
_ONLY_GLIBC = ("prctl", "fallocate", "syscall", "malloc_trim")
_OFD = {90: fcntl.F_OFD_SETLK, 92: fcntl.F_OFD_GETLK}
_LOCKS = {1: fcntl.F_RDLCK, 2: fcntl.F_UNLCK, 3: fcntl.F_WRLCK}
_SO_PEERCRED = socket.SO_PEERCRED
_LINUX_FLOCK, _MAC_FLOCK = struct.Struct("hhqqi4x"), struct.Struct("qqihh")

_NO_TOOLS = ("setpriv", "busctl", "systemd-run")
_fcntl, _getsockopt, _which = fcntl.fcntl, socket.socket.getsockopt, shutil.which
_getrlimit, _setrlimit = resource.getrlimit, resource.setrlimit
_files: tuple[int, int] = (256, resource.RLIM_INFINITY)


def mac_fcntl(fd: Any, command: int, arg: Any = 0) -> Any:
    if command not in _OFD:
        return _fcntl(fd, command, arg)
    start, length, pid, kind, whence = _MAC_FLOCK.unpack(arg[: _MAC_FLOCK.size])
    if kind not in _LOCKS:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    told = _fcntl(fd, _OFD[command], _LINUX_FLOCK.pack(_LOCKS[kind], whence, start, length, pid))
    found, whence, start, length, pid = _LINUX_FLOCK.unpack(told)
    kind = next(mac for mac, linux in _LOCKS.items() if linux == found)
    return _MAC_FLOCK.pack(start, length, pid, kind, whence)


def mac_getrlimit(which: int) -> tuple[int, int]:
    return _files if which == resource.RLIMIT_NOFILE else _getrlimit(which)


def mac_setrlimit(which: int, limits: tuple[int, int]) -> None:
    global _files
    if which != resource.RLIMIT_NOFILE:
        _setrlimit(which, limits)
        return
    if not 0 <= limits[0] <= _MOST_FILES:
        raise ValueError("current limit exceeds maximum limit")
    _files = (limits[0], limits[1])


def mac_getsockopt(self: socket.socket, level: int, option: int, length: int = 0) -> Any:
    """LOCAL_PEERCRED gives a struct xucred, LOCAL_PEERPID a number."""
    if level != 0 or option not in (1, 2):
        return _getsockopt(self, level, option, *([length] if length else []))
    pid, uid, gid = struct.unpack("3i", _getsockopt(self, socket.SOL_SOCKET, _SO_PEERCRED, 12))
    if option == 2:
        return struct.pack("i", pid) if length else pid
    return struct.pack("IIh2x16I", 0, uid, 1, gid, *[0] * 15)[:length]


def mac_environ(self: psutil.Process) -> dict[str, str]:
    """The kernel shows no environment of a program that Apple protects, /bin/sh and sleep among them."""
    raise psutil.AccessDenied(self.pid)


class MacCDLL(ctypes.CDLL):
    def __getattr__(self, name: str) -> Any:
        if name in _ONLY_GLIBC:
            raise AttributeError(name)
        return super().__getattr__(name)


sysconfig.get_config_vars()
for module, names in _ONLY_LINUX:
    for each in names.split():
        if hasattr(module, each):
            delattr(module, each)
selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc, assignment]
fcntl.fcntl, fcntl.F_RDLCK, fcntl.F_UNLCK, fcntl.F_WRLCK = mac_fcntl, 1, 2, 3  # type: ignore[misc]
resource.getrlimit, resource.setrlimit = mac_getrlimit, mac_setrlimit
socket.socket.getsockopt = mac_getsockopt  # type: ignore[method-assign, assignment]
shutil.which = lambda cmd, *args, **more: None if cmd in _NO_TOOLS else _which(cmd, *args, **more)  # type: ignore[assignment]
psutil.Process.environ = mac_environ  # type: ignore[method-assign]
ctypes.CDLL = MacCDLL  # type: ignore[misc]
platform.system, platform.release = lambda: "Darwin", lambda: "25.1.0"
if "MAC_PROC" in os.environ:
    psutil.PROCFS_PATH = os.environ.pop("MAC_PROC")
os.environ["PYTHONPATH"] = os.pathsep.join(part for part in os.environ["PYTHONPATH"].split(os.pathsep) if part != _HERE)
sys.platform = "darwin"
