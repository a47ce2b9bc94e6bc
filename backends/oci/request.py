"""What the engine is asked for, and what it gives back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from backends.errors import StartFailed, os_error_text
from backends.kernel.cgroup import Cgroup
from backends.oci.gate import Gate
from backends.trace import Step


@dataclass(slots=True)
class CreateRequest:
    """One container to be created."""

    id: str
    bundle: str
    """Absolute."""

    root: str
    """Absolute path of the root file system on the host."""

    config: Mapping[str, Any]
    """config.json, checked."""

    group: Cgroup | None
    """Made, limited and entered; None: the container stays in the runtime's own."""

    gate: Gate
    state: Callable[[str, int], Mapping[str, Any]]
    """(status, pid) → the OCI state that hooks get; called in the runtime only."""

    stdio: Sequence[int] = (0, 1, 2)
    """What the program gets as 0, 1, 2 where it has no terminal; ours stay open here."""

    console: int | None = None
    """A connected AF_UNIX socket that gets the terminal's master; None: it comes back in Created."""

    plain_newlines: bool = False
    """The terminal leaves newlines as they are: whoever shows its output treats them."""

    size: tuple[int, int] | None = None
    """(rows, columns) of the terminal; None: process.consoleSize."""

    preserve_fds: int = 0
    """So many descriptors from 3 on are the program's."""

    listen_fds: int = 0
    """So many more before them, from a service manager (sd_listen_fds(3))."""

    no_pivot: bool = False
    no_new_keyring: bool = False
    user: str | None = None
    """Looked up in the container's own files, in the place of process.user."""

    group_steps: Sequence[Step] | None = None
    """What limits the group; None: as linux.resources says."""

    before_mounts: Sequence[Step] = ()
    """In init, before anything is mounted: what makes the root file system."""

    host_steps: Callable[[int], Sequence[Step]] = lambda _pid: ()
    """In the runtime, when init (pid) is in its namespaces; undone if the creation fails later."""

    holding: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Held while host_steps run."""

    in_container: Sequence[Step] = ()
    """In init, in its namespaces, before the pivot."""

    own_fds: Sequence[int] = ()
    """Descriptors of the runtime that the container's processes shall not have for a moment."""

    is_traced: bool = False
    """Send what becomes of each step of the stage and of init to the recorder."""

    timeout_s: float | None = None
    """How long to wait for the stage and init each time; None: as long as they live."""

    @property
    def first_fd(self) -> int:
        """The first descriptor that the program does not get."""
        return 3 + self.listen_fds + self.preserve_fds


@dataclass(slots=True)
class Created:
    """A container whose init waits at its gate."""

    pid: int
    pidfd: int
    """Refers to init whatever becomes of the pid; the caller closes it."""

    terminal_fd: int | None = None
    """Master of its terminal, if it has one and no console socket took it."""

    sync: socket.socket | None = None
    """With a SocketGate: the connection to init."""

    undo: Callable[[], None] = lambda: None
    """Kill it and take back all that its creation did; in this process only."""


def check_descriptors(wanted: int) -> None:
    """Raise StartFailed, in runc's words, unless so many descriptors from 3 on are there."""
    for number in range(wanted):
        try:
            os.fstat(3 + number)
        except OSError as error:
            text = f"please check that preserved-fd {number} (of {wanted}) is present"
            raise StartFailed(f"{text}: {os_error_text(error).lower()}") from error
