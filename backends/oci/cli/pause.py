"""`inn oci pause` and `resume`."""

from __future__ import annotations

from backends.oci import lifecycle
from backends.oci.cli.command import Command


def run(command: Command) -> int:
    """Freeze or thaw the container."""
    with command.container() as container:
        (lifecycle.pause if command.verb == "pause" else lifecycle.resume)(container)
    return 0
