"""A guest's serial console as a pseudo-terminal.

::

    the caller ── terminal_fd (pty master) ══ pty slave, raw ── console thread ── stream ── libvirtd ── guest

The stream has a connection of its own and never blocks: a blocking recv() would hold up every other call on
its connection until the next keepalive.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import tty
import weakref
from contextlib import suppress

from backends.errors import InnkeeperError
from backends.libvirt import api
from backends.libvirt.api import Connection, Stream
from backends.libvirt.link import Link

_OPEN_TIMEOUT_S = 10.0
_CALL_TIMEOUT_S = 5.0
_CHUNK_BYTES = 4096
_HIGH_WATER_BYTES = 262_144
"""When this much waits for a caller who does not read, the guest's output is left with libvirt."""


class ConsoleSession:
    """An open console: an ExecSession. close() it."""

    def __init__(self, uri: str, uuid: str, name: str) -> None:
        master, self._slave = os.openpty()
        self.terminal_fd: int | None = master
        tty.setraw(self._slave)
        os.set_blocking(self._slave, False)
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._out = bytearray()
        self._readable = threading.Event()
        self._ended = threading.Event()
        self._link = Link(uri, "console")
        self._stream: Stream | None = None
        try:
            self._stream = self._link.call(
                f"open the console of {name}", lambda connection: self._open(connection, uuid), _OPEN_TIMEOUT_S
            )
        except InnkeeperError:
            self._link.close()
            self._close_files()
            raise
        self._thread = threading.Thread(target=self._bridge, name="libvirt-console", daemon=True)
        self._thread.start()

    def _open(self, connection: Connection, uuid: str) -> Stream:
        stream = connection.newStream(api.STREAM_NONBLOCK)
        connection.lookupByUUIDString(uuid).openConsole(None, stream, 0)
        events = api.STREAM_READABLE | api.STREAM_ERROR | api.STREAM_HANGUP
        stream.eventAddCallback(events, _deliver, weakref.ref(self))
        return stream

    # ── from the guest: libvirt's event thread ──────────────────────────────────────────────────────

    def on_event(self, stream: Stream, events: int) -> None:
        """Take what the guest printed."""
        try:
            while events & api.STREAM_READABLE:
                data = stream.recv(_CHUNK_BYTES)
                if not isinstance(data, bytes):
                    break  # -2: no more for now
                if not data:
                    self._ended.set()
                    break
                with self._lock:
                    self._out += data
                    if len(self._out) > _HIGH_WATER_BYTES:
                        stream.eventUpdateCallback(api.STREAM_ERROR | api.STREAM_HANGUP)
                        break
            if events & (api.STREAM_ERROR | api.STREAM_HANGUP):
                self._ended.set()
        except api.load().libvirtError:
            self._ended.set()  # the guest ended, or somebody took the console over
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):
            os.write(self._wake_in, b".")

    # ── both ways: the console thread ───────────────────────────────────────────────────────────────

    def _bridge(self) -> None:
        waiting = b""
        while True:
            with self._lock:
                has_output = bool(self._out)
            if self._ended.is_set() and not has_output:
                break
            events = (0 if waiting else select.POLLIN) | (select.POLLOUT if has_output else 0)
            ready = self._poll(events, 20 if waiting else 1000)
            if ready & select.POLLHUP and not ready & select.POLLIN:
                break  # the caller closed the terminal
            if ready & select.POLLOUT:
                self._write_out()
            if ready & select.POLLIN:
                waiting = self._read_in()
            if waiting:
                waiting = self._send(waiting)
        self._ended.set()
        self._end_stream()
        # The caller's read on the master ends when the last slave is closed.
        slave, self._slave = self._slave, -1
        if slave >= 0:
            os.close(slave)

    def _poll(self, events: int, timeout_ms: int) -> int:
        poll = select.poll()
        poll.register(self._slave, events)
        poll.register(self._wake_out, select.POLLIN)
        found = dict(poll.poll(timeout_ms))
        if self._wake_out in found:
            with suppress(BlockingIOError):
                os.read(self._wake_out, 4096)
        return found.get(self._slave, 0)

    def _write_out(self) -> None:
        with self._lock:
            was_high = len(self._out) > _HIGH_WATER_BYTES
            with suppress(OSError):
                del self._out[: os.write(self._slave, self._out[:_CHUNK_BYTES])]
            is_low = len(self._out) <= _HIGH_WATER_BYTES // 2
            stream = self._stream
        if (was_high or self._readable.is_set()) and is_low and stream is not None:
            with suppress(api.load().libvirtError):
                stream.eventUpdateCallback(api.STREAM_READABLE | api.STREAM_ERROR | api.STREAM_HANGUP)
            self._readable.clear()
        elif was_high:
            self._readable.set()

    def _read_in(self) -> bytes:
        try:
            return os.read(self._slave, _CHUNK_BYTES)
        except OSError:
            return b""

    def _send(self, data: bytes) -> bytes:
        """Send what the guest takes now; return the rest."""
        stream = self._stream
        if stream is None:
            return b""
        try:
            sent = stream.send(data)
        except api.load().libvirtError:
            self._ended.set()
            return b""
        return data if sent < 0 else data[sent:]

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return

        def end(_connection: Connection) -> None:
            for act in (stream.eventRemoveCallback, stream.abort):
                with suppress(api.load().libvirtError):
                    act()
            _free(stream)

        with suppress(InnkeeperError):
            self._link.call("close the console", end, _CALL_TIMEOUT_S)
        self._link.close()

    # ── ExecSession ─────────────────────────────────────────────────────────────────────────────────

    def resize(self, rows: int, columns: int) -> None:
        """Note the size on this side; a serial line cannot tell the guest, there `stty rows` does."""
        if self.terminal_fd is not None:
            fcntl.ioctl(self.terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self) -> int:
        """Block until the console ends: the guest is off, or the session was closed."""
        self._ended.wait()
        return 0

    def close(self) -> None:
        """Let go of the console; the guest goes on."""
        self._ended.set()
        with self._lock:
            self._out.clear()
        self._wake()
        self._thread.join(_CALL_TIMEOUT_S + 3.0)
        self._close_files()

    def _close_files(self) -> None:
        fds = [self.terminal_fd, self._slave, self._wake_out, self._wake_in]
        self.terminal_fd, self._slave, self._wake_out, self._wake_in = None, -1, -1, -1
        for fd in fds:
            if fd is not None and fd >= 0:
                with suppress(OSError):
                    os.close(fd)


def _deliver(stream: Stream, events: int, session: weakref.ref[ConsoleSession]) -> None:
    found = session()
    if found is not None:
        found.on_event(stream, events)


def _free(stream: Stream) -> None:
    """Free libvirt's stream now.

    The binding keeps a reference to a stream that ever had a callback for good (seen in 12.8), and so its
    connection and two descriptors; its finaliser does the freeing and may be called by hand.
    """
    vars(stream).pop("cb", None)
    stream.__del__()
