"""From a container's record and config.json to what the OCI runtime is asked for. Pure: nothing here runs.

The runtime (backends/oci) does the rest: namespaces, mounts, control group, user. What is Innkeeper's own is
added to it: the overlay of the image's layers, the exact limits, the way to the bridge.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.kernel import fuse_overlay, mapped_overlay, mounts, netlink
from backends.kernel.account import Account
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.kernel.mapped_overlay import MountMappedOverlay
from backends.model import Limits
from backends.native import apparmor, nat, rootless, shaping
from backends.native.apparmor import LoadProfile
from backends.native.network import bridge_lock
from backends.native.networks.endpoint import Endpoint, first_mac
from backends.native.options.names import asks_resolver
from backends.native.record import ContainerRecord
from backends.native.resolver.offer import OfferNames
from backends.native.secrets import PlaceSecrets
from backends.native.spec import limits_of
from backends.native.user_network import NETWORK as USER_NETWORK
from backends.native.user_network import ConnectByUser
from backends.oci import resources
from backends.oci.gate import SocketGate
from backends.oci.request import CreateRequest
from backends.trace import Step

_TIMEOUT_S = 60.0

MAPPED_ROOT = "/run/innkeeper-root"
"""An empty folder that anybody may enter; each container with a user namespace mounts its root there, unseen."""


def request(
    record: ContainerRecord,
    config: Mapping[str, Any],
    folder: Path,
    host: CgroupHost,
    *,
    stdio: Sequence[int] = (),
    own_fds: Sequence[int] = (),
    secrets_fd: int = -1,
    overlay_fd: int = -1,
    run_dir: Path | None = None,
) -> CreateRequest:
    """Return the request that makes and starts a container."""
    group = host.group(config["linux"]["cgroupsPath"])
    # The root of a user namespace cannot walk through our folders, which are for root alone.
    root = MAPPED_ROOT if has_maps(config) else str(folder / config["root"]["path"])
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
        before_mounts=[mounts.SetPropagation(), _overlay(record, config, folder, root, overlay_fd)],
        host_steps=functools.partial(_links, record, limits_of(config), run_dir),
        in_container=[*_inside(record, limits_of(config)), *_secrets(record, root, secrets_fd)],
        own_fds=own_fds,
        is_traced=True,
        timeout_s=_TIMEOUT_S,
    )
    if record.endpoints and run_dir is not None:
        found.holding = functools.partial(bridge_lock, run_dir)
    return found


def explained(
    record: ContainerRecord, config: Mapping[str, Any], folder: Path, host: CgroupHost
) -> tuple[CreateRequest, Account]:
    """Return what a driver needs to explain a start. A user given by name is known only inside the container."""
    name = (record.user or "").partition(":")[0]
    return request(record, config, folder, host), Account(int(name) if name.isdigit() else 0, 0, (0,), "/")


def _overlay(record: ContainerRecord, config: Mapping[str, Any], folder: Path, root: str, fd: int) -> Step:
    layers = tuple(record.layers)
    if has_maps(config) or fd >= 0:
        return MountMappedOverlay(layers, root, fd)
    return mounts.MountOverlay(layers, str(folder / "upper"), str(folder / "work"), root, rootless.is_inside())


def has_maps(config: Mapping[str, Any]) -> bool:
    """Say whether the container has a user namespace."""
    return bool(config["linux"].get("uidMappings"))


def open_overlay(record: ContainerRecord, config: Mapping[str, Any], folder: Path) -> int:
    """Return the overlay that a container gets which init cannot make by itself, for request(); -1 for others.

    Runs with the host's rights; the descriptor is the caller's to close. Raises Unsupported, OSError.
    """
    upper, work = str(folder / "upper"), str(folder / "work")
    if not has_maps(config):
        if rootless.is_inside() and fuse_overlay.is_needed():
            return fuse_overlay.open_overlay(record.layers, upper, work, str(folder / config["root"]["path"]))
        return -1
    os.makedirs(MAPPED_ROOT, 0o755, exist_ok=True)
    from backends.native.owners import owners_in  # which few containers need
    from backends.native.saved_layers import SavedLayers

    owners = owners_in(config)
    assert owners is not None
    written_as = SavedLayers(folder.parents[1]).owners(record.layers)
    return mapped_overlay.open_overlay(record.layers, upper, work, *owners, written_as)


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
    profile = [LoadProfile()] if config["process"].get("apparmorProfile") == apparmor.NAME else []
    return [*profile, *group.limit_steps(limits_of(config), Limits()), *devices]


def _links(record: ContainerRecord, limits: Limits, run_dir: Path | None, pid: int) -> list[Step]:
    if record.network == USER_NETWORK and run_dir is not None:
        return [ConnectByUser(pid, str(run_dir / "containers" / record.id))]
    veths = (link_steps(each, pid, publishes=bool(record.publish)) for each in record.endpoints)
    shaped = shaping.host_steps(shaping.links(record), limits)
    return [
        *(step for steps in veths for step in steps),
        *_way_out(record, run_dir),
        *shaped,
        *_names(record, run_dir, pid),
    ]


def _names(record: ContainerRecord, run_dir: Path | None, pid: int) -> list[Step]:
    if not asks_resolver(record.network, record.publish, record.dns):
        return []
    return [OfferNames(record.id, pid, str(run_dir or ""))]


def _way_out(record: ContainerRecord, run_dir: Path | None) -> Sequence[Step]:
    return nat.steps(record, run_dir or Path("/run/innkeeper"))  # without one it is only shown


def _inside(record: ContainerRecord, limits: Limits) -> list[Step]:
    return [*address_steps(record.endpoints), *shaping.guest_steps(shaping.links(record), limits)]


def _secrets(record: ContainerRecord, root: str, fd: int) -> list[Step]:
    return [PlaceSecrets(root, record.secret_files, fd)] if record.secrets else []


def link_steps(endpoint: Endpoint, pid: int, *, publishes: bool) -> list[Step]:
    """Return what makes one link of a container, and its bridge if need be."""
    steps: list[Step] = [
        netlink.EnsureBridge(
            endpoint.bridge, endpoint.gateway, endpoint.prefix_length, endpoint.gateway6, endpoint.prefix_length6
        ),
        netlink.MakeVeth(endpoint.link, endpoint.ifname, endpoint.bridge, pid, first_mac(endpoint.link[3:13])),
    ]
    return [*steps, netlink.AllowHairpin(endpoint.link)] if publishes else steps


def address_steps(endpoints: Sequence[Endpoint]) -> list[Step]:
    """Return what gives a container's links their addresses; the way out is over the first that has one."""
    first4 = next((each for each in endpoints if not each.internal), None)
    first6 = next((each for each in endpoints if not each.internal and each.address6), None)
    return [
        netlink.ConfigureLink(
            each.ifname,
            each.address,
            each.prefix_length,
            each.gateway if each == first4 else "",
            each.address6,
            each.prefix_length6,
            each.gateway6 if each == first6 else "",
            each.mac,
        )
        for each in endpoints
    ]
