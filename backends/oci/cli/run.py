"""`inn oci run`: create and start, and with neither --detach nor --keep wait and delete."""

from __future__ import annotations

from backends.oci.cli.command import Command
from backends.oci.cli.making import Making


def run(command: Command) -> int:
    """Run it; the exit code is the program's unless detached."""
    return Making(command, detach=command.flag("detach")).run()
