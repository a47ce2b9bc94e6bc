"""`inn oci list`: the containers below a root."""

from __future__ import annotations

from backends.oci import state
from backends.oci.cli.command import Command
from backends.oci.errors import OciError
from backends.quick_json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COLUMNS = {"ID": "id", "PID": "pid", "STATUS": "status", "BUNDLE": "bundle", "CREATED": "created", "OWNER": "owner"}


def run(command: Command) -> int:
    """Print them as a table, as JSON, or the ids alone."""
    form = command.text("format") or "table"
    if form not in ("table", "json"):
        raise OciError("invalid format option")
    try:
        found = [container.oci_state() for container in state.containers(command.root)]
    except FileNotFoundError:
        if command.global_options.get("root-is-given"):
            raise
        found = []
    if command.flag("quiet"):
        command.print("".join(f"{one['id']}\n" for one in found))
    elif form == "json":
        command.print((dumps(found) if found else "null") + "\n")
    else:
        command.print(_table(found))
    return 0


def _table(found: list[dict[str, Any]]) -> str:
    rows = [list(_COLUMNS), *([str(one[key]) for key in _COLUMNS.values()] for one in found)]
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(len(_COLUMNS) - 1)]
    lines = ["".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)) for row in rows]
    return "\n".join(lines) + "\n"
