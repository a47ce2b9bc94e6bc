"""The steps that a runtime has done for a container, so that a failure can take them back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from backends.errors import InnkeeperError
from backends.trace import Recorder, Step, StepRecord


class Work:
    """Runs steps and remembers them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._done: list[Step] = []
        self._failed = ""

    @property
    def at_work(self) -> str:
        """The beginning of an error text: what was being done."""
        return f"cannot {self._failed}: " if self._failed else ""

    def run(self, steps: Sequence[Step]) -> None:
        """Run steps in order; the first that fails ends it."""
        for step in steps:
            self.result(step)

    def result(self, step: Step) -> Any:
        """Run one step and return its result."""
        self._failed = ""
        try:
            result = self._recorder.run(step)
        except OSError:
            self._failed = step.describe()
            raise
        self._done.append(step)
        return result

    def keep(self, records: Sequence[dict[str, Any]]) -> None:
        """Take over what became of steps in another process."""
        for raw in records:
            record = StepRecord(**raw)
            self._failed = record.text if record.error else ""
            self._recorder.keep(record)

    def undo(self) -> None:
        """Take back what was done, last first; what the kernel refuses is left, so that all the rest goes."""
        for step in reversed(self._done):
            with suppress(OSError, InnkeeperError):
                step.undo()
        self._done = []
