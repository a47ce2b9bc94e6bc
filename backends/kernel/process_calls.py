"""System calls about one process that Python 3.11 lacks: limits, scheduling, personality, filters.

As in linux.py: no policy, the kernel's errno as OSError, flags by the names of the manual pages.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from ctypes import c_int, c_long, c_uint, c_ulong

from backends.kernel.linux import MACHINE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = c_long

_PER_MACHINE = {
    "x86_64": {"ioprio_set": 251, "prlimit64": 302, "sched_setattr": 314, "seccomp": 317, "set_mempolicy": 238},
    "aarch64": {"ioprio_set": 30, "prlimit64": 261, "sched_setattr": 274, "seccomp": 277, "set_mempolicy": 237},
}

RLIM_INFINITY = 2**64 - 1
SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL = 1, 2
SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_FILTER_FLAG_NEW_LISTENER = 2, 4, 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32
IOPRIO_WHO_PROCESS = 1
PER_LINUX, PER_LINUX32 = 0, 8


def _call(name: str, *arguments: object) -> int:
    try:
        number = _PER_MACHINE[MACHINE][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: number of the call not known on {MACHINE}") from None
    result = int(_libc.syscall(c_long(number), *arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prlimit(pid: int, resource: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the (soft, hard) limits that a process had (0: this one), and set new ones if given (prlimit(2))."""
    new = struct.pack("QQ", *limits) if limits is not None else None
    old = ctypes.create_string_buffer(16)
    _call("prlimit64", c_int(pid), c_uint(resource), new, old)
    soft, hard = struct.unpack("QQ", old.raw)
    return soft, hard


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime_ns: int, deadline_ns: int, period_ns: int
) -> None:
    """sched_setattr(2) of this thread."""
    attributes = struct.pack("IIQiIQQQ", 48, policy, flags, nice, priority, runtime_ns, deadline_ns, period_ns)
    _call("sched_setattr", c_int(0), attributes, c_uint(0))


def ioprio_set(which: int, who: int, priority: int) -> None:
    """ioprio_set(2)."""
    _call("ioprio_set", c_int(which), c_int(who), c_int(priority))


def set_mempolicy(mode: int, nodes: int, count: int) -> None:
    """set_mempolicy(2); nodes is a bit mask, count how many bits of it there are."""
    words = max(1, -(-count // 64))
    mask = (c_ulong * words)(*(nodes >> 64 * word & (2**64 - 1) for word in range(words)))
    # The kernel takes one bit less than it is told of.
    _call("set_mempolicy", c_int(mode), ctypes.byref(mask) if count else None, c_ulong(count + 1 if count else 0))


def personality(persona: int) -> int:
    """personality(2); returns the one before."""
    before = int(_libc.personality(c_ulong(persona)))
    if before == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return before


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def seccomp_set_mode_filter(program: bytes, flags: int) -> int:
    """seccomp(2): install a BPF program; returns the listener's descriptor with FLAG_NEW_LISTENER, else 0."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.addressof(buffer))
    return _call("seccomp", c_uint(SECCOMP_SET_MODE_FILTER), c_uint(flags), ctypes.byref(fprog))


def seccomp_has_action(action: int) -> bool:
    """Say whether the kernel knows a filter's answer."""
    value = ctypes.c_uint32(action)
    try:
        _call("seccomp", c_uint(SECCOMP_GET_ACTION_AVAIL), c_uint(0), ctypes.byref(value))
    except OSError:
        return False
    return True


def seccomp_has_flag(flag: int) -> bool:
    """Say whether the kernel knows a flag: with a bad pointer it answers EFAULT for one, EINVAL for none."""
    try:
        _call("seccomp", c_uint(SECCOMP_SET_MODE_FILTER), c_uint(flag), None)
    except OSError as error:
        return error.errno == errno.EFAULT
    return True
