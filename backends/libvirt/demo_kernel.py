"""A kernel and a busybox for the demo VM: the host's own where there are, else the distribution's packages, unpacked
and not installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError, Unsupported
from backends.libvirt.initramfs import check_static

Say = Callable[[str], None]

META_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
"""Debian's and Ubuntu's packages that depend on the present kernel, the smaller ones first."""

_KERNEL_PACKAGE = re.compile(r"linux-(image|modules)-(unsigned-)?\d[\w.+-]*$")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a guest boots from."""

    kernel: Path
    modules: Path
    """Folder with the kernel's modules."""

    busybox: Path


@contextmanager
def demo_parts(say: Say, *, boot: Path = Path("/boot"), lib_modules: Path = Path("/lib/modules")) -> Iterator[Parts]:
    """Yield the files; those that had to be downloaded are gone afterwards, so copy what is needed."""
    with tempfile.TemporaryDirectory(prefix="innkeeper-kernel-") as scratch:
        busybox = _own_busybox() or _downloaded_busybox(Path(scratch), say)
        kernel = installed_kernel(boot, lib_modules) or _downloaded_kernel(Path(scratch), say)
        say(f"the demo VM boots {kernel[0].name}")
        yield Parts(*kernel, busybox)


def installed_kernel(boot: Path, lib_modules: Path) -> tuple[Path, Path] | None:
    """Return (kernel, modules folder) of the newest installed kernel that can be read, a cloud one first."""
    found = []
    for kernel in boot.glob("vmlinuz-*") if boot.is_dir() else ():
        modules = lib_modules / kernel.name.removeprefix("vmlinuz-")
        if modules.is_dir() and os.access(kernel, os.R_OK):
            found.append(("cloud" in kernel.name, _numbers(kernel.name), kernel, modules))
    return max(found)[2:] if found else None


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _own_busybox() -> Path | None:
    for path in (Path("/usr/bin/busybox"), Path("/bin/busybox")):
        try:
            check_static(path)
        except (OSError, InnkeeperError):
            continue
        return path
    return None


def _downloaded_busybox(scratch: Path, say: Say) -> Path:
    root = _unpacked(["busybox-static"], scratch / "busybox", say)
    found = next((path for path in root.rglob("busybox") if path.is_file() and os.access(path, os.X_OK)), None)
    if found is None:
        raise InnkeeperError("cannot find a busybox in the package busybox-static", hint="apt install busybox-static")
    check_static(found)
    return found


def _downloaded_kernel(scratch: Path, say: Say) -> tuple[Path, Path]:
    root = _unpacked(_kernel_packages(say), scratch / "kernel", say)
    kernel = next(iter(root.glob("boot/vmlinuz-*")), None)
    modules = next((folder for folder in (*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*"))), None)
    if kernel is None or modules is None:
        raise InnkeeperError("the kernel package holds no kernel with modules", hint="apt install linux-image-amd64")
    return kernel, modules


def _kernel_packages(say: Say) -> list[str]:
    """Return the packages with the present kernel and its modules, followed from a meta package."""
    for attempt in range(2):
        for meta in META_PACKAGES:
            found: list[str] = []
            todo = [meta]
            while todo:
                for name in _depends(todo.pop()):
                    if _KERNEL_PACKAGE.match(name) and name not in found:
                        found.append(name)
                        todo.append(name)
            if found:
                return found
        if attempt == 0 and os.geteuid() == 0:
            say("running apt-get update: no kernel package is known yet")
            _run(["apt-get", "update", "-qq"], "read the package lists", timeout_s=300)
    raise Unsupported(
        "there is no kernel for the demo VM in /boot nor among the packages known to apt",
        hint="apt-get update, or apt install linux-image-amd64",
    )


def _depends(package: str) -> list[str]:
    if not shutil.which("apt-cache"):
        raise Unsupported(
            "there is no kernel in /boot, and no apt to fetch one with",
            hint="install a kernel package of this distribution",
        )
    done = subprocess.run(
        ["apt-cache", "depends", "--no-recommends", "--no-suggests", package],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return re.findall(r"Depends: (\S+)", done.stdout)


def _unpacked(packages: list[str], folder: Path, say: Say) -> Path:
    """Download packages and unpack them below the folder; nothing is installed."""
    debs, root = folder / "debs", folder / "root"
    debs.mkdir(parents=True)
    say(f"downloading {', '.join(packages)} (unpacked for the demo VM, not installed)")
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages]
    _run(command, f"download {packages[0]}", cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(deb), str(root)], f"unpack {deb.name}")
    return root


def _run(command: list[str], what: str, *, cwd: Path | None = None, timeout_s: float = 600) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InnkeeperError(f"cannot {what}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode}"])[-1]
        raise InnkeeperError(f"cannot {what}: {last}")
