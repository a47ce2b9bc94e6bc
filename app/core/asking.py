"""Bounded waiting for calls and threads that may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def within(timeout_s: float, late: Exception, call: Callable[[], T]) -> T:
    """Return what the call returns, or raise what it raises; raise `late` when it takes longer.

    It runs on a daemon thread of its own, so that a hanging library keeps nobody from Ctrl-C nor from leaving.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # the end of a thread: the caller raises it
            errors.append(error)

    thread = threading.Thread(target=run, name="innkeeper question", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise late
    return results[0]


def join_all(threads: Sequence[threading.Thread], deadline_s: float) -> tuple[str, ...]:
    """Wait for threads until a (monotonic) time; return the names of those that still run."""
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    return tuple(thread.name for thread in threads if thread.is_alive())
