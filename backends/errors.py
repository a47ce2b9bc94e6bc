"""Every error that crosses a layer.

::

    InnkeeperError                 what was tried, on what, what the system said, what to do
    ├── UsageError                 the request itself makes no sense (exit code 2)
    ├── NotFound                   no such guest, image, snapshot …
    │   └── NoSuchImage            it can be pulled, perhaps
    ├── AlreadyExists              the name is taken
    ├── AmbiguousName              the name fits several guests
    ├── WrongState                 the guest is not in a state in which that can be done
    ├── Unsupported                the backend, the kernel or this guest cannot do it
    ├── PermissionDenied           the system refuses it to this user
    │   └── LoginNeeded            a registry wants to know who asks
    ├── Busy                       something else holds it
    ├── TimedOut                   it did not happen in time
    ├── BackendUnavailable         the backend cannot be reached
    ├── Damaged                    what is on disk of it cannot be read
    ├── Cancelled                  the user has had enough of it
    ├── StartFailed                a container did not come up; carries docker's 125, 126, 127
    └── KernelRefused              a system call or a kernel file said no
"""

from __future__ import annotations


class InnkeeperError(Exception):
    """One line for the user: what was tried, on what, and what the system answered.

    `hint` says what the user can do about it, where there is something.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """The line without the hint."""
        return str(self.args[0]) if self.args else type(self).__name__


class UsageError(InnkeeperError):
    """The request makes no sense: an unknown option, a value that does not parse."""

    exit_code = 2


class NotFound(InnkeeperError):
    """There is no guest, image or snapshot of that name."""


class NoSuchImage(NotFound):
    """There is no image of that name here; a registry may have it."""


class AlreadyExists(InnkeeperError):
    """The name is taken."""


class AmbiguousName(InnkeeperError):
    """The name fits guests of several backends; `backend/name` says which."""


class WrongState(InnkeeperError):
    """The guest is not in a state in which that can be done."""


class Unsupported(InnkeeperError):
    """The backend, the kernel or this guest cannot do it at all."""


class PermissionDenied(InnkeeperError):
    """The system refuses it to this user."""


class LoginNeeded(PermissionDenied):
    """A registry wants a user and a password, or does not take those that it got."""

    def __init__(self, message: str, *, registry: str, hint: str = "") -> None:
        super().__init__(message, hint=hint or f"inn login {registry}")
        self.registry = registry


class Busy(InnkeeperError):
    """Another operation holds what is needed."""


class TimedOut(InnkeeperError):
    """It did not happen within the time given."""


class BackendUnavailable(InnkeeperError):
    """The backend cannot be reached or is not installed."""


class Damaged(InnkeeperError):
    """A file that is kept of a guest is there, and is not what it should be."""


class Cancelled(InnkeeperError):
    """It was given up because the user asked for that; nothing half made is left."""


class StartFailed(InnkeeperError):
    """A container did not come up: 125 for the runtime, 126 not executable, 127 not found."""

    def __init__(self, message: str, *, exit_code: int = 125, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def os_error_text(error: OSError) -> str:
    """Return what the system said and of which file: "No space left on device: /var/lib/innkeeper/names/web"."""
    said = error.strerror or str(error) or type(error).__name__
    return f"{said}: {error.filename}" if error.filename else said


class KernelRefused(InnkeeperError):
    """A system call or a write to a kernel file failed."""

    def __init__(self, what: str, error: OSError, *, hint: str = "") -> None:
        super().__init__(f"cannot {what}: {error.strerror or error}", hint=hint)
        self.errno = error.errno
