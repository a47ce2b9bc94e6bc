"""All that a user can do to guests, images and the host, declared once."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Sequence

from app.core.assets import ASSETS
from app.core.command import Argument, Command
from app.core.lasting import LASTING
from app.core.units import parse_duration
from backends import base, capabilities, container
from backends.errors import UsageError
from backends.model import Guest, GuestRef, GuestState, Limits, Snapshot
from backends.trace import Recorder

__all__ = ["COMMANDS", "Argument", "Command", "parse_signal"]

CREATED, RUNNING, PAUSED = GuestState.CREATED, GuestState.RUNNING, GuestState.PAUSED
STOPPING, STOPPED, LOST = GuestState.STOPPING, GuestState.STOPPED, GuestState.LOST
RESTARTING = GuestState.RESTARTING


def parse_signal(text: str) -> int:
    """Return a signal's number from "9", "KILL", "SIGKILL" or "RTMIN+3". Raises UsageError."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and 0 < int(name) <= signals.SIGRTMAX:
        return int(name)
    if f"SIG{name}" in signals.Signals.__members__:
        return int(signals.Signals[f"SIG{name}"])
    real_time = re.fullmatch(r"RT(MIN\+|MAX-)([0-9]{1,2})", name)
    if real_time is not None:
        offset = int(real_time[2])
        number = signals.SIGRTMIN + offset if real_time[1] == "MIN+" else signals.SIGRTMAX - offset
        if signals.SIGRTMIN <= number <= signals.SIGRTMAX:
            return int(number)
    raise UsageError(f"{text!r} is no signal: expected a name or number, such as TERM or 15")


def _start(backend: capabilities.Lifecycle, ref: GuestRef, recorder: Recorder) -> None:
    backend.start(ref, recorder)


def _stop(backend: capabilities.Lifecycle, ref: GuestRef, recorder: Recorder, timeout_s: float | None) -> None:
    backend.stop(ref, recorder, timeout_s=timeout_s)


def _kill(backend: capabilities.Lifecycle, ref: GuestRef, recorder: Recorder, signal: int | str) -> None:
    backend.kill(ref, recorder, signal=parse_signal(str(int(signal) if isinstance(signal, int) else signal)))


def _restart(backend: capabilities.Lifecycle, ref: GuestRef, recorder: Recorder, timeout_s: float | None) -> None:
    backend.restart(ref, recorder, timeout_s=timeout_s)


def _pause(backend: capabilities.Pausing, ref: GuestRef, recorder: Recorder) -> None:
    backend.pause(ref, recorder)


def _resume(backend: capabilities.Pausing, ref: GuestRef, recorder: Recorder) -> None:
    backend.resume(ref, recorder)


def _rename(backend: capabilities.Renaming, ref: GuestRef, recorder: Recorder, name: str) -> None:
    backend.rename(ref, name, recorder)


def _remove(backend: capabilities.Removing, ref: GuestRef, recorder: Recorder, force: bool) -> None:
    backend.remove(ref, recorder, force=force)


def _limit(backend: capabilities.Limiting, ref: GuestRef, recorder: Recorder, **changes: object) -> Limits:
    if not changes:
        raise UsageError("limit: which limit is to be changed?")
    return backend.set_limits(ref, changes, recorder)


def _snapshot_create(backend: capabilities.Snapshotting, ref: GuestRef, recorder: Recorder, name: str) -> Snapshot:
    return backend.snapshot_create(ref, name, recorder)


def _snapshot_restore(backend: capabilities.Snapshotting, ref: GuestRef, recorder: Recorder, name: str) -> None:
    backend.snapshot_restore(ref, name, recorder)


def _snapshot_remove(backend: capabilities.Snapshotting, ref: GuestRef, recorder: Recorder, name: str) -> None:
    backend.snapshot_remove(ref, name, recorder)


def _create(backend: capabilities.Creating, recorder: Recorder, spec: container.ContainerSpec) -> Guest:
    return backend.create(spec, recorder)


def _clean(backend: base.Cleaning, recorder: Recorder) -> Sequence[str]:
    swept = backend.clean(recorder)
    if isinstance(backend, base.Closing) and isinstance(backend, base.Backend) and not _has_live(backend):
        backend.shutdown()
    return swept


def _has_live(backend: base.Backend) -> bool:
    return any(guest.state.is_live or guest.state is RESTARTING for guest in backend.guests())


def _spec(text: str) -> container.ContainerSpec:
    image, *args = text.split()
    return container.ContainerSpec(image, tuple(args))


def _yes(text: str) -> bool:
    return text.strip().lower() in ("1", "yes", "true", "on")


