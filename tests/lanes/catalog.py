"""All lanes, in the order in which they run: what fails soonest comes first."""

from __future__ import annotations

import os
import shutil

from tests.lanes.lane import ROOT, Lane
from tests.lanes.lint import run_lint
from tests.lanes.process import run_pytest
from tests.lanes.user_mode import run_under_user_mode_linux
from tests.tools import uml

KERNEL = ("tests/kernel", "tests/native")

SAME_EVERYWHERE = frozenset({
    "test_native_boot", "test_native_checkpoint", "test_native_clones", "test_native_cp", "test_native_cp_rules",
    "test_native_crashes", "test_native_damage", "test_native_drivers", "test_native_fuzz", "test_native_health",
    "test_native_image_config", "test_native_images", "test_native_isolation", "test_native_logs",
    "test_native_options", "test_native_output", "test_native_peers", "test_native_ports", "test_native_restart",
    "test_native_secrets", "test_oci_engine", "test_oci_inside", "test_oci_process", "test_oci_seccomp",
    "test_rtnetlink", "test_selfexe",
})  # fmt: skip
"""Files of tests/kernel to which the kind of cgroups does not matter. User-mode Linux is slow: what else is new runs
there too, these only where they are asked for by name."""


def _on_v2() -> tuple[str, ...]:
    """Return the kernel tests that are run under cgroup v2."""
    files = sorted((ROOT / "tests/kernel").glob("test_*.py"))
    return tuple(f"tests/kernel/{file.name}" for file in files if file.stem not in SAME_EVERYWHERE)


_CGROUPS = ("cgroup.cpu", "cgroup.memory", "cgroup.pids", "cgroup.freeze")


def _root_needed() -> str:
    return "" if os.geteuid() == 0 else "root (real containers, cgroups and mounts)"


def _libvirt_needed() -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacks = [name for name in ("libvirtd", "qemu-img") if not shutil.which(name, path=path)]
    return f"libvirt and QEMU ({' and '.join(lacks)} not found)" if lacks else _root_needed()


def _tmux_needed() -> str:
    return "" if shutil.which("tmux") else "the Debian package tmux"


_SPECIAL = (
    Lane("cli", "command line", run_pytest, ("tests/cli",), limit_s=420),
    Lane("tui", "screen, under Pilot", run_pytest, ("tests/tui",), is_apart=True, limit_s=420),
    Lane(
        "kernel",
        "real containers on this machine's kernel",
        run_pytest,
        KERNEL,
        needs=_root_needed,
        expects=("root", "overlay", "strace", *_CGROUPS),
        limit_s=600,
    ),
    Lane(
        "kernel-v2",
        "what cgroups matter to, under cgroup v2, in user-mode Linux",
        run_under_user_mode_linux,
        _on_v2(),
        needs=uml.why_not,
        expects=("root", "overlay", "disk", "cgroup2", *_CGROUPS),
        is_apart=True,
        limit_s=1140,
    ),
    Lane(
        "oci",
        "the OCI runtime's command line, under docker and podman too",
        run_pytest,
        ("tests/oci",),
        needs=_root_needed,
        expects=("root", "busybox", "docker", "podman", *_CGROUPS),
        limit_s=420,
    ),
    Lane(
        "images",
        "images: registries, layers, builds, snapshots",
        run_pytest,
        ("tests/images",),
        needs=_root_needed,
        expects=("root", "busybox", "podman", "docker", "docker-registry", "skopeo", "umoci"),
        limit_s=600,
    ),
    Lane(
        "networks",
        "networks of containers, with namespaces as other hosts",
        run_pytest,
        ("tests/networks",),
        needs=_root_needed,
        expects=("root", "busybox", "iperf3", "sysbench"),
        limit_s=600,
    ),
    Lane(
        "libvirt",
        "virtual machines of a real libvirtd",
        run_pytest,
        ("tests/libvirt",),
        needs=_libvirt_needed,
        expects=("root", "libvirt", "virsh", "busybox", "qemu-system-x86_64", "tmux"),
        limit_s=600,
    ),
    Lane(
        "tmux",
        "the real program in a real terminal",
        run_pytest,
        ("tests/tmux",),
        needs=_tmux_needed,
        expects=("tmux",),
        limit_s=420,
    ),
)


def _rest() -> tuple[str, ...]:
    """Return every folder of tests that no other lane has, so that none is forgotten."""
    taken = {path for lane in _SPECIAL for path in lane.paths}
    folders = sorted(entry for entry in (ROOT / "tests").iterdir() if entry.is_dir())
    names = [f"tests/{folder.name}" for folder in folders if any(folder.rglob("test_*.py"))]
    return tuple(name for name in names if name not in taken)


def lanes() -> list[Lane]:
    """Return all lanes."""
    return [
        Lane("lint", "style, types, layers", run_lint, limit_s=300),
        Lane("unit", "units, contract of all backends, architecture", run_pytest, _rest(), limit_s=420),
        *_SPECIAL,
    ]
