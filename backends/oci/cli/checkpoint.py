"""`inn oci checkpoint` and `restore`: CRIU's, where it works; not for containers of others yet."""

from __future__ import annotations

import os

from backends.errors import Unsupported
from backends.oci import criu
from backends.oci.cli.command import Command
from backends.oci.errors import OciError


def run(command: Command) -> int:
    """Refuse, with the reason that this host gives, if it has one. Raises Unsupported."""
    if command.verb == "checkpoint":
        command.container()
        _check_parent(command)
    criu.require(f"{command.verb} container {command.id}")
    raise Unsupported(
        f"cannot {command.verb} container {command.id}: this runtime does not do it for its callers yet",
        hint="containers that Innkeeper runs itself can: inn checkpoint, inn restore",
    )


def _check_parent(command: Command) -> None:
    parent = command.text("parent-path")
    if parent.startswith("/"):
        raise OciError("--parent-path must be relative")
    if parent and not os.path.isdir(os.path.join(command.text("image-path") or "checkpoint", parent)):
        raise OciError(f"invalid --parent-path: {parent}: no such file or directory")
