"""What a verb is given: its words, the global options, and where it says what."""

from __future__ import annotations

import sys

from backends.oci import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from backends.oci.cli.log import Log

_CGROUP_MANAGERS = ("cgroupfs", "systemd", "disabled")


class Command:
    """One call of `inn oci`."""

    def __init__(self, verb: str, options: dict[str, Any], arguments: list[str], global_options: dict[str, Any],
                 log: Log) -> None:  # fmt: skip
        self.verb = verb
        self.options = options
        self.arguments = arguments
        self.global_options = global_options
        self.log = log

    @property
    def root(self) -> str:
        """Where containers are kept, absolute."""
        return str(self.global_options["root"])

    @property
    def cgroup_manager(self) -> str:
        """ "cgroupfs", "systemd" or "disabled"."""
        if self.global_options.get("systemd-cgroup"):
            return "systemd"
        return str(self.global_options.get("cgroup-manager") or "cgroupfs")

    @property
    def id(self) -> str:
        """The first argument."""
        return self.arguments[0] if self.arguments else ""

    def flag(self, name: str) -> bool:
        """Return a switch."""
        return bool(self.options.get(name))

    def text(self, name: str) -> str:
        """Return an option's text, or nothing."""
        return str(self.options.get(name) or "")

    def container(self) -> state.Container:
        """Return the container named by the first argument. Raises OciError."""
        return state.load(self.root, self.id)

    def print(self, text: str) -> None:
        """Write a result to standard output."""
        sys.stdout.write(text)
        sys.stdout.flush()


def check_cgroup_manager(name: str) -> bool:
    """Say whether crun's --cgroup-manager has such a value."""
    return name in _CGROUP_MANAGERS
