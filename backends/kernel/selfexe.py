"""Running from a copy of the interpreter that nobody can write to (CVE-2019-5736).

A process that enters a container can be made to run its own binary again: the image's program is `/proc/self/exe`,
or a script that begins with `#!/proc/self/exe`. Then a process of the container has the host's Python open, and,
once that is no longer running, root of the container could write to it. So before any such process is forked, the
interpreter is replaced by the same one, seen through a read-only mount that is in no mount table, or, where we may
not mount, through a sealed copy in memory. All processes forked from it have that as their /proc/PID/exe.

The first interpreter loads no more than this file, so that the second costs little: 10 ms.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_EXE = "/proc/self/exe"
_MARK = "INNKEEPER_SEALED"
_LIBRARIES = "LD_LIBRARY_PATH"

_OPEN_TREE, _MOUNT_SETATTR = 428, 442
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _MOUNT_ATTR_RDONLY = 1, 0x1000, 1
_F_ADD_SEALS, _ALL_SEALS, _MFD_EXEC = 1033, 0xF, 0x10


def seal(arguments: Sequence[str] | None = None) -> None:
    """Replace this process by the same program, run from what nobody can write to; returns when it is that.

    To be called before anything is open or begun that an execve would lose. arguments are those of the
    interpreter; None: as it was called. Raises OSError where the host allows neither a mount nor a copy.
    """
    if is_sealed():
        _tidy_up()
        return
    if os.environ.get(_MARK):
        raise OSError(1, "this host does not let the interpreter run from a read-only copy of itself", _EXE)
    before = os.environ.get(_LIBRARIES, "")
    environment = {**os.environ, _MARK: f"1{before}"}
    words = [sys.executable or sys.orig_argv[0], *(sys.orig_argv[1:] if arguments is None else arguments)]
    try:
        fd = _mounted()
    except OSError:
        fd = _copied()
    places = _folders_of_libpython()
    if places:  # a library that is looked for from where the binary lies ($ORIGIN) would not be found
        environment[_LIBRARIES] = ":".join([*places, before] if before else places)
    sys.stdout.flush()
    os.execve(f"/proc/self/fd/{fd}", words, environment)


def is_sealed() -> bool:
    """Say whether nobody can write to the file of the program that this process runs, by way of that process."""
    if os.statvfs(_EXE).f_flag & os.ST_RDONLY:
        return True
    import fcntl

    fd = os.open(_EXE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _ALL_SEALS == _ALL_SEALS
    except OSError:
        return False  # no file in memory
    finally:
        os.close(fd)


def _mounted() -> int:
    """Return the interpreter's file, seen through a mount of its own that is read-only."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    fd = int(libc.syscall(_OPEN_TREE, -100, _EXE.encode(), flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_tree")
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY)
    done = libc.syscall(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.c_size_t(32))
    if done < 0:
        os.close(fd)
        raise OSError(ctypes.get_errno(), "mount_setattr")
    return fd


def _copied() -> int:
    """Return a copy of the interpreter's file, in memory and sealed."""
    import fcntl

    try:
        fd = os.memfd_create("inn-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError:  # before Linux 6.3
        fd = os.memfd_create("inn-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open(_EXE, os.O_RDONLY | os.O_CLOEXEC)
    left = os.fstat(source).st_size
    while left > 0:
        done = os.sendfile(fd, source, None, left)
        if not done:
            raise OSError(5, "the interpreter's file became shorter", _EXE)
        left -= done
    os.close(source)
    fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd


def _folders_of_libpython() -> list[str]:
    with open("/proc/self/maps") as lines:
        paths = {line.split(maxsplit=5)[5].rstrip("\n") for line in lines if "/libpython" in line}
    return sorted(os.path.dirname(path) for path in paths)


def _tidy_up() -> None:
    """Take back what was done to this process's environment and name for the sake of the execve."""
    mark = os.environ.pop(_MARK, "")
    if not mark:
        return
    os.environ.pop(_LIBRARIES, None)
    if mark[1:]:
        os.environ[_LIBRARIES] = mark[1:]
    with open("/proc/self/comm", "w") as file:  # else it is the number of a descriptor
        file.write(os.path.basename(sys.executable or "python3")[:15])
