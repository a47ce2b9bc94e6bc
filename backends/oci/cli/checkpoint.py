"""`inn oci checkpoint` and `restore`: a container's processes to disk and back, through CRIU where it works."""

from __future__ import annotations

import os

from backends.oci import lifecycle
from backends.oci.checkpointing import Asked, checkpoint
from backends.oci.cli.command import Command
from backends.oci.cli.making import Making
from backends.oci.errors import OciError
from backends.oci.restoring import Restoration


def run(command: Command) -> int:
    """Do it. `restore` in the foreground returns the program's exit code. Raises Unsupported with CRIU's reason."""
    if command.verb == "checkpoint":
        return _checkpoint(command)
    asked = Asked(command.options)
    return Restoring(command, asked).run()


class Restoring(Making):
    """One `restore`: as `run`, with processes that are there already."""

    kind = Restoration

    def __init__(self, command: Command, asked: Asked) -> None:
        self._asked = asked
        super().__init__(command, detach=command.flag("detach"))

    def _creation(self) -> Restoration:
        made = super()._creation()
        assert isinstance(made, Restoration)
        made.asked = self._asked
        return made

    def _start(self, container: object) -> None:
        """They run already."""


def _checkpoint(command: Command) -> int:
    container = command.container()
    asked = Asked(command.options)
    _check_parent(command)
    is_pre_dump = command.flag("pre-dump")
    with container.lock():
        checkpoint(container, asked, is_pre_dump=is_pre_dump)
        if not is_pre_dump and not command.flag("leave-running"):
            lifecycle.end(container)
            lifecycle.destroy(container, kill_all=True, warn=command.log.warning)
    return 0


def _check_parent(command: Command) -> None:
    parent = command.text("parent-path")
    if parent.startswith("/"):
        raise OciError("--parent-path must be relative")
    if parent and not os.path.isdir(os.path.join(command.text("image-path") or "checkpoint", parent)):
        raise OciError(f"invalid --parent-path: {parent}: no such file or directory")
