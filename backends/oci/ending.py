"""Ending what a creation has begun."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

from backends.errors import InnkeeperError
from backends.kernel.cgroup import Cgroup

_DEATH_S = 5.0


def end(pid: int, pidfd: int) -> None:
    """Kill a process, wait until it is dead, reap it if it is our child, and close the descriptor."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    watch.poll(_DEATH_S * 1000)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    os.close(pidfd)


def remove(group: Cgroup) -> None:
    """Remove a group with all that runs in it, as far as the kernel lets us."""
    with suppress(OSError, InnkeeperError):
        if group.is_populated():
            group.kill()
        group.remove()
