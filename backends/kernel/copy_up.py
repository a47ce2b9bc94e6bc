"""Filling a new tmpfs with what it is about to cover (the mount option "tmpcopyup")."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_READ_BYTES = 1 << 20


def copy_folder(source: int, target: int) -> None:
    """Copy what is in one folder into another: files, folders, links, nodes, with owners, modes, times, attributes.

    Both are descriptors, source may be O_PATH. No symlink is followed.
    """
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    try:
        _copy_entries(readable, target)
    finally:
        os.close(readable)


def _copy_entries(source: int, target: int) -> None:
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            _copy_folder(source, target, name)
        elif kind == stat.S_IFREG:
            _copy_file(source, target, name)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif kind != stat.S_IFSOCK:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
        else:
            continue
        _copy_metadata(found, target, name)


def _copy_folder(source: int, target: int, name: str) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inner = os.open(name, flags, dir_fd=source)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        made = os.open(name, flags, dir_fd=target)
        try:
            _copy_entries(inner, made)
        finally:
            os.close(made)
    finally:
        os.close(inner)


def _copy_file(source: int, target: int, name: str) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(writing, reading, None, _READ_BYTES):
                pass
            _copy_attributes(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_attributes(reading: int, writing: int) -> None:
    for key in os.listxattr(reading):
        with suppress(OSError):  # a tmpfs takes only some: security.* and, newer, user.*
            os.setxattr(writing, key, os.getxattr(reading, key))


def _copy_metadata(found: os.stat_result, target: int, name: str) -> None:
    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        # chown(2) clears set-id bits, so the mode comes after it. Nobody else can reach the new file system yet.
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)
