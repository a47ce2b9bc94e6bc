"""One function per system call that Python 3.11 lacks. No policy, no names of ours.

Everything raises OSError with the kernel's errno. Flags keep the names of the manual pages.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import termios
from ctypes import c_char_p, c_int, c_long, c_ulong, c_void_p
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = c_long
_libc.mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_libc.umount2.argtypes = (c_char_p, c_int)
_libc.prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)

# The same on every architecture (asm-generic/unistd.h) …
_CLOSE_RANGE, _OPENAT2 = 436, 437
# … and those that differ.
MACHINE = os.uname().machine
"""As the process began: a container's personality may make uname(2) say another (LINUX32)."""

_PER_MACHINE = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "bpf": 321},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "bpf": 280},
}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_REMOUNT = 1, 2, 4, 8, 16, 32
MS_DIRSYNC, MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_MOVE = 128, 256, 1024, 2048, 4096, 8192
MS_REC, MS_SILENT, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 14, 1 << 15, 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP = 0x80, 0x20000, 0x2000000
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 4, 15, 22, 23, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
SECCOMP_MODE_FILTER = 2

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
CLOSE_RANGE_CLOEXEC = 4

IN_MODIFY, IN_CLOSE_WRITE, IN_DELETE_SELF = 0x2, 0x8, 0x400
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC

_BPF_PROG_LOAD, BPF_PROG_TYPE_SCHED_CLS = 5, 3
TIOCSPTLCK, TIOCGPTPEER = 0x40045431, 0x5441
KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SETPERM, KEYCTL_DESCRIBE = 1, 5, 6


def _check(result: int, *names: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *names[:1])
    return result


def _syscall(number: int, *arguments: object) -> int:
    return _check(_libc.syscall(c_long(number), *arguments))


def _number(name: str) -> int:
    try:
        return _PER_MACHINE[MACHINE][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: number of the call not known on {MACHINE}") from None


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    arguments = (source.encode(), target.encode(), fstype.encode(), flags, data.encode() or None)
    _check(_libc.mount(*arguments), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _syscall(_number("pivot_root"), c_char_p(new_root.encode()), c_char_p(put_old.encode()))


def syncfs(fd: int) -> None:
    """Write the file system that fd is on to its disk (syncfs(2))."""
    _check(_libc.syncfs(c_int(fd)))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(c_int(flags)))


def setns(fd: int, flags: int) -> None:
    """setns(2); fd is a namespace file or a pidfd (then flags may name several namespaces)."""
    _check(_libc.setns(c_int(fd), c_int(flags)))


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    _check(_libc.setdomainname(c_char_p(name.encode()), ctypes.c_size_t(len(name.encode()))))


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2)."""
    return _check(_libc.prctl(option, arg2, arg3, arg4, arg5))


def set_process_name(name: str) -> None:
    """Name this thread as ps -o comm shows it (15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


_HIGHEST_FD = 1 << 16
"""Of ours, by far: what is closed one by one ends here."""


def close_range_cloexec(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec (close_range(2))."""
    _syscall(_CLOSE_RANGE, c_ulong(first), c_ulong(0xFFFFFFFF), c_ulong(CLOSE_RANGE_CLOEXEC))


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close the descriptors from first to last (close_range(2)); one by one where a filter forbids the call."""
    try:
        _syscall(_CLOSE_RANGE, c_ulong(first), c_ulong(last), c_ulong(0))
    except OSError as error:
        if error.errno == errno.EBADF or first > last:
            raise
        os.closerange(first, min(last, _HIGHEST_FD) + 1)


def openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2); the caller closes the descriptor."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(_OPENAT2, c_int(dir_fd), c_char_p(path.encode()), c_char_p(how), c_ulong(len(how)))


PROC_SUPER_MAGIC = 0x9FA0
"""What filesystem_type says of procfs."""


def filesystem_type(fd: int) -> int:
    """Return the magic number of the file system that fd is on (fstatfs(2))."""
    found = (c_long * 32)()  # struct statfs has 120 bytes, f_type first
    _check(_libc.fstatfs(c_int(fd), ctypes.byref(found)))
    return int(found[0])


def keyctl_join_session_keyring(name: str) -> int:
    """Give this process the session keyring of that name, a new one if it may search none; return it (keyctl(2))."""
    return _syscall(_number("keyctl"), c_int(KEYCTL_JOIN_SESSION_KEYRING), c_char_p(name.encode()))


def keyctl_permissions(key: int) -> int:
    """Return who may do what with a key."""
    buffer = ctypes.create_string_buffer(1024)
    _syscall(_number("keyctl"), c_int(KEYCTL_DESCRIBE), c_int(key), buffer, c_ulong(len(buffer)))
    return int(buffer.value.split(b";")[3], 16)


def keyctl_set_permissions(key: int, permissions: int) -> None:
    """Set who may do what with a key."""
    _syscall(_number("keyctl"), c_int(KEYCTL_SETPERM), c_int(key), ctypes.c_uint(permissions))


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class CapabilitySets:
    """Three of the five sets, each a bit mask by capability number."""

    effective: int
    permitted: int
    inheritable: int


def capget() -> CapabilitySets:
    """Return the sets of this thread (capget(2))."""
    header, data = _CapHeader(_CAPABILITY_VERSION_3, 0), (_CapData * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    names = ("effective", "permitted", "inheritable")
    return CapabilitySets(*(getattr(data[0], name) | getattr(data[1], name) << 32 for name in names))


def capset(sets: CapabilitySets) -> None:
    """Set the sets of this thread (capset(2))."""
    header, data = _CapHeader(_CAPABILITY_VERSION_3, 0), (_CapData * 2)()
    for half in range(2):
        shift = 32 * half
        masks = (sets.effective, sets.permitted, sets.inheritable)
        data[half] = _CapData(*(mask >> shift & 0xFFFFFFFF for mask in masks))
    _check(_libc.capset(ctypes.byref(header), data))


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", c_void_p)]


def load_seccomp_filter(program: bytes) -> None:
    """Install a BPF program (struct sock_filter array) for this thread and its children (seccomp(2))."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(fprog))


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2) with a union bpf_attr given as bytes."""
    return bpf_in_place(command, ctypes.create_string_buffer(attributes, len(attributes)))


def bpf_in_place(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """bpf(2) with a union bpf_attr that the kernel answers in."""
    return _syscall(_number("bpf"), c_int(command), ctypes.byref(buffer), ctypes.c_uint(len(buffer)))


def load_program(kind: int, code: bytes) -> int:
    """Return a descriptor of a loaded BPF program of that BPF_PROG_TYPE (BPF_PROG_LOAD of bpf(2))."""
    buffer, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    head = struct.pack("IIQQ", kind, len(code) // 8, ctypes.addressof(buffer), ctypes.addressof(licence))
    return bpf(_BPF_PROG_LOAD, head.ljust(72, b"\0"))


def inotify_init() -> int:
    """inotify_init1(2), non-blocking; the caller closes the descriptor."""
    return _check(_libc.inotify_init1(c_int(IN_NONBLOCK | IN_CLOEXEC)))


def inotify_add_watch(fd: int, path: str | os.PathLike[str], mask: int) -> int:
    """inotify_add_watch(2)."""
    return _check(_libc.inotify_add_watch(c_int(fd), c_char_p(os.fsencode(path)), ctypes.c_uint32(mask)), str(path))


def open_pty_peer(master_fd: int) -> int:
    """Open the slave side of a pseudo-terminal by its master, never by a path (TIOCGPTPEER)."""
    fcntl.ioctl(master_fd, TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(master_fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
