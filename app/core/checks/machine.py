"""Hardware virtualisation: whether /dev/kvm can be opened. That a guest boots under it is libvirt's check."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backends.base import CheckResult

KVM = Path("/dev/kvm")


def check_machine(device: Path = KVM) -> Sequence[CheckResult]:
    """Say whether KVM is there for us."""
    slow = "VMs run under emulation, some ten times slower"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        mend = "Switch virtualisation on in the firmware, or nested virtualisation in the host; modprobe kvm"
        return [CheckResult("machine", str(device), None, "not there", slow, mend)]
    except OSError as error:
        mend = "Run as root, or join the group kvm: usermod -aG kvm USER"
        return [CheckResult("machine", str(device), None, f"cannot be opened: {error.strerror}", slow, mend)]
    return [CheckResult("machine", str(device), True, "opens")]
