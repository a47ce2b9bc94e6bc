"""From a container's record and config.json to what the OCI runtime is asked for. Pure: nothing here runs.

The runtime (backends/oci) does the rest: namespaces, mounts, control group, user. What is Innkeeper's own is
added to it: the overlay of the image's layers, the exact limits, the way to the bridge.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.kernel import mounts, netlink
from backends.kernel.account import Account
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.native.network import bridge_lock
from backends.native.record import ContainerRecord
from backends.native.secrets import PlaceSecrets
from backends.native.spec import limits_of
from backends.oci import resources
from backends.oci.gate import SocketGate
from backends.oci.request import CreateRequest
from backends.trace import Step

_TIMEOUT_S = 60.0


def request(
    record: ContainerRecord,
    config: Mapping[str, Any],
    folder: Path,
    host: CgroupHost,
    *,
    stdio: Sequence[int] = (),
    own_fds: Sequence[int] = (),
    secrets_fd: int = -1,
    run_dir: Path | None = None,
) -> CreateRequest:
    """Return the request that makes and starts a container."""
    group = host.group(config["linux"]["cgroupsPath"])
    root = str(folder / config["root"]["path"])
    is_bridged = record.network == "bridge"
    found = CreateRequest(
        id=record.id,
        bundle=str(folder),
        root=root,
        config=config,
        group=group,
        gate=SocketGate(is_open=True),
        state=functools.partial(_state, record, config, folder),
        stdio=stdio,
        size=(record.size[0], record.size[1]) if record.size else None,
        user=record.user or ("0" if config["process"]["user"]["uid"] == 0 else None),
        group_steps=_limits(config, group),
        before_mounts=[
            mounts.SetPropagation(),
            mounts.MountOverlay(tuple(record.layers), str(folder / "upper"), str(folder / "work"), root),
        ],
        host_steps=functools.partial(_veth, record) if is_bridged else lambda _pid: (),
        in_container=[*(_address(record) if is_bridged else ()), *_secrets(record, root, secrets_fd)],
        own_fds=own_fds,
        is_traced=True,
        timeout_s=_TIMEOUT_S,
    )
    if is_bridged and run_dir is not None:
        found.holding = functools.partial(bridge_lock, run_dir)
    return found


def explained(
    record: ContainerRecord, config: Mapping[str, Any], folder: Path, host: CgroupHost
) -> tuple[CreateRequest, Account]:
    """Return what a driver needs to explain a start. A user given by name is known only inside the container."""
    name = (record.user or "").partition(":")[0]
    return request(record, config, folder, host), Account(int(name) if name.isdigit() else 0, 0, (0,), "/")


def _state(
    record: ContainerRecord, config: Mapping[str, Any], folder: Path, status: str, pid: int
) -> Mapping[str, Any]:
    return {
        "ociVersion": config["ociVersion"],
        "id": record.id,
        "status": status,
        "pid": pid,
        "bundle": str(folder),
        "annotations": config.get("annotations") or {},
    }


def _limits(config: Mapping[str, Any], group: Cgroup) -> list[Step]:
    devices = resources.device_steps(group, config["linux"]["resources"].get("devices") or ())
    return [*group.limit_steps(limits_of(config)), *devices]


def _veth(record: ContainerRecord, pid: int) -> list[Step]:
    assert record.bridge is not None
    assert record.gateway is not None
    return [
        netlink.EnsureBridge(record.bridge, record.gateway, record.prefix_length),
        netlink.MakeVeth(record.host_link, "eth0", record.bridge, pid, record.mac),
    ]


def _secrets(record: ContainerRecord, root: str, fd: int) -> list[Step]:
    return [PlaceSecrets(root, record.secret_files, fd)] if record.secrets else []


def _address(record: ContainerRecord) -> list[Step]:
    assert record.address is not None
    assert record.gateway is not None
    return [netlink.ConfigureLink("eth0", record.address, record.prefix_length, record.gateway)]
