"""Trying what the kernel lets this user do: each act really done, in a child that then ends.

`run_probes` starts a Python of its own for it: the caller may have threads, and unsharing a user
namespace fails in a process that has any. Nothing is left behind; what a child makes goes with its
namespaces.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backends.kernel import linux

NAMESPACES = {
    "mnt": linux.CLONE_NEWNS,
    "pid": linux.CLONE_NEWPID,
    "net": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "cgroup": linux.CLONE_NEWCGROUP,
    "user": linux.CLONE_NEWUSER,
    "time": linux.CLONE_NEWTIME,
}
"""Name in /proc/self/ns → flag of unshare(2)."""

TIME_LIMIT_S = 3
"""A child that hangs is ended after that."""

NOBODY = 65534
_NO_ANSWER = -1


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one probe."""

    name: str
    """A namespace's name, "user-unprivileged", "overlay", "seccomp" or "nftables"."""

    errno: int
    """0 if it worked, -1 if it did not end in time."""

    step: str = ""
    """The act that failed."""

    @property
    def ok(self) -> bool:
        """Whether it worked."""
        return self.errno == 0

    @property
    def answer(self) -> str:
        """What the kernel said."""
        return "no answer" if self.errno == _NO_ANSWER else os.strerror(self.errno)


def run_probes(folder: Path, *, timeout_s: float = 20.0) -> dict[str, Trial]:
    """Do all probes, overlays in a scratch folder below the one given, and return them by name.

    One that could not be done at all is left out.
    """
    home = str(Path(__file__).resolve().parents[2])
    code = "import sys; sys.path.insert(0, sys.argv[1]); from backends.kernel.probe import main; main(sys.argv[2])"
    command = [sys.executable, "-I", "-c", code, home, str(folder)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {}
    trials = [Trial(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    return {trial.name: trial for trial in trials}


def main(folder: str) -> None:
    """Do all probes in this process's children and print a JSON array for each."""
    acts: dict[str, Callable[[], None]] = {name: _unsharing(flag) for name, flag in NAMESPACES.items()}
    if os.geteuid() == 0:
        acts["user-unprivileged"] = _unshare_user_as_nobody
    with tempfile.TemporaryDirectory(prefix="innkeeper-probe-", dir=_writable(folder)) as scratch:
        acts |= {"overlay": lambda: _mount_overlay(scratch), "seccomp": _load_filter, "nftables": _ask_nftables}
        for name, act in acts.items():
            number, step = in_child(act)
            sys.stdout.write(json.dumps([name, number, step]) + "\n")
            sys.stdout.flush()


def in_child(act: Callable[[], None]) -> tuple[int, str]:
    """Run the act in a forked child and return (errno, what failed); (0, "") if it worked."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the child
            signal.alarm(TIME_LIMIT_S)
            _report(act, writer)
        finally:
            os._exit(0)  # whatever happens, it never returns into the caller's code
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    if not answer:
        return _NO_ANSWER, ""
    return struct.unpack_from("i", answer)[0], answer[4:].decode()


def _report(act: Callable[[], None], writer: int) -> None:
    try:
        act()
        os.write(writer, struct.pack("i", 0))
    except OSError as error:
        step = str(error.filename or "")
        os.write(writer, struct.pack("i", error.errno or errno.EIO) + step.encode())


def _unsharing(flag: int) -> Callable[[], None]:
    return lambda: linux.unshare(flag)


def _unshare_user_as_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    linux.unshare(linux.CLONE_NEWUSER)


def _enter_own_mounts() -> None:
    """Get a private mount namespace; without root inside a user namespace in which we are root."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        linux.unshare(linux.CLONE_NEWNS)
    else:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)


def _mount_overlay(scratch: str) -> None:
    _enter_own_mounts()
    layers = {name: Path(scratch, name) for name in ("lower", "upper", "work", "merged")}
    for layer in layers.values():
        layer.mkdir()
    (layers["lower"] / "file").write_text("below")
    options = f"lowerdir={layers['lower']},upperdir={layers['upper']},workdir={layers['work']}"
    linux.mount("overlay", str(layers["merged"]), "overlay", 0, options)
    (layers["merged"] / "file").write_text("above")
    linux.umount(str(layers["merged"]))


def _load_filter() -> None:
    """Load a filter of one instruction: allow everything."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.load_seccomp_filter(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW


def _ask_nftables() -> None:
    """Ask the kernel for its generation of rules, in a network namespace of our own."""
    linux.unshare(linux.CLONE_NEWNET if os.geteuid() == 0 else linux.CLONE_NEWUSER | linux.CLONE_NEWNET)
    get_generation, request = (10 << 8) | 16, 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN; NLM_F_REQUEST
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:  # NETLINK_NETFILTER
        netfilter.send(struct.pack("=IHHIIBBH", 20, get_generation, request, 1, 0, 0, 0, 0))
        reply = netfilter.recv(4096)
    (kind,) = struct.unpack_from("=H", reply, 4)
    if kind == 2:  # NLMSG_ERROR
        (negative,) = struct.unpack_from("=i", reply, 16)
        raise OSError(-negative, os.strerror(-negative), "nf_tables")


def _writable(folder: str) -> str | None:
    """Return the folder or its nearest parent that we may write to, so that the state's own disk is tried."""
    for place in (Path(folder), *Path(folder).parents):
        if place.is_dir():
            return str(place) if os.access(place, os.W_OK) else None
    return None
