"""Snapshots inside the guests' qcow2 disks ("internal"), as libvirt keeps them."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backends.errors import AlreadyExists, NotFound, Unsupported, UsageError
from backends.libvirt.ability import why_no_snapshot
from backends.libvirt.api import Domain
from backends.libvirt.host import LibvirtHost, known
from backends.libvirt.journal import Call, Journal
from backends.model import GuestRef, Snapshot
from backends.trace import Recorder

TIMEOUT_S = 300.0
"""Saving or reading back the memory of a large guest takes its time."""


@dataclass(frozen=True, slots=True)
class Found:
    """One snapshot as libvirt has it."""

    snapshot: Snapshot
    is_external: bool


class Snapshots:
    """The snapshots of the guests of one host."""

    def __init__(self, host: LibvirtHost, journal: Journal) -> None:
        self._host, self._journal = host, journal

    def list(self, ref: GuestRef) -> Sequence[Snapshot]:
        """Return all, parents before children."""
        known(self._host, ref)
        return [found.snapshot for found in self._found(ref)]

    def _found(self, ref: GuestRef) -> Sequence[Found]:
        return self._host.with_domain(ref, "list the snapshots", _read_all)

    def create(self, ref: GuestRef, name: str, recorder: Recorder) -> Snapshot:
        """Save the guest, with its memory if it runs; it stands still meanwhile."""
        seen = known(self._host, ref)
        if not name or "/" in name or name.startswith("-") or name.strip() != name or not name.isprintable():
            raise UsageError(f"{name!r} is no name for a snapshot")
        reason = why_no_snapshot(self._host.fresh_info(ref))
        if reason:
            raise Unsupported(f"cannot snapshot {seen.name}: {reason}")
        there = self._found(ref)
        if any(found.snapshot.name == name for found in there):
            raise AlreadyExists(f"{seen.name} has a snapshot {name} already")
        self._refuse_mixing(seen.name, there)
        xml = _definition(name)
        self._do(
            ref, recorder, f"snapshot {seen.name} as {name}",
            f"virsh snapshot-create-as {shlex.quote(seen.name)} {shlex.quote(name)}",
            lambda domain: domain.snapshotCreateXML(xml, 0), {"xml": xml},
        )  # fmt: skip
        return next(found.snapshot for found in self._found(ref) if found.snapshot.name == name)

    def restore(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Take the guest back, to its memory and power state then."""
        guest = self._checked(ref, name)
        self._do(
            ref, recorder, f"take {guest} back to snapshot {name}",
            f"virsh snapshot-revert {shlex.quote(guest)} {shlex.quote(name)}",
            lambda domain: domain.revertToSnapshot(domain.snapshotLookupByName(name, 0), 0), {},
        )  # fmt: skip

    def remove(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Remove one; its children become its parent's."""
        guest = self._checked(ref, name)
        self._do(
            ref, recorder, f"remove snapshot {name} of {guest}",
            f"virsh snapshot-delete {shlex.quote(guest)} {shlex.quote(name)}",
            lambda domain: domain.snapshotLookupByName(name, 0).delete(0), {},
        )  # fmt: skip

    def _checked(self, ref: GuestRef, name: str) -> str:
        """Return the guest's name. Raises NotFound, and Unsupported for an external snapshot."""
        seen = known(self._host, ref)
        found = next((found for found in self._found(ref) if found.snapshot.name == name), None)
        if found is None:
            raise NotFound(f"{seen.name} has no snapshot {name}")
        if found.is_external:
            raise Unsupported(
                f"snapshot {name} of {seen.name} is an external one, made by another tool",
                hint="virsh blockcommit merges its files; libvirt before 9.9 cannot go back to one",
            )
        return seen.name

    def _refuse_mixing(self, guest: str, there: Sequence[Found]) -> None:
        external = next((found.snapshot.name for found in there if found.is_external), None)
        if external is not None:
            raise Unsupported(
                f"cannot snapshot {guest}: {external} is an external snapshot, and the two kinds do not mix: "
                "libvirt can then neither go back nor delete safely"
            )

    def _do(
        self, ref: GuestRef, recorder: Recorder, text: str, by_hand: str, work: Callable[[Domain], object],
        details: dict[str, str],
    ) -> None:  # fmt: skip
        def run() -> None:
            self._host.command(text, lambda c: work(c.lookupByUUIDString(ref.id)), TIMEOUT_S)

        try:
            self._journal.run(ref.id, recorder, Call(text, by_hand, run, details=details))
        finally:
            self._host.mark_dirty(ref.id)


def _definition(name: str) -> str:
    root = ET.Element("domainsnapshot")
    ET.SubElement(root, "name").text = name
    return ET.tostring(root, encoding="unicode")


def _read_all(domain: Domain) -> Sequence[Found]:
    return parents_first(
        [read_snapshot(item.getXMLDesc(0), bool(item.isCurrent(0))) for item in domain.listAllSnapshots(0)]
    )


def read_snapshot(text: str, is_current: bool) -> Found:
    """Parse a snapshot's XML."""
    root = ET.fromstring(text)
    memory = root.find("memory")
    kinds = {node.get("snapshot", "") for node in root.findall("disks/disk")}
    state = root.findtext("state", "")
    memory_kind = "" if memory is None else memory.get("snapshot", "")
    return Found(
        Snapshot(
            name=root.findtext("name", ""),
            created_s=float(root.findtext("creationTime", "0")),
            parent=root.findtext("parent/name"),
            is_current=is_current,
            with_memory=memory_kind in ("internal", "external") or (not memory_kind and state == "running"),
            note=f"taken while {state}" if state else "",
        ),
        is_external="external" in kinds or memory_kind == "external",
    )


def parents_first(found: Sequence[Found]) -> Sequence[Found]:
    """Order snapshots so that each comes after its parent, the older of two siblings first."""
    by_age = sorted(found, key=lambda item: (item.snapshot.created_s, item.snapshot.name))
    names = {item.snapshot.name for item in by_age}
    ordered: list[Found] = []

    def add_below(parent: str | None) -> None:
        for item in by_age:
            if item.snapshot.parent == parent or (parent is None and item.snapshot.parent not in names):
                ordered.append(item)
                add_below(item.snapshot.name)

    add_below(None)
    return ordered
