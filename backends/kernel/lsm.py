"""Security labels of the program, written for execve to take (apparmor(7), selinux(8))."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from backends.kernel import rooted
from backends.kernel.mounts import KernelStep


def has_apparmor() -> bool:
    """Say whether AppArmor is on in this kernel."""
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def has_selinux() -> bool:
    """Say whether SELinux is on in this kernel."""
    return os.path.exists("/sys/fs/selinux/enforce")


@dataclass(frozen=True, slots=True)
class SetExecLabel(KernelStep):
    """Let the next execve change to an AppArmor profile or an SELinux context."""

    label: str
    module: str
    """"apparmor" or "selinux"."""

    kind = "label"

    def describe(self) -> str:
        return f"run the program as {self.module} {self.label}"

    def by_hand(self) -> str:
        return f"aa-exec -p {self.label}" if self.module == "apparmor" else f"runcon {self.label}"

    def run(self) -> None:
        text = f"exec {self.label}" if self.module == "apparmor" else self.label
        fd = self._open()
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise OSError(error.errno, f"cannot apply the {self.module} label: {error.strerror}", self.label) from error
        finally:
            os.close(fd)

    def _open(self) -> int:
        """Open the file of this very thread, on a real procfs: a write elsewhere would leave the program unconfined."""
        if self.module == "apparmor":
            try:
                return rooted.open_in_proc("thread-self/attr/apparmor/exec", os.O_WRONLY)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
        return rooted.open_in_proc("thread-self/attr/exec", os.O_WRONLY)
