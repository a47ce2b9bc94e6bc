"""Removing trees that other people's programs made, however deep they are.

shutil.rmtree calls itself for each level, and holds a descriptor for each: a container could make a tree that cannot be
removed. Here what is deeper is moved to the top first. No link is followed: all is done below descriptors.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEVELS = 64
_MOVED = ".deeper-"


def remove_tree(path: str | Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all below it. Raises OSError; with ignore_errors it goes on, and some may be left."""
    try:
        top = os.open(path, _FOLDER)
        try:
            _Removal(top, is_lenient=ignore_errors).run()
        finally:
            os.close(top)
        os.rmdir(path)
    except OSError:
        if not ignore_errors:
            raise


class _Removal:
    def __init__(self, top: int, *, is_lenient: bool) -> None:
        self._top, self._is_lenient = top, is_lenient
        self._moved = 0

    def run(self) -> None:
        before = -1
        while before != self._moved:  # what was moved to the top is removed like the rest
            before = self._moved
            self._empty(self._top, 0)

    def _empty(self, folder: int, level: int) -> None:
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        for name, is_folder in entries:
            try:
                self._remove(folder, name, level, is_folder=is_folder)
            except OSError:
                if not self._is_lenient:
                    raise

    def _remove(self, folder: int, name: str, level: int, *, is_folder: bool) -> None:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
        elif level >= _LEVELS:
            self._move(folder, name)
        else:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            try:
                self._empty(inner, level + 1)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=folder)

    def _move(self, folder: int, name: str) -> None:
        while True:
            self._moved += 1
            to = f"{_MOVED}{self._moved}"
            with suppress(FileExistsError):  # somebody called a folder so
                os.mkdir(to, 0o700, dir_fd=self._top)
                os.rename(name, to, src_dir_fd=folder, dst_dir_fd=self._top)
                return
