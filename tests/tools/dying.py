"""Processes that are killed at a chosen moment."""

from __future__ import annotations

import os
from collections.abc import Callable

_CHANGES = ("rename", "mkdir", "symlink", "unlink", "rmdir", "chmod", "utime")


def dies_at(number: int, act: Callable[[], object]) -> bool:
    """Do it in a process that is killed before its so manieth change of a folder; False if it had no so many."""
    pid = os.fork()
    if pid == 0:
        left = number
        try:
            for name in _CHANGES:
                setattr(os, name, _deadly(getattr(os, name), lambda: left))

            def count() -> None:
                nonlocal left
                left -= 1

            _deadly.count = count  # type: ignore[attr-defined]
            act()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 77), status
    return status == 77


def _deadly(change: Callable[..., object], left: Callable[[], int]) -> Callable[..., object]:
    def changed(*arguments: object, **options: object) -> object:
        if left() <= 1:
            os._exit(77)
        _deadly.count()  # type: ignore[attr-defined]
        return change(*arguments, **options)

    return changed
