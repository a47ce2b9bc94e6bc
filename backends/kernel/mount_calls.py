"""The kernel's newer mount calls: a mount is made and configured by descriptor first, and attached last.

Between making and attaching nothing is looked up by name, so no one can exchange a path meanwhile; the mount's
own descriptor also serves later, where mount(2) would have to find the mount again by its path. See
open_tree(2), move_mount(2), fsopen(2), mount_setattr(2). Linux 5.12. Everything raises OSError.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME = 0, 0x10, 0x20, 0x70
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000

_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MESSAGE_BYTES = 1024


def _call(*argument_types: Any) -> Any:
    """Return syscall(2) with fixed argument types, which spares a conversion object for each number."""
    function = _libc["syscall"]
    function.argtypes = (c_long, *argument_types)
    function.restype = c_long
    return function


# The numbers are the same on every architecture (asm-generic/unistd.h).
_open_tree = _call(c_int, c_char_p, c_uint)
_move_mount = _call(c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = _call(c_char_p, c_uint)
_fsconfig = _call(c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = _call(c_int, c_uint, c_uint)
_mount_setattr = _call(c_int, c_char_p, c_uint, c_void_p, c_size_t)


def _check(result: int, name: str = "") -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *([name] if name else []))
    return result


def open_tree(path: str, *, clone: bool = True, recursive: bool = False) -> int:
    """Return a descriptor of a copy of the mount at path, attached nowhere; closing it drops what was not attached.

    recursive takes the mounts below it too. Without clone the descriptor is only a handle of the path.
    """
    flags = OPEN_TREE_CLOEXEC | (OPEN_TREE_CLONE if clone else 0) | (AT_RECURSIVE if recursive else 0)
    return _check(_open_tree(428, AT_FDCWD, path.encode(), flags), path)


def copy_of(fd: int, *, recursive: bool = False) -> int:
    """Return the same for what a descriptor refers to."""
    flags = OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return _check(_open_tree(428, fd, b"", flags))


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach a mount on what target_fd refers to; mount_fd then refers to it there (move_mount(2))."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _check(_move_mount(429, mount_fd, b"", target_fd, b"", flags))


def new_filesystem(fstype: str, source: str, options: tuple[tuple[str, str | None], ...]) -> int:
    """Return a descriptor of a new mount of a file system, attached nowhere.

    options are (key, value), or (key, None) for a flag; a value has at most 255 bytes.
    """
    context = _check(_fsopen(430, fstype.encode(), _FSOPEN_CLOEXEC), fstype)
    try:
        for key, value in (("source", source or fstype), *options):
            if value is None:
                result = _fsconfig(431, context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)
            else:
                result = _fsconfig(431, context, _FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
            if result == -1:
                raise _explained(context, f"{key}={value}" if value is not None else key)
        if _fsconfig(431, context, _FSCONFIG_CMD_CREATE, None, None, 0) == -1:
            raise _explained(context, fstype)
        return _check(_fsmount(432, context, _FSMOUNT_CLOEXEC, 0), fstype)
    finally:
        os.close(context)


def _explained(context: int, name: str) -> OSError:
    """Return the error of the last call with the file system's own words, where it has some."""
    number = ctypes.get_errno()
    text = os.strerror(number)
    try:
        said = os.read(context, _MESSAGE_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        said = ""
    return OSError(number, f"{text} ({said[2:]})" if said[1:2] == " " else text, name)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def set_attributes(
    mount_fd: int, *, set: int = 0, clear: int = 0, propagation: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """Change MOUNT_ATTR_* and propagation (MS_SHARED …) of a mount, or of all below it too (mount_setattr(2)).

    mount_fd is what the other functions here return, or any descriptor of a mount's top folder or file.
    """
    if set & MOUNT_ATTR__ATIME:
        clear |= MOUNT_ATTR__ATIME  # the kernel wants the whole choice cleared first
    attributes = _MountAttr(set, clear, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(attributes)
    _check(_mount_setattr(442, mount_fd, b"", flags, ctypes.byref(attributes), size))
