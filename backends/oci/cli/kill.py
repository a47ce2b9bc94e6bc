"""`inn oci kill`: a signal to the first process, or to all."""

from __future__ import annotations

from backends.oci import lifecycle, signalling
from backends.oci.cli.command import Command
from backends.oci.cli.selection import chosen
from backends.oci.errors import NotRunning


def run(command: Command) -> int:
    """Send it."""
    text = command.arguments[1] if len(command.arguments) > 1 else "SIGTERM"
    for container in chosen(command):
        number = signalling.number_of(text)
        try:
            lifecycle.kill(container, number, everything=command.flag("all"))
        except NotRunning:
            if not command.flag("all"):
                raise
    return 0
