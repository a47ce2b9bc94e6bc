"""`inn oci create`: a container that waits for its start."""

from __future__ import annotations

from backends.oci.cli.command import Command
from backends.oci.cli.making import Making


def run(command: Command) -> int:
    """Make it, and leave its pid before this returns."""
    Making(command, detach=True).create()
    return 0
