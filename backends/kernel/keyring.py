"""Session keyrings as a step (keyrings(7), session-keyring(7))."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from backends.kernel import linux
from backends.kernel.mounts import KernelStep

USER_SEARCH = 0x80000


@dataclass(frozen=True, slots=True)
class JoinSessionKeyring(KernelStep):
    """Leave the caller's session keyring for the container's own, so that its keys are out of reach."""

    name: str
    shares: int = 0
    """USER_SEARCH: processes of the same user may join it later; 0: as the kernel makes it."""

    kind = "keyctl"

    def describe(self) -> str:
        return f"new session keyring {self.name}"

    def run(self) -> None:
        try:
            key = linux.keyctl_join_session_keyring(self.name)
            if self.shares:
                linux.keyctl_set_permissions(key, linux.keyctl_permissions(key) | self.shares)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a kernel without keyrings has no keys to protect
                raise
