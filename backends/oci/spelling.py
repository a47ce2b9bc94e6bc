"""Names of linux.resources in any case, as Go's JSON reader takes them: callers write "pagesize" and "CPU"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = (
    "memory limit reservation swap kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate "
    "cpu shares quota burst period realtimeRuntime realtimePeriod cpus mems idle pids blockIO weight leafWeight "
    "weightDevice throttleReadBpsDevice throttleWriteBpsDevice throttleReadIOPSDevice throttleWriteIOPSDevice "
    "hugepageLimits pageSize network classID priorities rdma unified devices major minor rate"
)
_SPELLING = {name.lower(): name for name in _NAMES.split()}
_KEYED_BY_USER = ("rdma", "unified", "devices")


def spelled(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return resources with their names as the specification spells them: Go's programs take any case."""
    found = {}
    for name, value in resources.items():
        known = _SPELLING.get(name.lower(), name)
        if known not in _KEYED_BY_USER:
            if isinstance(value, dict):
                value = spelled(value)
            elif isinstance(value, list):
                value = [spelled(item) if isinstance(item, dict) else item for item in value]
        found[known] = value
    return found
