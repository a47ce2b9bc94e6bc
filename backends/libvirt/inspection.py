"""All that is known of one guest, as JSON types."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from backends.libvirt import domain_xml
from backends.libvirt.convert import limits_of, note_of, state_of
from backends.libvirt.fleet_reader import FleetReader
from backends.libvirt.host import LibvirtHost, known
from backends.libvirt.qemu_process import command_line, started_s
from backends.model import GuestRef


def inspect(host: LibvirtHost, reader: FleetReader, ref: GuestRef) -> dict[str, Any]:
    """Return the guest's state, limits, place on this host and domain XML (parsed and raw)."""
    host.poll()
    seen = known(host, ref)
    info = host.fresh_info(ref)
    persistent, text = host.with_domain(
        ref, "read the definition", lambda domain: (bool(domain.isPersistent()), domain.XMLDesc(0))
    )
    vm = reader.reader_of(seen) if seen.is_live else None
    return {
        "id": ref.id,
        "name": seen.name,
        "backend": ref.backend,
        "kind": "vm",
        "uri": host.uri,
        "state": {
            "status": str(state_of(seen.state)),
            "exit_code": None,
            "oom_kills": reader.oom_kills(ref.id),
            "pid": vm.pid if vm else None,
            "started_s": started_s(vm.pid) if vm else None,
            "reason": note_of(seen.state, seen.reason),
            "libvirt_state": seen.state,
            "libvirt_reason": seen.reason,
            "persistent": persistent,
        },
        "limits": asdict(limits_of(info, reader.facts)),
        "cpu_count": info.vcpus,
        "vcpu_quota_us": info.quota_us,
        "vcpu_period_us": info.period_us,
        "memory_max_bytes": info.memory_max_bytes,
        "memory_bytes": info.memory_bytes,
        "disks": [asdict(disk) for disk in info.disks],
        "interfaces": [asdict(nic) for nic in info.nics],
        "console_log": info.console_log or None,
        "cgroups": sorted(vm.group.directories.values()) if vm and vm.group else [],
        "qemu_command": command_line(vm.pid) if vm else [],
        "domain": domain_xml.as_json(text),
        "xml": text,
    }
