"""What is asked for when a program is to run in a live container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.kernel.cgroup import Cgroup


@dataclass(slots=True)
class JoinRequest:
    """One program to be run in a live container."""

    id: str
    pid: int
    """Of the container's first process."""

    config: Mapping[str, Any]
    """The container's config.json."""

    process: Mapping[str, Any]
    """The program, as `process` of a config.json."""

    started_ticks: int | None = None
    """When the first process began (field 22 of /proc/PID/stat): another with its pid is refused."""

    pidfd: int = -1
    """Of the first process, from one who knew it: then nothing has to be checked."""

    group: Cgroup | None = None
    """The container's; entered before anything else."""

    sub_groups: Sequence[str] = ()
    """Groups below it to be entered instead: "PATH", or "CONTROLLER[,CONTROLLER]:PATH"."""

    stdio: Sequence[int] = (0, 1, 2)
    console: int | None = None
    """A connected AF_UNIX socket that gets the terminal's master; None: it comes back."""

    plain_newlines: bool = False
    """As in CreateRequest."""

    size: tuple[int, int] | None = None
    preserve_fds: int = 0
    listen_fds: int = 0
    user: str | None = None
    """Looked up in the container's own files, in the place of process.user."""

    state: Mapping[str, Any] | None = None
    """The container's OCI state, for who is asked about system calls."""

    more_environment: Sequence[str] = ()
    ignore_paused: bool = False
    no_new_keyring: bool = False
    own_fds: Sequence[int] = ()
    """Descriptors of the runtime that the stage shall not have for a moment."""

    is_traced: bool = False
    timeout_s: float | None = None

    @property
    def first_fd(self) -> int:
        """The first descriptor that the program does not get."""
        return 3 + self.listen_fds + self.preserve_fds
