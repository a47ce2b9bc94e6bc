"""What /proc tells of processes, links and the host (Documentation/filesystems/proc.rst, proc(5))."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from backends.model import GuestProcess

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that are used here."""

    pid: int
    command: str
    """The program's name, at most 15 bytes. Other people's text."""

    state: str
    ppid: int
    cpu_time_s: float
    threads: int
    start_ticks: int
    """Clock ticks after boot (field 22). Pid and start time together name a process for good."""

    rss_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The fields of /proc/PID/status that are used here."""

    uid: int
    """Effective."""

    ns_pids: tuple[int, ...]
    """Its pid in each pid namespace from the reader's to its own (NSpid); empty on kernels without it."""


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot; None if there is none of that pid."""
    found = process_stat(pid)
    return found.start_ticks if found else None


def is_same_process(pid: int, ticks: int) -> bool:
    """True if the process that had this pid and start time lives on, or is a zombie."""
    return start_ticks(pid) == ticks


def process_stat(pid: int) -> ProcessStat | None:
    """Return /proc/PID/stat; None if the process has gone."""
    text = _read(f"/proc/{pid}/stat")
    return parse_stat(text) if text else None


def parse_stat(text: str) -> ProcessStat:
    """Parse a line of /proc/PID/stat. The name is in brackets and may hold brackets, blanks and newlines."""
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    return ProcessStat(
        pid=int(text[:opening]),
        command=text[opening + 1 : closing],
        state=fields[0],
        ppid=int(fields[1]),
        cpu_time_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def process_status(pid: int) -> ProcessStatus | None:
    """Return /proc/PID/status; None if the process has gone."""
    text = _read(f"/proc/{pid}/status")
    return parse_status(text) if text else None


def parse_status(text: str) -> ProcessStatus:
    """Parse /proc/PID/status."""
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    uids = lines.get("Uid", "").split()
    return ProcessStatus(
        uid=int(uids[1]) if len(uids) > 1 else -1,
        ns_pids=tuple(int(word) for word in lines.get("NSpid", "").split()),
    )


def command_line(pid: int) -> str:
    """Return a process's arguments, joined by blanks; empty for kernel threads and for what has gone."""
    return _read(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")


def guest_processes(pids: Iterable[int]) -> list[GuestProcess]:
    """Return what /proc tells of these processes, as of the guest they are in; those that have gone are left out."""
    found = []
    for pid in pids:
        stat, status = process_stat(pid), process_status(pid)
        if stat is not None and status is not None:
            found.append(_guest_process(pid, stat, status))
    return found


def _guest_process(pid: int, stat: ProcessStat, status: ProcessStatus) -> GuestProcess:
    return GuestProcess(
        pid=pid,
        guest_pid=status.ns_pids[-1] if status.ns_pids else None,
        user=_user(status.uid),
        command=command_line(pid) or f"[{stat.command}]",
        state=stat.state,
        cpu_time_s=stat.cpu_time_s,
        rss_bytes=stat.rss_bytes,
        threads=stat.threads,
    )


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the memory that processes take, what they share with others in proportion (/proc/PID/smaps_rollup).

    One that has gone counts nothing. Raises PermissionError.
    """
    total = 0
    for pid in pids:
        try:
            lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return a name for this run of the kernel; it changes with every boot."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


class LinkCounters:
    """Byte counters of all links of this process's network namespace, in one read. Owns a file descriptor."""

    def __init__(self, path: str = "/proc/self/net/dev") -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> dict[str, tuple[int, int]]:
        """Return link → (bytes received, bytes sent), seen from this end of it. Raises OSError."""
        return parse_net_dev(_pread_all(self._fd))

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def parse_net_dev(raw: bytes) -> dict[str, tuple[int, int]]:
    """Parse /proc/net/dev: two lines of heading, then "name: rx_bytes … tx_bytes …"."""
    found = {}
    for line in raw.splitlines()[2:]:
        # Names may hold a colon (old alias devices), numbers do not.
        name, separator, rest = line.rpartition(b":")
        words = rest.split()
        if separator and len(words) >= 9:
            found[name.strip().decode("utf-8", "surrogateescape")] = (int(words[0]), int(words[8]))
    return found


def _pread_all(fd: int) -> bytes:
    raw = os.pread(fd, _READ_BYTES, 0)
    # The kernel hands out whole lines, a page or so at a time: a short read is not yet the end.
    while part := os.pread(fd, _READ_BYTES, len(raw)):
        raw += part
    return raw


def _read(path: str) -> str:
    """Return a file's text; empty if it is gone or may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _pread_all(fd).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
