"""A network for containers of a plain user: a process outside speaks for them (pasta(1), slirp4netns(1)).

RUN/containers/ID/network holds "pid start" of that process; it is ended with the container.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import StartFailed
from backends.kernel import linux, procfs
from backends.kernel.mounts import KernelStep
from backends.native.store import write_file

NETWORK = "user"
"""What ContainerRecord.network says of it."""

PROGRAMS = ("pasta", "slirp4netns")
_FILE, _LOG = "network", "network.log"
_START_S = 10.0


def programs() -> list[str]:
    """Return the paths of those that are installed; none if a tap device may not be opened."""
    if _why_no_tap():
        return []
    return [found for name in PROGRAMS if (found := shutil.which(name))]


def program() -> str | None:
    """Return the path of the one that is tried first."""
    return next(iter(programs()), None)


def _why_no_tap() -> str:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"this user cannot open /dev/net/tun: {error.strerror}"
    return ""


def why_not() -> str:
    """Say why there is no such network; empty if there is."""
    return _why_no_tap() or _why_no_program()


def _why_no_program() -> str:
    return "" if program() else "neither pasta nor slirp4netns is installed"


@dataclass(frozen=True, slots=True)
class ConnectByUser(KernelStep):
    """Give a container's network namespace a way out that needs no rights on the host's network."""

    pid: int
    """Of the container's first process."""

    run_folder: str
    kind = "link"

    def describe(self) -> str:
        return f"connect its network by {os.path.basename(program() or PROGRAMS[0])}"

    def by_hand(self) -> str:
        return f"slirp4netns --configure --mtu=65520 --disable-host-loopback {self.pid} tap0"

    def run(self) -> None:
        error = StartFailed(f"no network: {why_not()}", hint="--network none, or apt install passt")
        folder = Path(self.run_folder)
        for path in programs():
            try:
                pid = (_pasta if path.endswith("pasta") else _slirp)(path, self.pid, folder)
            except StartFailed as failed:
                error = failed  # pasta wants a network of the host's that is up; slirp4netns does not
                continue
            write_file(folder / _FILE, f"{pid} {procfs.start_ticks(pid)}")
            return
        raise error

    def undo(self) -> None:
        """End it."""
        stop(Path(self.run_folder))


def stop(run_folder: Path) -> None:
    """End a container's network process, if it has one."""
    with suppress(OSError, ValueError):
        pid, ticks = map(int, (run_folder / _FILE).read_text().split())
        if procfs.is_same_process(pid, ticks):
            os.kill(pid, signal.SIGKILL)
        (run_folder / _FILE).unlink()


def _slirp(path: str, pid: int, folder: Path) -> int:
    """Start slirp4netns; it is adopted when the process that makes the container ends. Raises StartFailed."""
    ready, theirs = os.pipe2(os.O_CLOEXEC)
    command = [path, "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={theirs}", str(pid), "tap0"]
    with (folder / _LOG).open("wb") as log:
        try:
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs,), start_new_session=True
            )
        finally:
            os.close(theirs)
    try:
        if select.select([ready], [], [], _START_S)[0] and os.read(ready, 1):
            return started.pid
        started.kill()
        started.wait()
        raise _failed(path, folder)
    finally:
        os.close(ready)
        started.returncode = 0  # not ours to wait for: it lives as long as the container


def _pasta(path: str, pid: int, folder: Path) -> int:
    """Start pasta, which goes to the background when the network is up. Raises StartFailed.

    It may not look into /proc of a process with more rights than its own, so it gets the namespace as a file, in
    mounts that only it sees.
    """
    place, told = folder / "netns", folder / "pasta.pid"
    place.touch()
    # Else what listens on the host's loopback would answer at the gateway's address.
    closed = ["--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    command = [path, "--config-net", "--quiet", "--runas", "0", *closed, "--pid", str(told), "--netns", str(place)]
    child = os.fork()
    if child == 0:
        _in_own_mounts(f"/proc/{pid}/ns/net", str(place), str(folder / _LOG), command)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise _failed(path, folder)
    return int(told.read_text())


def _in_own_mounts(source: str, place: str, log: str, command: list[str]) -> None:
    """Run in the child: bind the namespace's file, and become the command."""
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number, fd in enumerate((os.open(os.devnull, os.O_RDONLY), out, out)):
            os.dup2(fd, number)
        linux.close_range(3)
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", "", linux.MS_SLAVE | linux.MS_REC)
        linux.mount(source, place, "", linux.MS_BIND)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # it takes an ignored one for an error
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{error.strerror}: {error.filename or ''}".encode())
    finally:
        os._exit(1)


def _failed(path: str, folder: Path) -> StartFailed:
    lines = [line for line in (folder / _LOG).read_text(errors="replace").splitlines() if "syslog" not in line]
    said = lines[-1] if lines else "nothing"
    return StartFailed(f"no network: {os.path.basename(path)} says: {said}", hint="--network none does without")
