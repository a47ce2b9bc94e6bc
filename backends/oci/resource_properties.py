"""`linux.resources` of an OCI config.json as a table (config-linux.md); also what `update` reads."""

from __future__ import annotations

from backends.kernel.number_list import numbers_of
from backends.oci.schema import (
    Refused,
    array,
    boolean,
    filled,
    formed,
    int64,
    integer,
    mapping,
    record,
    string,
    uint16,
    uint32,
    uint64,
    word,
)


def cpu_list(value: object) -> None:
    """Take lists of CPUs or memory nodes such as "0-3,7"."""
    string(value)
    try:
        numbers_of(str(value))
    except ValueError as error:
        raise Refused(str(error)) from None


device_number = integer(-1, 2**32 - 1)
"""-1 stands for every number."""

_weight_names = ("weight", "leafWeight")


def _weight(value: object) -> None:
    uint16(value)
    if value != 0:
        integer(10, 1000)(value)


def _access(value: object) -> None:
    string(value)
    if not value:
        raise Refused("device access cannot be empty")
    # An "a" beside others means nothing, and is passed over by runc.
    if not set(str(value)) <= set("rwma") or value == "a":
        raise Refused(f"invalid device access {str(value)[:20]!r}: only r, w and m are known")


_device_rule = record(
    {
        "allow": boolean,
        "type": word(("a", "b", "c", ""), 'invalid cgroup device type "{}"'),
        "major": device_number,
        "minor": device_number,
        "access": _access,
    },
    {"allow": "", "access": "device access cannot be empty"},
)

_block_device = {"major": int64, "minor": int64}
_weights = dict.fromkeys(_weight_names, _weight)
_throttle = array(record(_block_device | {"rate": uint64}, {"major": "", "minor": "", "rate": ""}))


def _is_page_size(text: str) -> bool:
    number, unit = text[:-2], text[-2:]
    return number.isascii() and number.isdigit() and number[0] != "0" and unit in ("KB", "MB", "GB")


def _unified_name(value: object) -> None:
    filled(value)
    if "/" in str(value):
        raise Refused("unified resource must be a file name (no slashes)")


resources = record(
    {
        "devices": array(_device_rule),
        "memory": record(
            dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), int64)
            | {"swappiness": uint64}  # docker writes -1 as its unsigned twin; resources.steps refuses what is above 100
            | dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), boolean)
        ),
        "cpu": record(
            dict.fromkeys(("shares", "burst", "period", "realtimePeriod"), uint64)
            | {"quota": int64, "realtimeRuntime": int64, "idle": int64, "cpus": cpu_list, "mems": cpu_list}
        ),
        "pids": record({"limit": int64}),
        "blockIO": record(
            _weights
            | {"weightDevice": array(record(_block_device | _weights, {"major": "", "minor": ""}))}
            | {f"throttle{what}Device": _throttle for what in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")}
        ),
        "hugepageLimits": array(
            record(
                {"pageSize": formed(_is_page_size, "a page size such as 2MB"), "limit": uint64},
                {"pageSize": "", "limit": ""},
            )
        ),
        "network": record(
            {
                "classID": uint32,
                "priorities": array(record({"name": filled, "priority": uint32}, {"name": "", "priority": ""})),
            }
        ),
        "rdma": mapping(record({"hcaHandles": uint32, "hcaObjects": uint32}), filled),
        "unified": mapping(string, _unified_name),
    }
)
