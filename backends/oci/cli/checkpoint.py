"""`inn oci checkpoint` and `restore`."""

from __future__ import annotations

from backends.errors import Unsupported
from backends.oci.cli.command import Command


def run(command: Command) -> int:
    """Refuse: there is no driver for CRIU yet."""
    raise Unsupported(f"{command.verb} is not supported by this runtime yet")
