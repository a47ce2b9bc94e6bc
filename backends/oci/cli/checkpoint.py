"""`inn oci checkpoint` and `restore`: CRIU's, where it works; not for containers of others yet."""

from __future__ import annotations

from backends.errors import Unsupported
from backends.oci import criu
from backends.oci.cli.command import Command


def run(command: Command) -> int:
    """Refuse, with the reason that this host gives, if it has one. Raises Unsupported."""
    if command.verb == "checkpoint":
        command.container()
    criu.require(f"{command.verb} container {command.id}")
    raise Unsupported(
        f"cannot {command.verb} container {command.id}: this runtime does not do it for its callers yet",
        hint="containers that Innkeeper runs itself can: inn checkpoint, inn restore",
    )
