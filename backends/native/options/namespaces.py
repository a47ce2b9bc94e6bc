"""Which namespaces are a container's own, its host name, and kernel parameters that belong to them."""

from __future__ import annotations

import os
import re
from typing import Any

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.native.options import networks
from backends.native.rootless import is_inside

USERNS = ("host", "auto", "keep")

_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?")
_IPC = frozenset({"msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"})
_OPEN_PORTS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""As docker: its network is the container's own, so any user of it may use low ports and ping."""


def check(asked: ContainerSpec) -> None:
    """Raise UsageError for namespaces that do not exist or do not go together."""
    _check_network(asked)
    if asked.userns not in USERNS:
        raise UsageError(f"--userns {asked.userns!r} is not known", hint=", ".join(USERNS))
    modes = {"pid": asked.pid_mode, "ipc": asked.ipc_mode, "uts": asked.uts_mode, "cgroupns": asked.cgroupns_mode}
    for name, mode in modes.items():
        if mode not in ("", "private", "host"):
            raise UsageError(f"--{name} {mode!r} is not known", hint="host, or leave it out")
    if asked.hostname is not None:
        if not _HOSTNAME.fullmatch(asked.hostname):
            raise UsageError(f"{asked.hostname!r} is no host name", hint="letters, digits, '-', '.'; at most 64")
        if asked.uts_mode == "host":
            raise UsageError("--hostname and --uts host do not go together: it would rename the host")
    if asked.privileged and asked.userns != "host":
        raise UsageError("--privileged and --userns do not go together: its rights end at the user namespace")
    if asked.userns != "host" and asked.pid_mode == "host":
        raise UsageError("--userns and --pid host do not go together: the kernel shows /proc to the host's root alone")
    if asked.userns != "host" and asked.driver != "native":
        raise UsageError(f"--userns and --driver {asked.driver} do not go together", hint="leave out --driver")
    if asked.shm_bytes is not None and asked.ipc_mode == "host":
        raise UsageError("--shm-size and --ipc host do not go together: /dev/shm is the host's")


def _check_network(asked: ContainerSpec) -> None:
    mode = networks.wanted(asked).mode
    if mode == "host" and asked.publish:
        raise UsageError("--publish and --network host do not go together: its ports are the host's already")
    if mode == "none" and asked.publish:
        raise UsageError("--publish needs a network: --network none has none")
    if not mode.startswith(networks.CONTAINER):
        return
    given = {"--publish": asked.publish, "--hostname": asked.hostname, "--add-host": asked.hosts, "--dns": asked.dns,
             "--dns-search": asked.dns_search, "--dns-option": asked.dns_options}  # fmt: skip
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} and --network {mode} do not go together: say it of the other container")
    if asked.userns != "host":
        raise UsageError(f"--userns and --network {mode} do not go together: the network has other users")


def namespaces(asked: ContainerSpec) -> list[dict[str, Any]]:
    """Return `linux.namespaces`."""
    shared = {
        "pid": asked.pid_mode == "host",
        "network": asked.network == "host",
        "ipc": asked.ipc_mode == "host",
        "uts": asked.uts_mode == "host",
        "mount": False,
        "cgroup": asked.cgroupns_mode == "host",
        "user": asked.userns == "host",
    }
    return [{"type": name} for name, is_shared in shared.items() if not is_shared]


def _has_own_network(asked: ContainerSpec) -> bool:
    return asked.network != "host" and not asked.network.startswith(networks.CONTAINER)


def hostname(container_id: str, asked: ContainerSpec) -> str:
    """Return its host name: of its own unless it shares the host's, or the host's network."""
    if asked.uts_mode == "host" or (asked.network == "host" and asked.hostname is None):
        return os.uname().nodename
    return asked.hostname or container_id


def sysctls(asked: ContainerSpec) -> dict[str, str]:
    """Return `linux.sysctl`. Raises UsageError for what is not the container's own."""
    found: dict[str, str] = {}
    if _has_own_network(asked) and asked.userns == "host":
        # The groups of a plain user's namespace are few, and not known here.
        names = list(_OPEN_PORTS)[: 1 if is_inside() else None]
        present = (name for name in names if os.path.exists("/proc/sys/" + name.replace(".", "/")))
        found = {name: _OPEN_PORTS[name] for name in present}
    for text in asked.sysctls:
        name, equals, value = text.partition("=")
        if not equals or not name or not value or "\0" in text:
            raise UsageError(f"sysctl {text!r} is not NAME=VALUE")
        name = name.replace("/", ".") if "/" in name and "." not in name.partition("/")[0] else name
        _check_sysctl(name, asked)
        found[name] = value
    return found


def _check_sysctl(name: str, asked: ContainerSpec) -> None:
    first, _, rest = name.partition(".")
    if ".." in name or not rest:
        raise UsageError(f"sysctl {name!r} is no kernel parameter")
    if name == "kernel.hostname":
        raise UsageError("sysctl kernel.hostname: say --hostname")
    if first == "net":
        is_shared, option = not _has_own_network(asked), f"--network {asked.network}"
    elif (first == "kernel" and rest in _IPC) or name.startswith("fs.mqueue."):
        is_shared, option = asked.ipc_mode == "host", "--ipc host"
    elif name == "kernel.domainname":
        is_shared, option = asked.uts_mode == "host", "--uts host"
    else:
        raise UsageError(f"sysctl {name}: it belongs to the whole host, not to a container")
    if is_shared:
        raise UsageError(f"sysctl {name} and {option} do not go together: it would change what others have")
