"""What the OCI runtime says no to."""

from __future__ import annotations

from backends.errors import InnkeeperError, StartFailed


class OciError(InnkeeperError):
    """Something about one container; the message is runc's where callers read it."""

    exit_code = 1


class ConfigInvalid(OciError):
    """config.json asks for what makes no sense; the message begins with the property: "process.cwd: …"."""


class NoSuchContainer(OciError):
    """There is no container of that id below this root."""


class ContainerExists(OciError):
    """The id is taken."""


class NotRunning(OciError):
    """The container has no first process any more."""


class NotExecuted(StartFailed):
    """The container was created, but its program could not be run then: the kernel refused execve."""
