"""Runs operations on a few threads: one at a time for each guest, in the order given."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    key: Hashable | None
    run: Callable[[], None]
    abandon: Callable[[], None]


class Executor:
    """At most `max_parallel` jobs at once, never two of one key; a thread starts when there is work for it."""

    def __init__(self, name: str, max_parallel: int) -> None:
        self._name, self._most = name, max(1, max_parallel)
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._busy: set[Hashable] = set()
        self._idle = 0
        self._is_stopping = False
        self.threads: list[threading.Thread] = []

    def submit(self, key: Hashable | None, run: Callable[[], None], abandon: Callable[[], None]) -> None:
        """Run it when its turn comes; after stop() abandon it. Neither may raise."""
        with self._changed:
            if not self._is_stopping:
                self._jobs.append(_Job(key, run, abandon))
                if len(self._jobs) > self._idle and len(self.threads) < self._most:
                    self._start_thread()
                self._changed.notify()
                return
        abandon()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name} {len(self.threads) + 1}", daemon=True)
        self.threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Abandon what has not begun and let the threads end after what they do now. Does not wait."""
        with self._changed:
            self._is_stopping = True
            waiting, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for job in waiting:
            job.abandon()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.run()
            finally:
                with self._changed:
                    self._busy.discard(job.key)
                    self._changed.notify_all()

    def _next(self) -> _Job | None:
        with self._changed:
            self._idle += 1
            try:
                while True:
                    if self._is_stopping:
                        return None
                    job = next((job for job in self._jobs if job.key is None or job.key not in self._busy), None)
                    if job is not None:
                        self._jobs.remove(job)
                        if job.key is not None:
                            self._busy.add(job.key)
                        return job
                    self._changed.wait()
            finally:
                self._idle -= 1
