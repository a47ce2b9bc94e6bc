"""Session keyrings as a step (keyrings(7), session-keyring(7))."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from backends.kernel import linux
from backends.kernel.mounts import KernelStep


@dataclass(frozen=True, slots=True)
class JoinSessionKeyring(KernelStep):
    """Leave the caller's session keyring for a new one, so that its keys are out of reach."""

    name: str
    kind = "keyctl"

    def describe(self) -> str:
        return f"new session keyring {self.name}"

    def run(self) -> None:
        try:
            linux.keyctl_join_session_keyring(self.name)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a kernel without keyrings has no keys to protect
                raise
