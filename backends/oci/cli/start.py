"""`inn oci start`: let a created container's program run."""

from __future__ import annotations

from backends.oci.cli.command import Command
from backends.oci.starting import start


def run(command: Command) -> int:
    """Start it; returns when its program runs."""
    with command.container() as container:
        start(container)
    return 0
