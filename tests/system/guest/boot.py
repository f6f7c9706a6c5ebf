#!/usr/bin/env python3
"""Run a command on a kernel of its own, with real cgroup v2 controllers and a real systemd: `boot.py user id`.

The guest is Debian's stock cloud kernel in QEMU. Virtio-pci and virtiofs are built in, so it needs no initramfs and no
disk image. Its `/` is that of this machine, read-only, by virtiofs: code, interpreter and node are at the paths they
have here. Files that the command writes to $GUEST_OUT are copied to a folder here.
"""

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "seqsup-guest"
MODES = {
    "root": "as root, without systemd: PID 1 is the file `init` beside this one",
    "user": "in a login session of an unprivileged user, with systemd as PID 1 and a user manager",
}
NO_GUEST = 125  # the exit code when there is no result: no fault of the command's


class GuestError(Exception):
    """There is no result of the command: the guest lacks something, does not boot, panics, or takes too long."""


def missing() -> str:
    """Return a requirement of a guest that this machine lacks, with the command that installs it; empty if all are
    there.
    """
    lacks = [name for name in ("qemu-system-x86_64", "setpriv") if not shutil.which(name)]
    lacks += [] if _virtiofsd() else ["virtiofsd"]
    lacks += [] if Path("/lib/systemd/systemd").exists() else ["systemd"]
    lacks += [] if _kernel() else [f"Debian's cloud kernel in /boot or {CACHE}"]
    return f"no {', '.join(lacks)}; as root, by apt: {HERE / 'install'}" if lacks else ""


def boot(mode: str, command: Sequence[str], out: Path, deadline: float) -> int:
    """Run the command in a fresh guest and return its exit code; what it prints comes by the kernel's console."""
    if needed := missing():
        raise GuestError(needed)
    with tempfile.TemporaryDirectory(prefix="seqsup-guest-") as folder:
        job = Path(folder, "job")
        (job / "out").mkdir(parents=True)
        (job / "mode").write_text(mode)
        (job / "show").write_text("".join(f"{path}\n" for path in _shown()))
        (job / "command").write_text(_script(command, mode))
        with _guest(job) as kernel:
            try:
                code = kernel.wait(deadline)
            except subprocess.TimeoutExpired:
                raise GuestError(f"the guest is still running after {deadline} s") from None
        try:
            ended = int((job / "code").read_text())
        except (OSError, ValueError):
            raise GuestError(f"the guest ended without a result, by a panic perhaps (QEMU: {code})") from None
        shutil.copytree(job / "out", out, dirs_exist_ok=True)
        return ended


@contextlib.contextmanager
def _guest(job: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """QEMU and its two file servers; they end with this block, and, by setpriv, with this process."""
    with contextlib.ExitStack() as all_ended:

        def start(*command: str) -> "subprocess.Popen[bytes]":
            process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)
            all_ended.callback(process.wait)
            all_ended.callback(process.kill)
            return process

        for tag, options in (
            ("rootfs", ["--shared-dir=/", "--readonly", "--cache=always"]),
            ("job", [f"--shared-dir={job}", "--cache=never"]),
        ):
            socket = _socket(job, tag)
            server = start(_virtiofsd(), f"--socket-path={socket}", "--sandbox=none", "--log-level=error", *options)
            while not socket.exists():
                if server.poll() is not None:
                    raise GuestError(f"virtiofsd does not start ({server.returncode})")
                time.sleep(0.01)
        yield start(*_qemu(job))


def _socket(job: Path, tag: str) -> Path:
    return job.with_name(f"{tag}.socket")


def _qemu(job: Path) -> list[str]:
    # KVM only on demand: /dev/kvm proves nothing, nested it may take a guest and then fail.
    kvm = os.environ.get("SEQSUP_GUEST_ACCEL") == "kvm"
    shares = [
        f"-chardev socket,id={tag},path={_socket(job, tag)} "
        f"-device vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"
        for tag in ("rootfs", "job")
    ]
    options = f"""
        -accel {"kvm" if kvm else "tcg,thread=multi,tb-size=512"} -cpu {"host" if kvm else "Nehalem"} -smp 2 -m 1G
        -M q35,hpet=off,smm=off,vmport=off,memory-backend=memory -object memory-backend-memfd,id=memory,size=1G,share=on
        {" ".join(shares)} -nodefaults -no-user-config -display none -serial stdio -no-reboot -kernel {_kernel()}
    """
    line = f"""
        console=ttyS0 rootfstype=virtiofs root=rootfs ro init={HERE}/init quiet loglevel=3 panic=-1
        mitigations=off nokaslr fstab=no systemd.gpt_auto=no systemd.swap=no
        systemd.unit=guest.target systemd.show_status=0 systemd.log_level=warning systemd.log_target=console
    """
    return ["qemu-system-x86_64", *options.split(), "-append", " ".join(line.split())]


def _virtiofsd() -> str:
    return shutil.which("virtiofsd", path=f"/usr/libexec:{os.environ.get('PATH', os.defpath)}") or ""


def _kernel() -> Path | None:
    found = [path for folder in (CACHE, Path("/boot")) for path in folder.glob("vmlinuz-*cloud-amd64")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _shown() -> list[Path]:
    """Folders which the command needs, wherever they are: links after what they lead to, children after parents."""
    folders = {REPO, Path.cwd(), Path(sys.prefix), Path(sys.base_prefix), *map(Path, os.get_exec_path())}
    there = {path for path in folders if path.is_dir()}
    resolved = {path.resolve() for path in there}
    return [*sorted(resolved), *sorted(there - resolved)]


def _script(command: Sequence[str], mode: str) -> str:
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "SEQSUP_GUEST": mode,
        # The command lives on a read-only root.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
    }
    if (compiled := "PYTHONPYCACHEPREFIX") in os.environ:  # compiling takes a quarter of the time in there
        env[compiled] = os.environ[compiled]
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    return f"{exports}cd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(command)}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES, help="; ".join(f"{mode}: {text}" for mode, text in MODES.items()))
    parser.add_argument("--out", type=Path, help="where $GUEST_OUT is copied to")
    parser.add_argument("--deadline", type=float, default=300, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("which command?")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the guest is ended and removed
    try:
        with tempfile.TemporaryDirectory() as nowhere:
            out = arguments.out or Path(nowhere)
            return boot(arguments.mode, arguments.command, out, arguments.deadline)
    except GuestError as error:
        print(f"boot.py: {error}", file=sys.stderr)
        return NO_GUEST


if __name__ == "__main__":
    sys.exit(main())
