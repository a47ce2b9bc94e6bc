"""What clients ask of a container's supervisor, over its socket."""

from __future__ import annotations

import functools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.errors import InnkeeperError, WrongState
from backends.kernel import linux
from backends.model import GuestState
from backends.native import protocol
from backends.native.restart import HOST, USER

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_LONGEST_S = 10.0 * 365 * 86_400


class Requests:
    """The clients of one supervisor, and the answers they get."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._waiting: list[socket.socket] = []
        self._followers: list[socket.socket] = []
        """Those who asked for the start and stay to the end."""

        self._tied: socket.socket | None = None
        """The client with whose connection the container ends."""

    def listen(self, path: Path) -> None:
        """Take requests from now on. Raises OSError."""
        self._listener = protocol.listen(path)
        self._listener.setblocking(False)
        self._owner.selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def follow(self, client: socket.socket) -> None:
        """Tell the one who asked for the start of the end too; its connection ends when all is done."""
        client.setblocking(False)
        self._owner.selector.register(client, selectors.EVENT_READ, lambda: self._serve(client))
        self._waiting.append(client)
        self._followers.append(client)

    def see_off(self) -> None:
        """Wait until those who follow have read the log and said so, or are gone."""
        for client in self._followers:
            client.setblocking(True)
            with suppress(OSError):
                client.recv(64)

    def let_followers_go(self) -> None:
        """End their connections: all that they wait for is done."""
        for client in self._followers:
            client.close()
        self._followers = []

    def tell_of_end(self, exit_code: int) -> None:
        """Tell all who wait for the end."""
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            with suppress(protocol.Closed, OSError):
                protocol.send(client, {"exit_code": exit_code})

    def refuse(self, client: socket.socket, error: InnkeeperError) -> None:
        """Answer a request with an error."""
        with suppress(protocol.Closed, OSError):
            protocol.send(client, {**protocol.error_message(error), "exit_code": error.exit_code})

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone already, or we are out of descriptors
            return
        if not protocol.peer_is_trusted(client):
            client.close()
            return
        client.setblocking(False)
        self._owner.selector.register(client, selectors.EVENT_READ, lambda: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            data, fds = protocol.receive_raw(client)
        except BlockingIOError:
            return
        except (protocol.Closed, OSError):
            self._drop(client)
            return
        try:
            if data[:1] in (b"D", b"E"):
                self._take_input(client, data)
            else:
                self._answer(client, protocol.decode(data), fds)
        except ValueError:
            self._drop(client)
        except InnkeeperError as error:
            self.refuse(client, error)
        except (OSError, protocol.Closed) as error:
            self.refuse(client, InnkeeperError(getattr(error, "strerror", "") or str(error)))
        finally:
            for fd in fds:
                os.close(fd)

    def _take_input(self, client: socket.socket, data: bytes) -> None:
        if self._owner.input is None:
            return
        if data[:1] == b"E":
            self._owner.input.end()
        else:
            self._owner.input.feed(data[1:], client, lambda: self._serve(client))

    def _answer(self, client: socket.socket, message: Mapping[str, Any], fds: list[int]) -> None:
        answers: dict[str, Callable[[], Mapping[str, Any] | None]] = {
            "ping": lambda: {"pid": self._owner.init_pid},
            "kill": lambda: self._signal(int(message["signal"])),
            "stop": lambda: self._stop(client, message),
            "start": lambda: self._start(client),
            "policy": lambda: self._reconsider(),
            "clear_log": lambda: self._clear_log(),
            "ending": lambda: self._is_ending(str(message["note"])),
            "detach": lambda: self._detach(client, fds),
            "pause": lambda: self._pause(client, hold=bool(message.get("hold"))),
            "resume": lambda: self._resume(client),
            "wait": lambda: self._waiting.append(client),
            "tie": lambda: self._tie(client),
            "attach": lambda: self._attach(),
            "resize": lambda: self._resize(int(message["rows"]), int(message["columns"])),
            "exec": lambda: self._owner.sessions.start(client, message, fds),
        }
        try:
            answer = answers.get(str(message.get("op")), self._unknown)()
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise InnkeeperError(f"malformed request: {error}") from error
        if answer is not None:
            protocol.send(client, {"ok": True, **answer})

    def _unknown(self) -> None:
        raise InnkeeperError("unknown request")

    def _drop(self, client: socket.socket) -> None:
        with suppress(KeyError, ValueError):
            self._owner.selector.unregister(client)
        if client in self._waiting:
            self._waiting.remove(client)
        if client in self._followers:
            self._followers.remove(client)
        self._owner.freezer.forget(client)
        if client is self._tied and self._owner.exit_code is None:
            self._owner.kill_at_s = time.monotonic()
        if self._owner.input is not None:
            self._owner.input.forget(client)
        self._owner.sessions.forget(client)
        client.close()

    def _signal(self, number: int) -> dict[str, Any]:
        self._owner.restarts.ends_by_signal(number, self._owner.record.stop_signal)
        if self._owner.exit_code is None:
            if number == signal.SIGKILL and (self._owner.freezer.is_freezing or self._owner.group.is_frozen()):
                self._owner.freezer.give_up("it was killed")
                self._owner.kill_at_s = time.monotonic()
            else:
                os.kill(self._owner.init_pid, number)
            self._owner.tell("kill", signal=number)
        return {}

    def _stop(self, client: socket.socket, message: Mapping[str, Any]) -> None:
        number, timeout_s = int(message["signal"]), float(message["timeout_s"])
        kill_at_s = time.monotonic() + min(max(0.0, timeout_s), _LONGEST_S)
        self._owner.restarts.end(HOST if message.get("by") == HOST else USER)
        if self._owner.exit_code is None:
            if self._owner.freezer.is_freezing or self._owner.group.is_frozen():
                self._owner.freezer.give_up("it was told to stop")
                self._owner.group.set_frozen(False)
            os.kill(self._owner.init_pid, number)
            self._owner.kill_at_s = kill_at_s
            self._owner.standing.is_now(GuestState.STOPPING)
            self._owner.tell("stop")
        self._waiting.append(client)

    def _start(self, client: socket.socket) -> None:
        if self._owner.exit_code is None:
            raise WrongState(f"{self._owner.record.name} is running already")
        self._owner.restarts.hurry(client)

    def _reconsider(self) -> dict[str, Any]:
        if self._owner.exit_code is not None:
            self._owner.restarts.reconsider()
        return {}

    def _clear_log(self) -> dict[str, Any]:
        if self._owner.log is not None:
            self._owner.log.clear()
        return {}

    def _detach(self, client: socket.socket, fds: list[int]) -> None:
        """The client goes, its program stays: the terminal it had is ours from now on, and read into nothing."""
        self._owner.sessions.detach(client)
        for given in fds:
            fd = os.dup(given)
            os.set_blocking(fd, False)
            self._owner.selector.register(fd, selectors.EVENT_READ, functools.partial(self._read_away, fd))

    def _read_away(self, fd: int) -> None:
        try:
            if os.read(fd, 65536):
                return
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody holds the other end any more
            pass
        self._owner.selector.unregister(fd)
        os.close(fd)

    def _is_ending(self, note: str) -> dict[str, Any]:
        self._owner.restarts.is_ending(note)
        return {}

    def _tie(self, client: socket.socket) -> dict[str, Any]:
        """Kill it when the client's connection ends, however it ends."""
        self._tied = client
        return {}

    def _require_program(self) -> None:
        if self._owner.exit_code is not None:
            raise WrongState(f"{self._owner.record.name} has ended, and is not started again yet")

    def _pause(self, client: socket.socket, *, hold: bool) -> None:
        """Freeze it; with hold only until the client says resume or its connection ends, however it ends."""
        self._require_program()
        self._owner.freezer.freeze(client, hold=hold)

    def _resume(self, client: socket.socket) -> None:
        self._require_program()
        self._owner.freezer.thaw(client)

    def _attach(self) -> dict[str, Any]:
        if self._owner.input is None:
            raise InnkeeperError("its standard input is not open", hint="run it with -i")
        return {"terminal": self._owner.input.is_terminal}

    def _resize(self, rows: int, columns: int) -> dict[str, Any]:
        if self._owner.terminal_fd is not None:
            if not (0 <= rows < 65536 and 0 <= columns < 65536):
                raise InnkeeperError(f"{rows} x {columns} is no size of a terminal")
            linux.set_window_size(self._owner.terminal_fd, rows, columns)
        return {}
