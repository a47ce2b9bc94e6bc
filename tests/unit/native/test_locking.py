"""Locks on files that come and go."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from backends.native.locking import locked
from tests.tools.waiting import wait_until


def test_who_waited_for_a_lock_whose_file_was_deleted_holds_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    second = threading.Event()
    third = threading.Event()
    release = threading.Event()

    def hold(has_it: threading.Event) -> None:
        with locked(path):
            has_it.set()
            release.wait(10)

    waiters = [threading.Thread(target=hold, args=(event,)) for event in (second, third)]
    with locked(path):
        waiters[0].start()
        wait_until(lambda: _opened(path) == 2)
        path.unlink()
    wait_until(second.is_set)
    waiters[1].start()
    wait_until(lambda: _opened(path) == 2)
    assert not third.is_set()
    release.set()
    for waiter in waiters:
        waiter.join(10)
    assert third.is_set()


def _opened(path: Path) -> int:
    """Count this process's descriptors of a file."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}") == str(path)
        except OSError:
            continue
    return count
