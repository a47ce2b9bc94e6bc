"""A driver that makes a container's processes from a checkpoint: CRIU brings them back into what we make around them.

Ours are the control group, the network namespace with its link, the overlay and what is bound into it; CRIU makes
the other namespaces, the mounts in them, and the processes with their memory.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError, StartFailed
from backends.kernel import linux, netlink
from backends.native.drivers.namespace import InNetwork
from backends.native.drivers.native import NativeDriver
from backends.oci import criu, terminal
from backends.oci.request import Created, CreateRequest
from backends.trace import Recorder, Step

ASKED, FACTS = "restore.json", "innkeeper.json"
"""In the container's folder: what the next start is to be made from. In the image's: what we need to know of it."""

NETWORK = "innkeeper-net"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def asked(folder: Path) -> RestoredDriver | None:
    """Return the driver if the next start of the container in this folder is to be made from a checkpoint."""
    try:
        job = json.loads((folder / ASKED).read_text())
    except FileNotFoundError:
        return None
    (folder / ASKED).unlink(missing_ok=True)
    return RestoredDriver(job["program"], Path(job["image"]), job["options"])


class RestoredDriver(NativeDriver):
    """CRIU, for one start."""

    def __init__(self, program: str, image: Path, options: Sequence[str]) -> None:
        self._program, self._image, self._options = program, image, options

    def create(self, request: CreateRequest, recorder: Recorder) -> Created:
        """Bring the processes back. Raises StartFailed after undoing all."""
        facts = json.loads((self._image / FACTS).read_text())
        assert request.group is not None
        done: list[Step] = []
        holder = 0
        try:
            for step in (*request.group.create_steps(), *(request.group_steps or ())):
                recorder.run(step)
                done.append(step)
            if facts["network"]:
                holder = _hold_network()
                with request.holding():
                    for step in request.host_steps(holder):
                        recorder.run(step)
                        done.append(step)
                for step in (netlink.LoopbackUp(), *request.in_container):
                    recorder.run(InNetwork(step, holder))
            pid = self._restore(request, facts, holder)
            return Created(pid, os.pidfd_open(pid))
        except (InnkeeperError, OSError, ValueError) as error:
            for step in reversed(done):
                with suppress(OSError, InnkeeperError):
                    step.undo()
            with suppress(OSError, InnkeeperError):
                request.group.remove()
            raise StartFailed(f"cannot restore it: {error}", hint=getattr(error, "hint", "")) from error
        finally:
            if holder:
                os.kill(holder, 9)
                os.waitpid(holder, 0)

    def started(self, created: Created) -> None:
        """They run already."""

    def _restore(self, request: CreateRequest, facts: dict[str, Any], holder: int) -> int:
        fds: list[int] = []
        words = list(self._options)
        if holder:
            fds.append(os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            words += ["--inherit-fd", f"fd[3]:{NETWORK}"]
        for number, pipe in facts["pipes"].items():
            fds.append(request.stdio[int(number)])
            words += ["--inherit-fd", f"fd[{2 + len(fds)}]:{pipe}"]
        for point, source in facts["mounts"].items():
            words += ["--external", f"mnt[{point}]:{source}"]
        pid_file = self._image / "pid"
        pid_file.unlink(missing_ok=True)
        words += ["--restore-detached", "--pidfile", str(pid_file)]
        status = _run(request, criu.command(self._program, "restore", self._image, request.root, words), fds)
        if holder:
            os.close(fds[0])
        if status:
            raise InnkeeperError(criu.failure("restore", self._image))
        return int(pid_file.read_text())


def _hold_network() -> int:
    """Fork a process that does nothing in a new network namespace, and return its pid."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            linux.unshare(linux.CLONE_NEWNET)
            os.write(writing, b"x")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    is_there = os.read(reading, 1)
    os.close(reading)
    if not is_there:
        os.waitpid(pid, 0)
        raise InnkeeperError("cannot make a network namespace")
    return pid


def _run(request: CreateRequest, words: Sequence[str], fds: Sequence[int]) -> int:
    """Run CRIU where the container's root is mounted, with these descriptors from 3 on; return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            terminal.reset_signals()
            linux.unshare(linux.CLONE_NEWNS)
            for step in request.before_mounts:
                step.run()
            assert request.group is not None
            request.group.enter(os.getpid())
            high = [_above(fd) for fd in fds]
            null = os.open("/dev/null", os.O_RDWR)
            for number, fd in enumerate((null, null, null, *high)):
                os.dup2(fd, number)
            linux.close_range_cloexec(3 + len(high))
            os.execve(words[0], list(words), {"PATH": _PATH})
        finally:
            os._exit(125)
    return os.waitpid(pid, 0)[1]


def _above(fd: int) -> int:
    """Return a copy of a descriptor that is in nobody's way below 100."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
