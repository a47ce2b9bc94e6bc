"""`inn snapshot create|ls|diff|restore|rm`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.cli.changes import print_changes
from app.cli.context import capability_of
from app.cli.figures import NONE, age_text, bytes_text, time_text
from app.cli.operating import add_trace_option, on_guests
from backends.assets import SnapshotComparing
from backends.capabilities import Snapshotting

if TYPE_CHECKING:
    from app.cli.context import Context
    from backends.model import Snapshot


def snapshot_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn snapshot`."""
    acts = parser.add_subparsers(dest="act", metavar="create|ls|diff|restore|rm", required=True)
    create = acts.add_parser("create", help="save the guest's present state", description="Save the guest's state.")
    create.add_argument("guest", metavar="GUEST")
    create.add_argument("name", metavar="NAME", nargs="?", help="default: the time, as 2026-01-31-150405")
    for act, text in (("restore", "take the guest back; what it did since is lost"), ("rm", "remove a snapshot")):
        below = acts.add_parser(act, help=text, description=f"{text[:1].upper()}{text[1:]}.")
        below.add_argument("guest", metavar="GUEST")
        below.add_argument("name", metavar="NAME")
        add_trace_option(below)
    add_trace_option(create)
    listing = acts.add_parser("ls", help="list a guest's snapshots, as a tree", description="List the snapshots.")
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    listing.add_argument("guest", metavar="GUEST")
    diff = acts.add_parser(
        "diff",
        help="list what has changed since a snapshot, or between two",
        description="List what has changed since a snapshot, or from one to another: A added, C changed, D deleted.",
    )
    diff.add_argument("--json", action="store_true", help="print an array of objects")
    diff.add_argument("guest", metavar="GUEST")
    diff.add_argument("name", metavar="NAME", help="the snapshot to compare with")
    diff.add_argument("other", metavar="OTHER", nargs="?", help="the one compared (default: the present files)")


def snapshot_verb(args: argparse.Namespace, context: Context) -> int:
    """Save, list, compare, restore or remove."""
    if args.act == "ls":
        return _list(args, context)
    if args.act == "diff":
        return _diff(args, context)
    name = args.name or _name_now()
    command = {"create": "snapshot.create", "restore": "snapshot.restore", "rm": "snapshot.remove"}[args.act]
    return on_guests(
        context,
        command,
        [args.guest],
        arguments=lambda station, guest: {"name": name},
        trace=args.trace,
        done=lambda guest, result: context.out.line(name),
    )


def _name_now() -> str:
    import time

    return time.strftime("%Y-%m-%d-%H%M%S")


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Snapshotting, guest, "snapshot")
        assert isinstance(backend, Snapshotting)
        found = station.ask(f"list snapshots of {guest.name}", backend.name, lambda _: backend.snapshots(guest.ref))
    if args.json:
        context.out.json([_as_json(snapshot) for snapshot in found])
    elif found:
        context.out.table(("SNAPSHOT", "AGE", "SIZE", "MEMORY", "NOTE"), tree_rows(found), right=("AGE", "SIZE"))
    else:
        context.talk.note(f"{args.guest} has no snapshots. `inn snapshot create {args.guest}` makes one")
    return 0


def _diff(args: argparse.Namespace, context: Context) -> int:
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, SnapshotComparing, guest, "snapshot")
        assert isinstance(backend, SnapshotComparing)
        comparing: SnapshotComparing = backend
        found = comparing.snapshot_diff(guest.ref, args.name, args.other)  # not ask(): it may take its time
    print_changes(context, found, as_json=args.json)
    return 0


def tree_rows(found: Sequence[Snapshot]) -> list[tuple[str, ...]]:
    """Return the table's rows, children indented below their parents; the current one is marked with "*"."""
    names = {snapshot.name for snapshot in found}
    children: dict[str | None, list[Snapshot]] = {}
    for snapshot in found:
        children.setdefault(snapshot.parent if snapshot.parent in names else None, []).append(snapshot)
    rows: list[tuple[str, ...]] = []
    waiting = [(snapshot, 0) for snapshot in reversed(children.get(None, []))]
    while waiting:
        snapshot, depth = waiting.pop()
        rows.append(_row(snapshot, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(snapshot.name, []))]
    return rows


def _row(snapshot: Snapshot, depth: int) -> tuple[str, ...]:
    branch = "   " * (depth - 1) + "└─ " if depth else ""
    return (
        branch + snapshot.name + (" *" if snapshot.is_current else ""),
        age_text(snapshot.created_s),
        bytes_text(snapshot.size_bytes),
        "yes" if snapshot.with_memory else "no",
        snapshot.note or NONE,
    )


def _as_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "created": time_text(snapshot.created_s),
        "parent": snapshot.parent,
        "is_current": snapshot.is_current,
        "size_bytes": snapshot.size_bytes,
        "with_memory": snapshot.with_memory,
        "note": snapshot.note,
    }
