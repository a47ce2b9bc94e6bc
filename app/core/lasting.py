"""Commands on what keeps guests over time: restart policies, logs, files, checkpoints, and the host's start and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from app.core.command import Argument, Command
from backends import capabilities
from backends.container import CheckpointOptions, RestartPolicy
from backends.errors import InnkeeperError
from backends.model import Guest, GuestRef, GuestState
from backends.trace import Recorder


def _set_restart(
    backend: capabilities.Restarting, ref: GuestRef, recorder: Recorder, restart: RestartPolicy | str
) -> None:
    policy = RestartPolicy.parse(restart) if isinstance(restart, str) else restart
    backend.set_restart_policy(ref, policy, recorder)


def _clear_log(backend: capabilities.LogClearing, ref: GuestRef, recorder: Recorder) -> None:
    backend.clear_log(ref, recorder)


def _copy_in(
    backend: capabilities.Copying, ref: GuestRef, recorder: Recorder, source: str | BinaryIO, path: str, follow: bool
) -> None:
    from app.core import copying  # which needs tarfile

    copying.into_guest(backend, ref, recorder, source, path, follow=follow)


def _copy_out(
    backend: capabilities.Copying,
    ref: GuestRef,
    recorder: Recorder,
    path: str,
    target: str | BinaryIO,
    follow: bool,
    archive: bool,
) -> None:
    from app.core import copying

    copying.out_of_guest(backend, ref, path, target, follow=follow, keeps_owner=archive)


def _boot(backend: capabilities.Booting, recorder: Recorder) -> Sequence[tuple[Guest, InnkeeperError | None]]:
    return backend.boot(recorder)


def _halt(backend: capabilities.Booting, recorder: Recorder) -> Sequence[tuple[Guest, InnkeeperError | None]]:
    return backend.halt(recorder)


def _checkpoint(
    backend: capabilities.Checkpointing, ref: GuestRef, recorder: Recorder, options: CheckpointOptions | None
) -> None:
    backend.checkpoint(ref, options or CheckpointOptions(), recorder)


def _restore(
    backend: capabilities.Checkpointing, ref: GuestRef, recorder: Recorder, options: CheckpointOptions | None
) -> None:
    backend.restore(ref, options or CheckpointOptions(), recorder)


def _yes(text: str) -> bool:
    return text.strip().lower() in ("1", "yes", "true", "on")


def _options(text: str) -> CheckpointOptions:
    return CheckpointOptions(path=text or None)


_POLICY = Argument(
    "restart",
    RestartPolicy.parse,
    "When it is started again by itself: no, on-failure[:N], always or unless-stopped.",
    required=True,
    option="--restart",
)
_PATH = Argument("path", str, "Path in the guest.", required=True)
_FOLLOW = Argument("follow", _yes, "Copy what a link leads to, not the link.", default=False, option="--follow-link")
_OPTIONS = Argument("options", _options, "Folder of the checkpoint's image.")

LASTING: tuple[Command, ...] = (
    Command(
        "guest.update",
        "update",
        "Restart policy",
        "Change when a guest is started again by itself.",
        "",
        capabilities.Restarting,
        _set_restart,
        arguments=(_POLICY,),
    ),
    Command(
        "guest.clear_log",
        "logs --clear",
        "Clear log",
        "Throw away what a guest has printed so far.",
        "",
        capabilities.LogClearing,
        _clear_log,
        destructive=True,
    ),
    Command(
        "guest.copy_in",
        "cp to",
        "Copy into",
        "Copy a file or folder of the host into a guest.",
        "",
        capabilities.Copying,
        _copy_in,
        arguments=(Argument("source", str, "Path on the host.", required=True), _PATH, _FOLLOW),
    ),
    Command(
        "guest.copy_out",
        "cp from",
        "Copy out of",
        "Copy a file or folder of a guest to the host.",
        "",
        capabilities.Copying,
        _copy_out,
        arguments=(
            _PATH,
            Argument("target", str, "Path on the host.", required=True),
            _FOLLOW,
            Argument("archive", _yes, "Keep its owners.", default=False, option="--archive"),
        ),
    ),
    Command(
        "guest.checkpoint",
        "checkpoint",
        "Checkpoint",
        "Write the processes of a guest to disk, and end it.",
        "",
        capabilities.Checkpointing,
        _checkpoint,
        destructive=True,
        states=frozenset({GuestState.RUNNING, GuestState.PAUSED}),
        arguments=(_OPTIONS,),
    ),
    Command(
        "guest.restore",
        "restore",
        "Restore processes",
        "Bring a guest back to life from its checkpoint.",
        "",
        capabilities.Checkpointing,
        _restore,
        states=frozenset({GuestState.CREATED, GuestState.STOPPED}),
        arguments=(_OPTIONS,),
    ),
    Command(
        "host.boot",
        "boot start",
        "Boot",
        "Start the guests that their restart policies want when the host comes up.",
        "",
        capabilities.Booting,
        _boot,
        needs_guest=False,
    ),
    Command(
        "host.halt",
        "boot stop",
        "Halt",
        "Stop all guests so that the next boot starts them again.",
        "",
        capabilities.Booting,
        _halt,
        needs_guest=False,
    ),
)
