"""Several transfers at once, of which the first failure ends all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from backends.errors import InnkeeperError

AT_ONCE = 4

T = TypeVar("T")


class GivenUp(InnkeeperError):
    """Not worth a word: another one failed."""


class Crew:
    """Threads that work on the parts of one transfer."""

    def __init__(self) -> None:
        self._has_failed = False

    def do_all(self, act: Callable[[T], None], parts: Iterable[T]) -> None:
        """Do the act to all parts, and raise the first error when all threads have ended."""
        with ThreadPoolExecutor(AT_ONCE, "registry") as pool:
            futures = [pool.submit(self._do, act, part) for part in parts]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in done if (error := future.exception()) is not None]
            self._has_failed = bool(failed)
            for future in futures:
                future.cancel()
        if failed:
            raise next((error for error in failed if not isinstance(error, GivenUp)), failed[0])

    def _do(self, act: Callable[[T], None], part: T) -> None:
        self.check()
        act(part)

    def check(self) -> None:
        """Raise GivenUp if another one has failed. Call it between two blocks."""
        if self._has_failed:
            raise GivenUp("given up because another layer failed")
