"""A container's own terminal as one descriptor: its log comes out, what goes in becomes its input."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Protocol

from backends.base import Backend
from backends.capabilities import Attaching, Logging
from backends.errors import InnkeeperError, Unsupported
from backends.model import GuestRef
from backends.sessions import AttachSession

TAIL = 20
"""Lines of the past that are shown again: a prompt without a newline is among them."""


class Attachable(Attaching, Logging, Protocol):
    """What one can be attached to."""


class AttachedTerminal:
    """Looks like the session of a program with a terminal. Closing it detaches; the container goes on."""

    def __init__(self, backend: Attachable, ref: GuestRef, size: tuple[int, int]) -> None:
        """Attach; blocks. Raises InnkeeperErrors."""
        self._input: AttachSession = backend.attach(ref, size=size)
        self._ours, self._theirs = socket.socketpair()
        self.terminal_fd: int | None = self._ours.fileno()
        self._is_over = threading.Event()
        for copy in (self._copy_output, self._copy_input):
            threading.Thread(target=copy, args=(backend, ref), name=f"attach {ref.backend}", daemon=True).start()

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size."""
        with contextlib.suppress(InnkeeperError, OSError):  # it has just ended
            self._input.resize(rows, columns)

    def wait(self) -> int:
        """Block until the container ends or one detaches."""
        self._is_over.wait()
        return 0

    def close(self) -> None:
        """Detach."""
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        self._input.close()
        self._ours.close()

    def _copy_output(self, backend: Attachable, ref: GuestRef) -> None:
        with contextlib.suppress(InnkeeperError, OSError):  # either means that it is over
            for piece in backend.logs(ref, follow=True, tail=TAIL, stop=self._is_over.is_set):
                self._theirs.sendall(piece.data)
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_WR)  # the reader of our end sees the end of the file

    def _copy_input(self, backend: Attachable, ref: GuestRef) -> None:
        with contextlib.suppress(InnkeeperError, OSError):
            while data := self._theirs.recv(65536):
                self._input.write(data)


def why_not_attached(backend: Backend, ref: GuestRef) -> str | None:
    """None if the guest has a terminal of its own; blocks."""
    config = backend.inspect(ref).get("config")
    process = config.get("process") if isinstance(config, dict) else None
    has_terminal = isinstance(process, dict) and process.get("terminal") is True
    return None if has_terminal else "it was not run with a terminal (-t); e opens a shell"


def open_attached(backend: Backend, ref: GuestRef, size: tuple[int, int]) -> AttachedTerminal:
    """Attach to a guest's own terminal; blocks. Raises InnkeeperErrors."""
    if not isinstance(backend, Attaching) or not isinstance(backend, Logging):
        raise Unsupported(f"{backend.title} cannot attach to its guests")
    return AttachedTerminal(backend, ref, size)
