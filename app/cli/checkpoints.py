"""`inn checkpoint` and `inn restore`: the processes of a guest to disk and back, through CRIU."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli.operating import add_guests, add_trace_option, on_guests
from backends.container import CheckpointOptions

if TYPE_CHECKING:
    from app.cli.context import Context


def checkpoint_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn checkpoint`."""
    _add_options(parser)
    parser.add_argument("--leave-running", action="store_true", help="do not end it")


def restore_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn restore`."""
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--image-path", metavar="DIR", help="where the image is (default: beside the container)")
    add("--tcp-established", action="store_true", help="with open TCP connections")
    add("--file-locks", action="store_true", help="with locks on files")
    add("--ext-unix-sk", action="store_true", help="with sockets to outside")
    add("--shell-job", action="store_true", help="with a terminal of outside")
    add_trace_option(parser)
    add_guests(parser)


def checkpoint_verb(args: argparse.Namespace, context: Context) -> int:
    """Write guests' processes to disk."""
    return _perform("guest.checkpoint", args, context, leave_running=args.leave_running)


def restore_verb(args: argparse.Namespace, context: Context) -> int:
    """Bring guests' processes back."""
    return _perform("guest.restore", args, context, leave_running=False)


def _perform(command: str, args: argparse.Namespace, context: Context, *, leave_running: bool) -> int:
    options = CheckpointOptions(
        path=args.image_path,
        leave_running=leave_running,
        tcp_established=args.tcp_established,
        file_locks=args.file_locks,
        external_unix=args.ext_unix_sk,
        shell_job=args.shell_job,
    )
    return on_guests(
        context, command, args.guests, arguments=lambda station, guest: {"options": options}, trace=args.trace
    )
