"""The config.json that `inn oci spec` writes: a start for one's own, as runc's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def starter_config(*, is_v2: bool, rootless: bool, spec_version: str) -> dict[str, Any]:
    """Return the config; with rootless for this user, whose ids become root's in a user namespace."""
    namespaces = ["pid", "network", "ipc", "uts", "mount", *(["cgroup"] if is_v2 else [])]
    if rootless:
        namespaces = [*(name for name in namespaces if name != "network"), "user"]
    linux: dict[str, Any] = {"uidMappings": _own_id(os.geteuid()), "gidMappings": _own_id(os.getegid())}
    if not rootless:
        linux = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    return {
        "ociVersion": spec_version,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "innkeeper",
        "mounts": [_for_user(mount) if rootless else mount for mount in _mounts()],
        "linux": {
            **linux,
            "namespaces": [{"type": name} for name in namespaces],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }


def _process() -> dict[str, Any]:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts() -> list[dict[str, Any]]:
    safe = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *safe),
        _mount("/sys", "sysfs", "sysfs", *safe, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _for_user(mount: dict[str, Any]) -> dict[str, Any]:
    """A user may not mount sysfs without a network of his own, nor give files to ids that are not his."""
    if mount["destination"] == "/sys":
        return _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    kept = [option for option in mount.get("options", ()) if not option.startswith(("uid=", "gid="))]
    return {**mount, "options": kept} if "options" in mount else mount


def _own_id(host_id: int) -> list[dict[str, int]]:
    return [{"containerID": 0, "hostID": host_id, "size": 1}]
