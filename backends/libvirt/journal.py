"""The calls made to libvirt for a guest, and where their records are kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.trace import Recorder, StepRecord

_KEPT = 500
"""Records kept for one guest, in memory and on disk."""


class Call:
    """A Step: one call of libvirt's API that changes something."""

    kind = "libvirt"

    def __init__(
        self,
        text: str,
        by_hand: str,
        work: Callable[[], object],
        *,
        undo: Callable[[], object] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self._text, self._by_hand, self._work, self._undo = text, by_hand, work, undo
        self.details: dict[str, Any] = dict(details or {})

    def describe(self) -> str:
        """One line for a person."""
        return self._text

    def by_hand(self) -> str:
        """The virsh line that does the same."""
        return self._by_hand

    def run(self) -> object:
        """Make the call."""
        return self._work()

    def undo(self) -> None:
        """Make the call that takes it back."""
        if self._undo is not None:
            self._undo()


class Journal:
    """Keeps the records of each guest in memory and in DIR/<uuid>.jsonl."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[str, list[StepRecord]] = {}
        self._lock = threading.Lock()

    def run(self, uuid: str, recorder: Recorder, step: Call) -> Any:
        """Run the step through the recorder and keep its record, also when it fails."""
        before = len(recorder.records)
        try:
            return recorder.run(step)
        finally:
            for record in recorder.records[before:]:
                self.keep(uuid, record)

    def keep(self, uuid: str, record: StepRecord) -> None:
        """Add a record, numbered after the guest's last one."""
        with self._lock:
            records = self._load(uuid)
            number = records[-1].sequence + 1 if records else 1
            records.append(replace(record, sequence=number))
            del records[:-_KEPT]
            self._append(uuid, records[-1])

    def records(self, uuid: str) -> Sequence[StepRecord]:
        """Return the guest's records, oldest first."""
        with self._lock:
            return tuple(self._load(uuid))

    def forget(self, uuid: str) -> None:
        """Drop the records of a guest that was removed."""
        with self._lock:
            self._records.pop(uuid, None)
            self._path(uuid).unlink(missing_ok=True)

    def _path(self, uuid: str) -> Path:
        return self._folder / f"{uuid}.jsonl"

    def _load(self, uuid: str) -> list[StepRecord]:
        if uuid not in self._records:
            self._records[uuid] = _read(self._path(uuid))
        return self._records[uuid]

    def _append(self, uuid: str, record: StepRecord) -> None:
        try:
            self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            fd = os.open(self._path(uuid), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # a state folder that cannot be written costs the history over restarts, not the operation
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(record.to_json() + "\n")


def _read(path: Path) -> list[StepRecord]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[-_KEPT:]
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            records.append(StepRecord.from_json(line))
        except (ValueError, TypeError):
            continue  # a line cut off by a crash
    return records
