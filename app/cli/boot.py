"""`inn boot`: guests that start with the host, and the systemd unit that sees to it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.guest_json import guest_json
from app.cli.operating import add_trace_option, tracing, wait_for
from backends.capabilities import Booting
from backends.errors import InnkeeperError, PermissionDenied, Unsupported, os_error_text

if TYPE_CHECKING:
    from app.cli.context import Context

UNIT = "innkeeper.service"
_UNITS = Path("/etc/systemd/system")
_STOP_S = 300

_TEXT = """\
[Unit]
Description=Containers of Innkeeper that start with the host
After=local-fs.target network.target network-online.target libvirtd.service
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={command} boot start
ExecStop={command} boot stop
TimeoutStartSec=infinity
TimeoutStopSec={stop_s}
# What keeps the containers goes on when this has done its work, and is ended by `boot stop`.
KillMode=process
Delegate=yes

[Install]
WantedBy=multi-user.target
"""


def boot_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the acts of `inn boot`."""
    parser.add_argument(
        "act",
        nargs="?",
        default="start",
        choices=("start", "stop", "list", "unit", "enable", "disable"),
        help="start (the default): what restart policies want; stop: all, so that the next boot starts them again; "
        "list: what start would start; unit: print the systemd unit; enable, disable: install or remove it",
    )
    parser.add_argument("--unit-dir", metavar="DIR", default=str(_UNITS), help=f"where units are ({_UNITS})")
    parser.add_argument("--json", action="store_true", help="list: print an array of objects")
    add_trace_option(parser)


def boot_verb(args: argparse.Namespace, context: Context) -> int:
    """Do one of the acts."""
    if args.act == "unit":
        context.out.text(unit_text(context))
        return 0
    if args.act in ("enable", "disable"):
        (_enable if args.act == "enable" else _disable)(context, Path(args.unit_dir))
        return 0
    if args.act == "list":
        return _list(args, context)
    return _start_or_stop(args, context)


def _start_or_stop(args: argparse.Namespace, context: Context) -> int:
    first_failure, command = 0, "host.boot" if args.act == "start" else "host.halt"
    with context.workstation() as station, tracing(context, station, args.trace):
        context.note_missing(station)
        for name in (status.name for status in station.statuses() if status.state == "up"):
            if not isinstance(station.backend(name), Booting):
                continue
            result = wait_for(context, station.submit(command, backend=name))
            assert isinstance(result, Sequence)
            for guest, error in result:
                if error is None:
                    context.out.line(guest.name)
                else:
                    first_failure = context.talk.error(error, after=first_failure)
    return first_failure


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.workstation() as station:
        names = [status.name for status in station.statuses() if status.state == "up"]
        backends = [backend for backend in map(station.backend, names) if isinstance(backend, Booting)]
        guests = [guest for backend in backends for guest in backend.boot_plan()]
    if args.json:
        context.out.json([guest_json(guest) for guest in guests])
        return 0
    for guest in guests:
        context.out.line(guest.name)
    return 0


def unit_text(context: Context) -> str:
    """Return the unit that runs this program with the settings it was called with."""
    program = shutil.which("inn")
    words = [program] if program else [sys.executable, str(Path(__file__).resolve().parents[2] / "innkeeper.py")]
    root = os.environ.get("INNKEEPER_ROOT")
    state_dir = context.settings.paths.state_dir
    if root or state_dir != Path("/var/lib/innkeeper"):
        words += ["--root", str(state_dir)]
    return _TEXT.format(command=" ".join(map(_quoted, words)), stop_s=_STOP_S)


def _quoted(word: str) -> str:
    """Return a word of a command line as systemd.service(5) reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(letter in word for letter in " \t'\"\\;") else escaped


def _enable(context: Context, folder: Path) -> None:
    path = folder / UNIT
    try:
        path.write_text(unit_text(context))
    except OSError as error:
        kind = PermissionDenied if isinstance(error, PermissionError) else InnkeeperError
        raise kind(f"cannot install the unit: {os_error_text(error)}", hint="as root") from error
    _systemctl(context, "daemon-reload")
    _systemctl(context, "enable", UNIT)
    context.out.line(str(path))


def _disable(context: Context, folder: Path) -> None:
    _systemctl(context, "disable", UNIT)
    try:
        (folder / UNIT).unlink(missing_ok=True)
    except OSError as error:
        raise InnkeeperError(f"cannot remove the unit: {os_error_text(error)}") from error
    _systemctl(context, "daemon-reload")


def _systemctl(context: Context, *arguments: str) -> None:
    """Tell systemd, where it runs; else it finds the unit when it starts."""
    if not Path("/run/systemd/system").exists():
        if arguments[0] == "enable":
            context.talk.note(f"systemd does not run here: `systemctl enable {UNIT}` is left to do")
        return
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unsupported(f"cannot {arguments[0]} the unit: {done.stderr.strip() or done.stdout.strip()}")
