"""`inn oci state`: what a container is, as JSON."""

from __future__ import annotations

from backends.oci.cli.command import Command
from backends.oci.quick_json import dumps


def run(command: Command) -> int:
    """Print the state."""
    command.print(dumps(command.container().oci_state(), "  ") + "\n")
    return 0
