"""The lines of `inn doctor` about virtual machines. Bounded in time; never raises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from backends.base import CheckResult
from backends.errors import InnkeeperError
from backends.libvirt import api, event_loop
from backends.libvirt.kvm_probe import probe_kvm, qemu_version
from backends.libvirt.link import Link

AREA = "libvirt"
CONNECT_TIMEOUT_S = 3.0


def check(uri: str, run_dir: Path | None) -> Sequence[CheckResult]:
    """Look at the library, the daemon, QEMU and KVM: at most about 10 s, usually a few milliseconds."""
    return [*_library_and_daemon(uri), _qemu(), _kvm(run_dir)]


def _library_and_daemon(uri: str) -> list[CheckResult]:
    try:
        version = api.version_text(api.load().getVersion())
    except InnkeeperError as error:
        return [
            CheckResult(AREA, "libvirt-python", False, "not installed", "virtual machines are off", error.hint),
        ]
    return [CheckResult(AREA, "libvirt-python", True, f"with libvirt {version}"), _daemon(uri)]


def _daemon(uri: str) -> CheckResult:
    link: Link | None = None
    try:
        event_loop.ensure_running()
        link = Link(uri, "check")
        found = link.call(
            "ask its version", lambda connection: (connection.getLibVersion(), connection.getVersion()),
            CONNECT_TIMEOUT_S,
        )  # fmt: skip
    except InnkeeperError as error:
        return CheckResult(AREA, uri, False, "no answer", f"virtual machines are off: {error.message}", _mend(uri))
    finally:
        if link is not None:
            link.close()
    return CheckResult(
        AREA, uri, True, f"libvirt {api.version_text(found[0])}, hypervisor {api.version_text(found[1])}"
    )


def _mend(uri: str) -> str:
    if "qemu" in uri and not shutil.which("libvirtd") and not shutil.which("virtqemud"):
        return "apt install libvirt-daemon-system"
    if os.path.isdir("/run/systemd/system"):
        return "systemctl start libvirtd" if os.geteuid() == 0 else "be root, or a member of the group libvirt"
    return "start libvirtd: virtlogd -d && libvirtd -d"


def _qemu() -> CheckResult:
    version = qemu_version()
    if version is None:
        return CheckResult(
            AREA, "qemu", False, "not installed", "no local virtual machine can run", "apt install qemu-system-x86"
        )
    return CheckResult(AREA, "qemu", True, version)


def _kvm(run_dir: Path | None) -> CheckResult:
    probe = probe_kvm(run_dir)
    if probe.works:
        return CheckResult(AREA, "kvm", True, probe.found)
    return CheckResult(
        AREA, "kvm", None, probe.found, "virtual machines run under emulation (type qemu), many times slower",
        "enable virtualisation in the firmware, or nested virtualisation on the host below",
    )  # fmt: skip
