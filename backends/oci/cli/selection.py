"""Which containers a verb is about: the one named, or with crun's --regex all whose id matches."""

from __future__ import annotations

import os

from backends.oci.cli.command import Command
from backends.oci.errors import OciError
from backends.oci.state import Container, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def chosen_ids(command: Command) -> list[str]:
    """Return the ids. Raises OciError for a pattern that is none."""
    if not command.flag("regex"):
        return [command.id]
    import re

    try:
        pattern = re.compile(command.id)
    except re.error as error:
        raise OciError(f"invalid regular expression: {error}") from error
    return [name for name in sorted(os.listdir(command.root)) if pattern.search(name) and name[0] != "~"]


def chosen(command: Command) -> Iterator[Container]:
    """Yield the containers. Raises NoSuchContainer."""
    for container_id in chosen_ids(command):
        yield load(command.root, container_id)
