"""`inn oci ps`: the processes of a container, by pid or through the host's ps."""

from __future__ import annotations

from backends.oci import lifecycle
from backends.oci.cli.command import Command
from backends.oci.errors import OciError
from backends.quick_json import dumps


def run(command: Command) -> int:
    """Print them."""
    container = command.container()
    form = command.text("format") or "table"
    if form not in ("table", "json"):
        raise OciError("invalid format option")
    pids = lifecycle.tasks(container).procs()
    command.print(dumps(pids) + "\n" if form == "json" else _table(pids, command.arguments[1:] or ["-ef"]))
    return 0


def _table(pids: list[int], arguments: list[str]) -> str:
    import subprocess

    done = subprocess.run(
        ["ps", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        raise OciError(f"exit status {done.returncode}: {done.stdout}")
    head, *lines = done.stdout.split("\n")
    if "PID" not in head.split():
        raise OciError("couldn't find PID field in ps output")
    column = head.split().index("PID")
    wanted = set(map(str, pids))
    return "\n".join([head, *(line for line in lines if line and line.split()[column] in wanted)]) + "\n"
