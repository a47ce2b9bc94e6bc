"""Kernel and API work as data: a step, its record, and who keeps the records.

A step is one act (mount, write a cgroup file, an API call). `Recorder.run(step)` runs it and leaves
a `StepRecord`. The same steps, not run, are what `--explain` prints. What takes long (a pull, a build) also tells
through the recorder how far it is and what its programs print, and asks it whether to give up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from backends.errors import Cancelled
from backends.quick_json import dumps, loads


class Step(Protocol):
    """One act that changes the system."""

    @property
    def kind(self) -> str:
        """Short name: "mount", "unshare", "write", "link", "libvirt" …"""
        ...

    def describe(self) -> str:
        """One line for a person: what is done to what."""
        ...

    def by_hand(self) -> str:
        """The shell line that would do the same; empty where there is none."""
        ...

    def run(self) -> object:
        """Do it. Raises OSError or InnkeeperError."""
        ...

    def undo(self) -> None:
        """Take it back; does nothing where the kernel does so by itself."""
        ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What became of one step."""

    sequence: int
    process: str
    """Who ran it: "client", "spawner", "supervisor", "stage", "init", "libvirt" …"""

    kind: str
    text: str
    by_hand: str
    duration_s: float
    time_s: float
    """Seconds since the epoch when it began."""

    error: str = ""
    """What the system said; empty if it worked."""

    errno: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """More for the curious: XML sent, result, arguments. JSON types only."""

    def to_json(self) -> str:
        """One line of JSON."""
        return dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> StepRecord:
        """The reverse of to_json; ignores keys it does not know."""
        raw = loads(line)
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__ if name in raw})


Sink = Callable[[StepRecord], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one part of something long is."""

    part: str
    """What it is, the same each time: "sha256:4f3a…", "step 3/7"."""

    text: str
    """What is being done: "downloading", "unpacking", "already here", "done"."""

    done: int = 0
    total: int | None = None
    """None where nobody knows how much there is."""

    unit: str = "bytes"
    """"bytes", "files", "steps"."""

    @property
    def is_done(self) -> bool:
        """True when the part needs no more."""
        return self.total is not None and self.done >= self.total


class Watcher:
    """Who follows something long. This one follows nothing and never has enough."""

    def progressed(self, progress: Progress) -> None:
        """A part is that far."""

    def said(self, line: str) -> None:
        """It printed a line. Other people's text."""

    @property
    def has_enough(self) -> bool:
        """True when it is to be given up."""
        return False


class Recorder:
    """Runs steps and keeps what became of them."""

    def __init__(self, process: str, sink: Sink | None = None, watcher: Watcher | None = None) -> None:
        self.process = process
        self.records: list[StepRecord] = []
        self._sink = sink
        self._watcher = watcher or Watcher()

    @property
    def is_watched(self) -> bool:
        """Whether anybody is told of each record as it comes."""
        return self._sink is not None

    def run(self, step: Step) -> Any:
        """Run the step, record it also when it fails, and return its result."""
        began, clock = time.time(), time.perf_counter()
        error: BaseException | None = None
        result: object = None
        try:
            result = step.run()
            return result
        except Exception as caught:
            error = caught
            raise
        finally:
            self.keep(
                StepRecord(
                    sequence=len(self.records) + 1,
                    process=self.process,
                    kind=step.kind,
                    text=step.describe(),
                    by_hand=step.by_hand(),
                    duration_s=time.perf_counter() - clock,
                    time_s=began,
                    error=_say(error),
                    errno=error.errno if isinstance(error, OSError) else None,
                    details=dict(getattr(step, "details", None) or {}),
                )
            )

    def run_all(self, steps: Iterable[Step]) -> None:
        """Run the steps in order; the first that fails ends it."""
        for step in steps:
            self.run(step)

    def progress(self, progress: Progress) -> None:
        """Tell how far a part is; cheap enough for every block that is read. From any thread."""
        self._watcher.progressed(progress)

    def say(self, line: str) -> None:
        """Pass on a line that was printed, without its newline. From any thread."""
        self._watcher.said(line)

    def check(self) -> None:
        """Raise Cancelled if the user has had enough. Call it between two pieces of work, from any thread."""
        if self._watcher.has_enough:
            raise Cancelled("cancelled")

    def keep(self, record: StepRecord) -> None:
        """Take over a record made elsewhere (another process, an API client)."""
        self.records.append(record)
        if self._sink is not None:
            self._sink(record)


def _say(error: BaseException | None) -> str:
    if error is None:
        return ""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
