"""Packages of Debian and Ubuntu: which are missing, and their installation as root."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

from app.bootstrap.talk import SetUpFailed, say

_QEMU = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm", "riscv64": "qemu-system-misc"}
QEMU = _QEMU.get(platform.machine(), "qemu-system")

RUN_TIME = ("libnftables1",)
"""What `inn run` wants of the system beside Python: NAT and published ports."""

VIRTUAL_MACHINES = ("libvirt-daemon-system", "libvirt-clients", QEMU, "qemu-utils", "busybox-static")
"""What the demo machine needs to boot."""

BUILD = ("libvirt-dev", "pkg-config", "gcc", "libc6-dev")
"""What libvirt-python needs to compile."""

ROOTLESS = ("uidmap", "passt", "slirp4netns", "fuse-overlayfs")
"""What containers of a plain user can use."""

TESTS = ("tmux", "strace", "iproute2", "nftables", "procps", "e2fsprogs", "bash", "zsh", "fish", *ROOTLESS)
"""What test lanes use beside all of the above."""

RUNTIMES = ("docker.io", "podman", "crun", "runc", "conmon", "containerd")
"""Who calls our OCI runtime in tests, and what it is compared with."""

IMAGES = ("docker-registry", "skopeo", "umoci", "buildah", "apache2-utils", "openssl", "busybox-static", "zstd",
          "debootstrap", "sysbench", "iperf3", "iputils-ping", "bind9-dnsutils")  # fmt: skip
"""Registries, other people's tools for images, and what goes into images of tests and measurements."""

USER_MODE_LINUX = ("user-mode-linux",)
"""A Linux with cgroup v2 that runs as a process; only for x86."""


def build_packages() -> tuple[str, ...]:
    """Return what libvirt-python needs, with Python's headers where this is Debian's own Python."""
    is_debians = sys.base_prefix == "/usr"
    return (*BUILD, f"python3.{sys.version_info.minor}-dev") if is_debians else BUILD


def test_packages() -> tuple[str, ...]:
    """Return all that the test lanes use on this machine."""
    uml = USER_MODE_LINUX if platform.machine() in ("x86_64", "i686") else ()
    return (*RUN_TIME, *VIRTUAL_MACHINES, *build_packages(), *TESTS, *RUNTIMES, *IMAGES, *uml)


def is_debian() -> bool:
    """Whether packages can be looked up and installed with dpkg and apt."""
    return bool(shutil.which("dpkg-query") and shutil.which("apt-get"))


def missing(packages: tuple[str, ...]) -> list[str]:
    """Return those that are not installed."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Package}\n", *packages]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    installed = {line[3:].strip() for line in done.stdout.splitlines() if line.startswith("ii ")}
    return [package for package in packages if package not in installed]


def install(packages: tuple[str, ...], purpose: str) -> None:
    """Install what is missing, saying so. Raises SetUpFailed, also where one may not install."""
    if not is_debian():
        raise SetUpFailed(f"{purpose}: this is no Debian or Ubuntu, so install the like of: {' '.join(packages)}")
    absent = missing(packages)
    if not absent:
        return
    if os.geteuid() != 0:
        raise SetUpFailed(f"{purpose}: not installed; as root: apt-get install {' '.join(absent)}")
    say(f"installing the Debian packages {' '.join(absent)} ({purpose})")
    _apt("update", check=False)  # an old list may still do; the installation tells
    try:
        _apt("install", "--no-install-recommends", "--", *absent)
    except SetUpFailed:
        _one_by_one(absent, purpose)


def _one_by_one(packages: list[str], purpose: str) -> None:
    """Install what can be: one package that a release lacks must not take the others along."""
    failed = []
    for package in packages:
        try:
            _apt("install", "--no-install-recommends", "--", package)
        except SetUpFailed as error:
            failed.append(str(error))
    if failed:
        raise SetUpFailed(f"{purpose}: {'; '.join(failed)}")


def _apt(verb: str, *arguments: str, check: bool = True) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=1", verb, *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=environment
    )
    if check and done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("E:")]
        what = " ".join(word for word in arguments if not word.startswith("-"))
        raise SetUpFailed(f"apt-get {verb} {what}: {(errors or ['failed'])[0].removeprefix('E: ')}")
