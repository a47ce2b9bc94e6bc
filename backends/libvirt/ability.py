"""Which verbs a guest can never take, and why."""

from __future__ import annotations

from backends.libvirt.domain_xml import Disk, DomainInfo

SNAPSHOT_VERBS = frozenset({"snapshot", "snapshot_create", "snapshot_restore", "snapshot_remove", "restore"})


def why_not(verb: str, info: DomainInfo | None, *, is_local: bool = True) -> str | None:
    """Say in one clause why the verb is impossible for the guest for good, or None."""
    verb = verb.removeprefix("guest.").replace("snapshot.", "snapshot_")
    if verb in ("exec", "attach"):
        return "a virtual machine has its own kernel: programs cannot be started in it from outside"
    if verb in ("processes", "top") and not is_local:
        return "its process is not on this host"
    if info is None:
        return None
    if verb == "console" and info.kind == "test":
        return "libvirt's test driver has no consoles"
    if verb in SNAPSHOT_VERBS:
        return why_no_snapshot(info)
    if verb == "console" and not info.has_console:
        return "it has no serial console in its definition"
    if verb == "logs" and not info.console_log:
        return "its serial console is not written to a file (<serial> has no <log>)"
    if verb == "logs" and not is_local:
        return "its console log is on another host"
    return None


def why_no_snapshot(info: DomainInfo) -> str | None:
    """Say why internal snapshots are impossible: they live inside qcow2 disks."""
    if info.kind == "test":
        return None
    disks = [disk for disk in info.disks if disk.device in ("disk", "lun") and not disk.is_readonly]
    if not disks:
        return "it has no disk that can be written, and a snapshot lives inside a qcow2 disk"
    other = [disk for disk in disks if disk.driver != "qcow2"]
    if other:
        return f"its disk {_name(other[0])} is {other[0].driver or 'raw'}, and only qcow2 keeps snapshots inside"
    return None


def _name(disk: Disk) -> str:
    return f"{disk.target} ({disk.source})" if disk.source else disk.target
