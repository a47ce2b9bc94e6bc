"""`inn oci features`: what the runtime can do (runtime-spec features.md)."""

from __future__ import annotations

from typing import Any

from backends.kernel import mount_options
from backends.kernel.capability import CAPABILITIES
from backends.oci import properties
from backends.oci.cli.about import SPEC_VERSION, own_version
from backends.oci.cli.command import Command
from backends.oci.process import KEEP_GROUPS
from backends.quick_json import dumps

_ON = {"enabled": True}


def run(command: Command) -> int:
    """Print them as JSON."""
    command.print(dumps(features(), "    ") + "\n")
    return 0


def features() -> dict[str, Any]:
    """Return all lists and switches."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(properties.HOOKS),
        "mountOptions": list(mount_options.KNOWN),
        "linux": {
            "namespaces": sorted(properties.NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                **_ON,
                "actions": sorted(properties.SECCOMP_ACTIONS),
                "operators": sorted(properties.SECCOMP_OPERATORS),
                "archs": sorted(properties.SECCOMP_ARCHITECTURES),
                "knownFlags": sorted(properties.SECCOMP_FLAGS),
                "supportedFlags": sorted(properties.SECCOMP_FLAGS),
            },
            "apparmor": _ON,
            "selinux": _ON,
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": sorted(properties.MEMORY_MODES), "flags": sorted(properties.MEMORY_FLAGS)},
            "mountExtensions": {"idmap": _ON},
            "netDevices": {"enabled": False},
        },
        "annotations": {
            "org.innkeeper.version": own_version(),
            **dict.fromkeys(("org.opencontainers.runc.checkpoint.enabled", "run.oci.crun.checkpoint.enabled"), "true"),
        },
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", KEEP_GROUPS],
    }
