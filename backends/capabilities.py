"""What a backend can do with a guest, besides having it in its list. Companion of `base`, whose rules hold here.

A capability that a technology lacks is absent, never a method that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol, runtime_checkable

from backends.container import Archive, CheckpointOptions, ContainerSpec, ExecSpec, RestartPolicy
from backends.errors import InnkeeperError
from backends.events import GuestEvent
from backends.metrics import Sample
from backends.model import (
    Guest,
    GuestProcess,
    GuestRef,
    LimitChanges,
    LimitEvidence,
    Limits,
    LogLine,
    Snapshot,
)
from backends.sessions import AttachSession, ExecSession
from backends.trace import Recorder, Step


@runtime_checkable
class Lifecycle(Protocol):
    """Guests can be started and stopped."""

    def start(self, ref: GuestRef, recorder: Recorder) -> None:
        """Start a created or stopped guest; returns when it runs."""
        ...

    def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Ask it to end (its stop signal, ACPI), then end it by force after the timeout; returns when stopped.

        None: the backend's default (10 s for containers). A VM's default never forces and raises TimedOut.
        """
        ...

    def kill(self, ref: GuestRef, recorder: Recorder, *, signal: int = 9) -> None:
        """Send a signal to the first process; 9 ends a VM by force."""
        ...

    def restart(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Stop and start, or reboot."""
        ...


@runtime_checkable
class Pausing(Protocol):
    """Guests can be frozen."""

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Freeze it; returns when frozen."""
        ...

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Thaw it."""
        ...


@runtime_checkable
class Waiting(Protocol):
    """One can wait for a guest's end."""

    def wait(self, ref: GuestRef, *, timeout_s: float | None = None) -> int | None:
        """Block until it is not live and return its exit code (None where there is none). Raises TimedOut."""
        ...


@runtime_checkable
class Renaming(Protocol):
    """Guests can be renamed."""

    def rename(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Give it another name. Raises AlreadyExists, UsageError."""
        ...


@runtime_checkable
class Removing(Protocol):
    """Guests can be removed for good."""

    def remove(self, ref: GuestRef, recorder: Recorder, *, force: bool = False) -> None:
        """Remove it and all that belongs to it; a live one only with force."""
        ...


@runtime_checkable
class Limiting(Protocol):
    """Limits can be read and changed."""

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits in force, read from the source now."""
        ...

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change the named fields, at once if it is live and for later starts; return what is then in force.

        All or nothing: when one fails, those already changed are put back and the error says which failed.
        """
        ...

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Map each field of Limits to "" if it can be set for this guest, else to the reason why not."""
        ...

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Say what would hurt: a memory limit below present use, a quota below what the kernel takes …"""
        ...


@runtime_checkable
class Evidencing(Protocol):
    """The kernel counts what some limits did; reading it costs too much to be done each second."""

    def limit_evidence(self, ref: GuestRef) -> Mapping[str, LimitEvidence]:
        """Return, for the fields of Limits that are set and have such figures, what was counted since they were set.

        Empty for a guest that is not live.
        """
        ...


@runtime_checkable
class Snapshotting(Protocol):
    """Guests have snapshots."""

    def snapshots(self, ref: GuestRef) -> Sequence[Snapshot]:
        """Return all snapshots, parents before children."""
        ...

    def snapshot_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Snapshot:
        """Save the guest's state under a name. Raises AlreadyExists."""
        ...

    def snapshot_restore(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Take the guest back; what it did since is lost. A live container is stopped and started for it."""
        ...

    def snapshot_remove(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Remove one; the others stay whole."""
        ...


@runtime_checkable
class Logging(Protocol):
    """What guests print is kept."""

    def logs(
        self, ref: GuestRef, *, follow: bool = False, tail: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[LogLine]:
        """Yield what it printed, oldest first; with follow until it ends or stop() says so (asked every 0.2 s)."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """Whoever runs a program in the foreground gets all of its output: it waits for its reader, as at a pipe."""

    def stream(self, ref: GuestRef, *, stop: Callable[[], bool] = lambda: False) -> Iterator[LogLine]:
        """Yield what it prints until it ends or stop() says so, in pieces of one stream each, lines or parts of some.

        From the call on, which may be before its start, nothing is missed.
        """
        ...


@runtime_checkable
class LogClearing(Protocol):
    """What guests printed can be thrown away."""

    def clear_log(self, ref: GuestRef, recorder: Recorder) -> None:
        """Forget what it has printed so far, live or not."""
        ...


@runtime_checkable
class Telling(Protocol):
    """What happened to guests is on record, whoever did it and when."""

    def events(
        self, *, since_s: float | None = None, follow: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[GuestEvent]:
        """Yield what has happened since then (None: nothing old), and with follow what happens, until stop() is true.

        stop() is asked every 0.2 s.
        """
        ...


@runtime_checkable
class Processes(Protocol):
    """One can see a guest's processes from the host."""

    def processes(self, ref: GuestRef) -> Sequence[GuestProcess]:
        """Return the processes of a live guest."""
        ...


@runtime_checkable
class Creating(Protocol):
    """New containers can be made."""

    def create(self, spec: ContainerSpec, recorder: Recorder) -> Guest:
        """Make a container, not started. Raises NotFound (image), AlreadyExists (name), UsageError."""
        ...

    def explain(self, spec: ContainerSpec) -> Sequence[tuple[str, Step]]:
        """Return (process, step) for all that create and start would do, and do none of it."""
        ...


@runtime_checkable
class Executing(Protocol):
    """Programs can be run inside live guests."""

    def exec(self, ref: GuestRef, spec: ExecSpec, stdio: tuple[int, int, int] | None = None) -> ExecSession:
        """Start a program; stdio are three descriptors it gets (dup'ed) unless it has a terminal.

        Raises StartFailed with 126 or 127 when the program cannot be executed.
        """
        ...


@runtime_checkable
class Attaching(Protocol):
    """One can follow a container's output and feed its input."""

    def attach(self, ref: GuestRef, *, size: tuple[int, int] | None = None) -> AttachSession:
        """Connect to the standard input and terminal of a live container."""
        ...


@runtime_checkable
class Copying(Protocol):
    """Files can be copied into and out of guests, live or stopped."""

    def copy_out(self, ref: GuestRef, path: str) -> Archive:
        """Return a path of the guest as a tar stream, its last name at the top. Raises NotFound (path)."""
        ...

    def copy_in(self, ref: GuestRef, path: str, stream: BinaryIO, recorder: Recorder) -> None:
        """Unpack a tar stream into a folder of the guest. Raises NotFound when there is no such folder."""
        ...


@runtime_checkable
class Restarting(Protocol):
    """Guests are started again by themselves."""

    def set_restart_policy(self, ref: GuestRef, policy: RestartPolicy, recorder: Recorder) -> None:
        """Change when it is started again, at once."""
        ...


@runtime_checkable
class Holding(Protocol):
    """A guest that is removed at its end can be kept for a look at what it left."""

    def held(self, ref: GuestRef) -> AbstractContextManager[None]:
        """Keep it until the body ends, or this process. Raises NotFound."""
        ...


@runtime_checkable
class Booting(Protocol):
    """Guests are started with the host, and ended with it."""

    def boot_plan(self) -> Sequence[Guest]:
        """Return what boot would start, in order."""
        ...

    def boot(self, recorder: Recorder) -> Sequence[tuple[Guest, InnkeeperError | None]]:
        """Start what its restart policy wants after a start of the host; each with what stood in the way."""
        ...

    def halt(self, recorder: Recorder) -> Sequence[tuple[Guest, InnkeeperError | None]]:
        """Stop all that live so that boot starts them again; each with what stood in the way."""
        ...


@runtime_checkable
class Checkpointing(Protocol):
    """The state of a live guest can be written to disk and brought back (CRIU)."""

    def checkpoint(self, ref: GuestRef, options: CheckpointOptions, recorder: Recorder) -> None:
        """Write its processes to disk, and end it unless asked not to. Raises Unsupported with the reason."""
        ...

    def restore(self, ref: GuestRef, options: CheckpointOptions, recorder: Recorder) -> None:
        """Bring a checkpointed guest back to life."""
        ...


@runtime_checkable
class Consoling(Protocol):
    """Guests have a serial console."""

    def console(self, ref: GuestRef) -> ExecSession:
        """Open it as a terminal; terminal_fd is read and written raw."""
        ...
