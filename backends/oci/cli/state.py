"""`inn oci state`: what a container is, as JSON."""

from __future__ import annotations

from backends.oci.cli.command import Command
from backends.oci.errors import NoSuchContainer
from backends.quick_json import dumps


def run(command: Command) -> int:
    """Print the state; of one that is not far enough to have a process there is none, as with runc and crun."""
    found = command.container().oci_state()
    if found["status"] == "creating" and not found["pid"]:
        raise NoSuchContainer("container does not exist")
    command.print(dumps(found, "  ") + "\n")
    return 0
