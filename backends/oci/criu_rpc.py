"""Speaking with `criu swrk`: requests and answers in protocol buffers (criu's rpc.proto), one per packet.

Only so can its caller take a terminal's master over, or do something between CRIU's phases.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from backends.kernel import linux

Value = int | str | bytes | Sequence["tuple[int, Value]"]
Message = Sequence[tuple[int, Value]]
"""Numbers of fields, and what is in them; a message may be in one, and a field may come more than once."""

Fields = dict[int, list[int | bytes]]

DUMP, RESTORE, PRE_DUMP, NOTIFY = 1, 2, 4, 6
SOCKET_FD = 3
"""What CRIU finds the socket at; further descriptors follow it."""

_MAX_ANSWER = 64 * 1024


class CriuFailed(Exception):
    """CRIU ended without success; its log says why."""


class Option:
    """Numbers of fields of criu_opts."""

    # The descriptors of the two folders are the caller's own, those to inherit are CRIU's.
    IMAGES_DIR_FD, PID, LEAVE_RUNNING, EXT_UNIX_SK, TCP_ESTABLISHED, EVASIVE_DEVICES = range(1, 7)
    SHELL_JOB, FILE_LOCKS = 7, 8
    LOG_LEVEL, LOG_FILE, PAGE_SERVER, NOTIFY_SCRIPTS, ROOT, PARENT_IMG, TRACK_MEM, AUTO_DEDUP = range(9, 17)
    WORK_DIR_FD, LINK_REMAP = 17, 18
    EXT_MNT, MANAGE_CGROUPS, CG_ROOT, RST_SIBLING, INHERIT_FD = range(23, 28)
    MANAGE_CGROUPS_MODE, EXTERNAL, EMPTY_NS, JOIN_NS, FREEZE_CGROUP = 34, 37, 38, 39, 44
    TCP_SKIP_IN_FLIGHT, LAZY_PAGES, ORPHAN_PTS_MASTER, CONFIG_FILE = 46, 48, 50, 51
    LSM_PROFILE, LSM_MOUNT_CONTEXT = 53, 63


def encode(message: Message) -> bytes:
    """Return a message as bytes."""
    found = bytearray()
    for number, value in message:
        if isinstance(value, int):
            found += _varint(number << 3) + _varint(int(value))
            continue
        data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
        found += _varint(number << 3 | 2) + _varint(len(data)) + data
    return bytes(found)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def decode(data: bytes) -> Fields:
    """Return what is in a message, by field. Raises ValueError for what is none."""
    found: Fields = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            number, at = _read_varint(data, at)
            found.setdefault(key >> 3, []).append(number)
        elif key & 7 == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise ValueError("a field ends behind its message")
            found.setdefault(key >> 3, []).append(data[at : at + size])
            at += size
        else:
            raise ValueError(f"a field of type {key & 7}")
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        if at + place >= len(data):
            break
        number |= (data[at + place] & 0x7F) << 7 * place
        if not data[at + place] & 0x80:
            return number, at + place + 1
    raise ValueError("a number without an end")


def _number(fields: Fields, field: int) -> int:
    value = fields.get(field, [0])[0]
    return value if isinstance(value, int) else 0


class Worker:
    """One `criu swrk`."""

    def __init__(self, program: str, stdio: Sequence[int], fds: Iterable[int], prepare: Callable[[], None]) -> None:
        """Fork it with these descriptors as 0, 1, 2 and from 4 on; `prepare` runs there first. Raises CriuFailed."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        failed, failing = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            _become(program, [*stdio, theirs.fileno(), *fds], failing, prepare)
        os.close(failing)
        theirs.close()
        with open(failed, "rb") as reading:
            text = reading.read().decode("utf-8", "replace")
        if text:
            self.close()
            raise CriuFailed(text)

    def call(self, kind: int, options: Message, notify: Callable[[str, int, list[int]], None]) -> int:
        """Ask for something, answer what CRIU wants to know meanwhile; return the restored process's pid, or 0.

        notify is told CRIU's word for where it is, a pid, and descriptors, which are its to close. Raises CriuFailed.
        """
        self._send([(1, kind), (2, options)])
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, _MAX_ANSWER, 4, socket.MSG_CMSG_CLOEXEC)
                answer = decode(data)
            except (OSError, ValueError) as error:
                raise CriuFailed(f"it says what nobody understands: {error}") from error
            if not data:
                raise CriuFailed("it has ended")
            if not _number(answer, 2):
                raise CriuFailed(_bytes(answer, 9).decode("utf-8", "replace") or f"errno {_number(answer, 7)}")
            if _number(answer, 1) != NOTIFY:
                return _number(decode(_bytes(answer, 4)), 1)
            told = decode(_bytes(answer, 5))
            notify(_bytes(told, 1).decode(), _number(told, 2), fds)
            self._send([(1, NOTIFY), (3, 1)])

    def _send(self, message: Message) -> None:
        try:
            self._socket.send(encode(message), socket.MSG_NOSIGNAL)
        except OSError as error:
            raise CriuFailed("it has ended") from error

    def close(self) -> int:
        """Hang up, and return its exit code once it has ended."""
        self._socket.close()
        with suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 0


def _bytes(fields: Fields, field: int) -> bytes:
    value = fields.get(field, [b""])[0]
    return value if isinstance(value, bytes) else b""


def _become(program: str, fds: Sequence[int], failing: int, prepare: Callable[[], None]) -> None:
    """Run in the fork: become CRIU. Never returns."""
    import fcntl

    try:
        prepare()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
        failing = fcntl.fcntl(failing, fcntl.F_DUPFD_CLOEXEC, 200)
        for number, fd in enumerate(high):
            os.dup2(fd, number)
        linux.close_range_cloexec(len(high))
        os.execve(program, [program, "swrk", str(SOCKET_FD)], _environment())
    except Exception as error:  # the end of a forked process
        os.write(failing, str(error).encode())
    finally:
        os._exit(125)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath)}
