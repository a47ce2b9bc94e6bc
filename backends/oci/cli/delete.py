"""`inn oci delete`: a container and all that belongs to it, gone."""

from __future__ import annotations

from backends.oci import lifecycle
from backends.oci.cli.command import Command
from backends.oci.cli.selection import chosen_ids


def run(command: Command) -> int:
    """Delete it."""
    for container_id in chosen_ids(command):
        lifecycle.delete(command.root, container_id, force=command.flag("force"), warn=command.log.warning)
    return 0
