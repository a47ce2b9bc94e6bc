"""Keeping the steps that clients do themselves in the container's trace."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backends.errors import InnkeeperError
from backends.trace import Recorder, StepRecord


def append(path: Path, record: StepRecord) -> None:
    """Add a record to a trace file; one line is one write, so that writers do not mix."""
    with suppress(FileNotFoundError), open(path, "ab", buffering=0) as file:
        file.write(record.to_json().encode() + b"\n")


def read(path: Path) -> list[str]:
    """Return the lines of a trace; waits while a start is at work on it. Raises FileNotFoundError."""
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return file.read().splitlines()


@contextmanager
def recorded(recorder: Recorder, path: Path, kind: str, text: str, by_hand: str) -> Iterator[None]:
    """Record what the body does as one step, also when it fails."""
    began, clock = time.time(), time.perf_counter()
    error = ""
    try:
        yield
    except InnkeeperError as caught:
        error = caught.message
        raise
    finally:
        record = StepRecord(
            sequence=len(recorder.records) + 1,
            process="supervisor",
            kind=kind,
            text=text,
            by_hand=by_hand,
            duration_s=time.perf_counter() - clock,
            time_s=began,
            error=error,
        )
        append(path, record)
        recorder.keep(record)