_TIMEOUT = Argument("timeout_s", parse_duration, "Time it has to end before it is made to.", option="--timeout")
_FORCE = Argument("force", _yes, "Stop it first if it is live.", default=False, option="--force")
_SIGNAL = Argument("signal", parse_signal, "Signal by name or number.", default=9, option="--signal")
_NEW_NAME = Argument("name", str, "The new name.", required=True)
_SNAPSHOT = Argument("name", str, "Name of the snapshot.", required=True)
_SPEC = Argument("spec", _spec, "Image, then program and arguments.", required=True)

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "guest.start",
            "start",
            "Start",
            "Start a guest that is not running.",
            "s",
            capabilities.Lifecycle,
            _start,
            states=frozenset({CREATED, STOPPED, LOST, RESTARTING}),
        ),
        Command(
            "guest.stop",
            "stop",
            "Stop",
            "Ask a guest to end, and end a container by force after a time.",
            "S",
            capabilities.Lifecycle,
            _stop,
            states=frozenset({RUNNING, PAUSED, RESTARTING}),
            arguments=(_TIMEOUT,),
        ),
        Command(
            "guest.kill",
            "kill",
            "Kill",
            "Send a signal to a guest; without one it ends at once, by force.",
            "X",
            capabilities.Lifecycle,
            _kill,
            destructive=True,
            states=frozenset({RUNNING, PAUSED, STOPPING, LOST, RESTARTING}),
            arguments=(_SIGNAL,),
        ),
        Command(
            "guest.restart",
            "restart",
            "Restart",
            "Stop a guest and start it again.",
            "r",
            capabilities.Lifecycle,
            _restart,
            destructive=True,
            arguments=(_TIMEOUT,),
            states=frozenset({CREATED, RUNNING, PAUSED, STOPPED, RESTARTING}),
        ),
        Command(
            "guest.pause",
            "pause",
            "Pause",
            "Freeze all processes of a guest.",
            "p",
            capabilities.Pausing,
            _pause,
            states=frozenset({RUNNING}),
        ),
        Command(
            "guest.resume",
            "resume",
            "Resume",
            "Let a paused guest go on.",
            "p",
            capabilities.Pausing,
            _resume,
            states=frozenset({PAUSED}),
        ),
        Command(
            "guest.rename",
            "rename",
            "Rename",
            "Give a guest another name.",
            "",
            capabilities.Renaming,
            _rename,
            arguments=(_NEW_NAME,),
        ),
        Command(
            "guest.remove",
            "rm",
            "Remove",
            "Remove a guest and all that belongs to it, for good.",
            "D,delete",
            capabilities.Removing,
            _remove,
            destructive=True,
            arguments=(_FORCE,),
        ),
        Command(
            "guest.limit",
            "limit",
            "Limits",
            "Change what a guest may use, at once.",
            "L",
            capabilities.Limiting,
            _limit,
            takes_limits=True,
        ),
        Command(
            "limit.undo",
            "undo",
            "Undo limit",
            "Take back the last change of a limit.",
            "u",
            capabilities.Limiting,
            _limit,
            takes_limits=True,
        ),
        Command(
            "limit.redo",
            "redo",
            "Redo limit",
            "Make a change of a limit again that was taken back.",
            "ctrl+r",
            capabilities.Limiting,
            _limit,
            takes_limits=True,
        ),
        Command(
            "snapshot.create",
            "snapshot create",
            "Snapshot",
            "Save the present state of a guest under a name.",
            "n",
            capabilities.Snapshotting,
            _snapshot_create,
            arguments=(_SNAPSHOT,),
        ),
        Command(
            "snapshot.restore",
            "snapshot restore",
            "Restore",
            "Take a guest back to a snapshot; what it did since is lost.",
            "",
            capabilities.Snapshotting,
            _snapshot_restore,
            destructive=True,
            arguments=(_SNAPSHOT,),
        ),
        Command(
            "snapshot.remove",
            "snapshot rm",
            "Remove snapshot",
            "Remove a snapshot; the others stay whole.",
            "",
            capabilities.Snapshotting,
            _snapshot_remove,
            destructive=True,
            arguments=(_SNAPSHOT,),
        ),
        Command(
            "guest.create",
            "create",
            "Create",
            "Make a container from an image.",
            "C",
            capabilities.Creating,
            _create,
            arguments=(_SPEC,),
            needs_guest=False,
        ),
        Command(
            "host.clean",
            "clean",
            "Clean",
            "Sweep what a crash left behind; live guests are left alone.",
            "",
            base.Cleaning,
            _clean,
            needs_guest=False,
        ),
        *LASTING,
        *ASSETS,
    )
}
