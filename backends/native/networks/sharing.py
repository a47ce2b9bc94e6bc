"""Containers that have the network of another one (--network container:NAME)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from backends.errors import NotFound, StartFailed
from backends.kernel import procfs
from backends.native.record import ContainerRecord
from backends.native.store import ContainerStore

PREFIX = "container:"


def owner_of(record: ContainerRecord) -> str:
    """Return the id of the container whose network it has; empty: it has its own, or the host's."""
    return record.network.removeprefix(PREFIX) if record.network.startswith(PREFIX) else ""


def open_network(store: ContainerStore, record: ContainerRecord) -> int:
    """Return a descriptor of the network namespace that it is to be in; the caller closes it. Raises StartFailed."""
    owner_id = owner_of(record)
    try:
        name, status = store.record(owner_id).name, store.status(owner_id)
    except NotFound:
        raise StartFailed(f"its network is that of container {owner_id}, which has been removed") from None
    hint = f"start that one first: inn start {name}"
    refused = StartFailed(f"its network is that of container {name}, which does not run", hint=hint)
    if status.pid is None or status.pid_start is None or not store.is_supervised(owner_id):
        raise refused
    try:
        fd = os.open(f"/proc/{status.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise refused from None
    if not procfs.is_same_process(status.pid, status.pid_start):  # its pid was another's when we opened it
        os.close(fd)
        raise refused
    return fd


def with_network(config: Mapping[str, Any], fd: int) -> dict[str, Any]:
    """Return a config.json whose network namespace is the one that this process has open."""
    path = f"/proc/{os.getpid()}/fd/{fd}"
    spaces = [
        {**space, "path": path} if space["type"] == "network" else space for space in config["linux"]["namespaces"]
    ]
    return {**config, "linux": {**config["linux"], "namespaces": spaces}}
