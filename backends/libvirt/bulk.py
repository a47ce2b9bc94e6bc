"""Counters from libvirt's bulk call, for guests that are no processes of this host.

It asks each QEMU in turn, so it can hang with one of them: it runs on the details link.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.libvirt import api
from backends.libvirt.api import Connection
from backends.libvirt.domain_xml import DomainInfo
from backends.metrics import Sample

_GROUPS = api.STATS_STATE | api.STATS_CPU | api.STATS_BALLOON | api.STATS_VCPU | api.STATS_INTERFACE | api.STATS_BLOCK


def read_bulk(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the statistics of all live domains by UUID."""
    flags = api.GET_STATS_RUNNING | api.GET_STATS_PAUSED
    try:
        found = connection.getAllDomainStats(_GROUPS, flags | api.GET_STATS_NOWAIT)
    except api.load().libvirtError:
        found = connection.getAllDomainStats(_GROUPS, 0)  # drivers that know no flags
    return {domain.UUIDString(): values for domain, values in found}


def bulk_sample(now: float, values: Mapping[str, Any], info: DomainInfo | None) -> Sample:
    """Return a sample from one domain's statistics; libvirt tells the network as the guest sees it."""
    cards = int(values.get("net.count", 0))
    disks = int(values.get("block.count", 0))
    rss = values.get("balloon.rss")
    return Sample(
        time_s=now,
        cpu_usage_ns=_int(values.get("cpu.time")),
        cpu_delay_ns=_sum(values, "vcpu", int(values.get("vcpu.maximum", 0)), "delay"),
        memory_bytes=None if rss is None else int(rss) * 1024,
        memory_limit_bytes=info.memory_bytes if info is not None else None,
        io_read_bytes=_sum(values, "block", disks, "rd.bytes"),
        io_write_bytes=_sum(values, "block", disks, "wr.bytes"),
        io_read_ops=_sum(values, "block", disks, "rd.reqs"),
        io_write_ops=_sum(values, "block", disks, "wr.reqs"),
        net_rx_bytes=_sum(values, "net", cards, "rx.bytes"),
        net_tx_bytes=_sum(values, "net", cards, "tx.bytes"),
    )


def _sum(values: Mapping[str, Any], group: str, count: int, key: str) -> int | None:
    found = [values[name] for n in range(count) if (name := f"{group}.{n}.{key}") in values]
    return sum(map(int, found)) if found else None


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
