"""clone3(2) for Python: a fork whose child is in new namespaces, or in a control group, from its first moment."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable
from functools import cache

_NR_CLONE3 = 435
CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x200000000
UNAVAILABLE = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP})
"""clone3 is missing or filtered, or we may not do all of it at once: slower ways are left."""


@cache
def prepare() -> tuple[Callable[..., int], Callable[[], None], Callable[[], None], Callable[[], None]]:
    """Look up syscall(2), and what Python does around a fork; early, for it takes as long as the fork itself."""
    # PyDLL keeps the interpreter's lock: it must not change hands in between, for the child has this thread only.
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    python = ctypes.pythonapi
    return libc.syscall, python.PyOS_BeforeFork, python.PyOS_AfterFork_Parent, python.PyOS_AfterFork_Child


def clone(flags: int, group: int = -1) -> int:
    """Like os.fork(), with CLONE_NEW… flags, the child born in the v2 group that is open as `group`. Raises OSError.

    Only for a process of one thread. The child keeps the C library's idea of its parent's thread id, which matters
    to raise(3) and to nothing that Python does before execve(2).
    """
    syscall, before, in_parent, in_child = prepare()
    if group >= 0:
        flags |= _CLONE_INTO_CGROUP
    ends_with = 0 if flags & CLONE_PARENT else signal.SIGCHLD  # a sibling ends with the signal that we end with
    fields = (flags, 0, 0, 0, ends_with, 0, 0, 0, 0, 0, max(group, 0))
    arguments = ctypes.create_string_buffer(struct.pack("11Q", *fields), 88)
    size = ctypes.c_size_t(len(arguments))
    before()
    pid = int(syscall(_NR_CLONE3, arguments, size))
    if pid == 0:
        in_child()
        return 0
    number = ctypes.get_errno()
    in_parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid
