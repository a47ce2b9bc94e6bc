"""Questions to backends that may block, asked on threads of their own; a backend that hangs stops only its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from backends.errors import InnkeeperError

T = TypeVar("T")


class Answer(Generic[T]):
    """What came back: a value, or an error."""

    __slots__ = ("_value", "error")

    def __init__(self, value: T | None, error: InnkeeperError | None) -> None:
        self._value, self.error = value, error

    @property
    def value(self) -> T:
        """The value; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]


Job = Callable[[], None]


class Asker:
    """One daemon thread a backend, made on the first question.

    A question that has not been asked yet is replaced by a newer one of the same key. Answers arrive on the event
    loop. Daemon threads, not an executor: leaving the program must not wait for a backend that never answers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        """Replies run in the context, which knows the app; a core thread's own does not."""
        self._loop, self._context = loop, context
        self._lanes: dict[str, _Lane] = {}
        self._is_closed = False

    def ask(self, lane: str, key: str, question: Callable[[], T], reply: Callable[[Answer[T]], object]) -> None:
        """Run the question on the lane's thread and hand its answer to `reply` on the event loop."""
        if self._is_closed:
            return

        def job() -> None:
            try:
                answer = Answer(question(), None)
            except InnkeeperError as error:
                answer = Answer(None, error)
            except Exception as error:  # this thread ends here otherwise; the user is told instead
                answer = Answer(None, InnkeeperError(f"{key}: {type(error).__name__}: {error}"))
            self._tell(lambda: reply(answer))

        if lane not in self._lanes:
            self._lanes[lane] = _Lane(lane)
        self._lanes[lane].put(key, job)

    def close(self) -> None:
        """Let the threads end after what they do now; no answer arrives any more."""
        self._is_closed = True
        for lane in self._lanes.values():
            lane.stop()

    def _tell(self, callback: Callable[[], object]) -> None:
        if self._is_closed:
            return
        try:
            self._loop.call_soon_threadsafe(callback, context=self._context)
        except RuntimeError:  # the loop is closed: the program ends
            self._is_closed = True


class _Lane:
    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._is_stopping = False
        threading.Thread(target=self._work, name=f"ask {name}", daemon=True).start()

    def put(self, key: str, job: Job) -> None:
        with self._changed:
            self._jobs.pop(key, None)
            self._jobs[key] = job
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._jobs.clear()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._is_stopping:
                    self._changed.wait()
                if self._is_stopping:
                    return
                _, job = self._jobs.popitem(last=False)
            job()
