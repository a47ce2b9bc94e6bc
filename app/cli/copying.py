"""`inn cp`: files between the host and a guest, and tar streams."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

from app.cli.operating import add_trace_option, tracing, wait_for
from backends.errors import UsageError

if TYPE_CHECKING:
    from app.cli.context import Context


def cp_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn cp`."""
    add_trace_option(parser)
    parser.add_argument("-a", "--archive", action="store_true", help="keep the owners of what is copied out")
    parser.add_argument("-L", "--follow-link", action="store_true", help="copy what SRC leads to, not the link")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing; it never does")
    parser.add_argument("source", metavar="SRC", help="GUEST:PATH, a path of the host, or - for a tar on stdin")
    parser.add_argument("target", metavar="DST", help="GUEST:PATH, a path of the host, or - for a tar on stdout")


def cp_verb(args: argparse.Namespace, context: Context) -> int:
    """Copy in or out."""
    from_guest, source = _split(args.source)
    to_guest, target = _split(args.target)
    if from_guest and to_guest:
        raise UsageError("cp: from guest to guest is not done at once", hint="inn cp A:PATH - | inn cp - B:FOLDER")
    if not from_guest and not to_guest:
        raise UsageError("cp: which guest?", hint="GUEST:PATH on one side")
    with context.workstation_for([from_guest or to_guest]) as station, tracing(context, station, args.trace):
        guest = station.fleet.resolve(from_guest or to_guest)
        if to_guest:
            begun = station.submit(
                "guest.copy_in", guest.ref, source=_stream(source, reads=True), path=target, follow=args.follow_link
            )
        else:
            begun = station.submit(
                "guest.copy_out",
                guest.ref,
                path=source,
                target=_stream(target, reads=False),
                follow=args.follow_link,
                archive=args.archive,
            )
        wait_for(context, begun)
    return 0


def _split(text: str) -> tuple[str, str]:
    """Return guest and path; no guest for a path of the host: "-", "./a:b", "/a:b"."""
    if text.startswith((".", "/", "-")):
        return "", text
    guest, colon, path = text.partition(":")
    if not colon:
        return "", text
    if not path:
        raise UsageError(f"cp: {text!r} names no path in {guest}", hint="GUEST:PATH")
    return guest, path


def _stream(path: str, *, reads: bool) -> str | BinaryIO:
    if path != "-":
        return path
    stream = sys.stdin if reads else sys.stdout
    if stream.isatty():
        raise UsageError(f"cp: a tar archive does not go {'from' if reads else 'to'} a terminal")
    return cast("BinaryIO", stream.buffer)
