"""Hiding parts of a container's /proc and /sys, and making parts read-only, as steps. All run after the pivot."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from backends.kernel import linux, rooted
from backends.kernel.mounts import KernelStep, locked_flags


@dataclass(frozen=True, slots=True)
class MaskPaths(KernelStep):
    """Hide files behind /dev/null and folders behind an empty read-only tmpfs. Runs after the pivot."""

    paths: tuple[str, ...]
    kind = "mask"

    def describe(self) -> str:
        return "mask " + ", ".join(self.paths)

    def run(self) -> None:
        null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            found = os.fstat(null)
            # Not the image's own file of that name (CVE-2025-31133).
            if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
                raise OSError(22, "the container's /dev/null is not the null device", "/dev/null")
            for path in self.paths:
                self._mask(path, f"/proc/self/fd/{null}")
        finally:
            os.close(null)

    def _mask(self, path: str, null: str) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if rooted.is_directory(fd):
                linux.mount("tmpfs", f"/proc/self/fd/{fd}", "tmpfs", linux.MS_RDONLY, "size=0k")
            else:
                linux.mount(null, f"/proc/self/fd/{fd}", "", linux.MS_BIND)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class ReadonlyPaths(KernelStep):
    """Bind paths onto themselves read-only. Runs after the pivot."""

    paths: tuple[str, ...]
    kind = "readonly"

    def describe(self) -> str:
        return "make read-only " + ", ".join(self.paths)

    def by_hand(self) -> str:
        return "; ".join(f"mount --bind {path} {path}; mount -o remount,bind,ro {path}" for path in self.paths)

    def run(self) -> None:
        for path in self.paths:
            try:
                linux.mount(path, path, "", linux.MS_BIND | linux.MS_REC)
            except (FileNotFoundError, NotADirectoryError):
                continue
            _remount_readonly(path)


@dataclass(frozen=True, slots=True)
class ReadonlyRoot(KernelStep):
    """Make the root file system read-only. Runs after the pivot."""

    kind = "readonly"

    def describe(self) -> str:
        return "make / read-only"

    def by_hand(self) -> str:
        return "mount -o remount,bind,ro /"

    def run(self) -> None:
        _remount_readonly("/")


def _remount_readonly(path: str) -> None:
    flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | locked_flags(path)
    linux.mount("", path, "", flags)
