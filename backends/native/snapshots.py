"""Snapshots of a container's file system: copies of its writable layer.

::

    STATE/containers/ID/snapshots/NAME/   upper/ and snapshot.json

The image's layers never change, so a copy of the upper layer is the whole difference. cp keeps what an
overlay needs: whiteouts (devices 0:0), the trusted.overlay.* attributes, hard links and holes. Where the
file system can share blocks (btrfs, xfs) a copy costs none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import AlreadyExists, InnkeeperError, NotFound
from backends.kernel.mounts import KernelStep
from backends.model import Snapshot
from backends.native.images.rootfs import size_of
from backends.native.spec import check_name
from backends.trace import Recorder

_FILE = "snapshot.json"


@dataclass(frozen=True, slots=True)
class CopyLayer(KernelStep):
    """Copy a writable layer exactly."""

    source: str
    target: str
    kind = "copy"

    def describe(self) -> str:
        return f"copy the layer {self.source} to {self.target}"

    def by_hand(self) -> str:
        return f"cp -a --reflink=auto --sparse=always {self.source} {self.target}"

    def run(self) -> None:
        command = ["cp", "-a", "--reflink=auto", "--sparse=always", "--", self.source, self.target]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"cp ended with {done.returncode}"])[0]
            raise InnkeeperError(f"cannot copy {self.source}: {reason}")

    def undo(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)


class Snapshots:
    """The snapshots of one container, whose folder this is."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._container = folder, name
        self._snapshots = folder / "snapshots"

    def all(self, current: str | None) -> Sequence[Snapshot]:
        """Return all, parents before children; `current` is the one the container descends from."""
        whole = [path for path in self._snapshots.iterdir() if not path.name.startswith(".")]
        return sorted((self._read(path, current) for path in whole), key=lambda snapshot: snapshot.created_s)

    def create(self, name: str, parent: str | None, recorder: Recorder) -> Snapshot:
        """Copy the upper layer. The caller has stopped or frozen the container. Raises AlreadyExists."""
        self.recover()
        target = self._snapshots / check_name(name)
        if target.exists():
            raise AlreadyExists(f"{self._container} has a snapshot {name} already")
        draft = self._snapshots / f".{name}.{os.getpid()}"
        draft.mkdir(mode=0o700)
        try:
            recorder.run(CopyLayer(str(self._folder / "upper"), str(draft / "upper")))
            described = {"created_s": time.time(), "parent": parent, "size_bytes": size_of(draft / "upper")}
            (draft / _FILE).write_text(json.dumps(described))
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return self._read(target, name)

    def restore(self, name: str, recorder: Recorder) -> None:
        """Put a copy of a snapshot in place of the upper layer of a stopped container. Raises NotFound."""
        self.recover()
        source = self._existing(name)
        upper, work = self._folder / "upper", self._folder / "work"
        draft, old = self._folder / f".upper.{os.getpid()}", self._folder / ".upper.old"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            recorder.run(CopyLayer(str(source / "upper"), str(draft)))
            upper.rename(old)
            draft.rename(upper)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            if old.exists() and not upper.exists():
                old.rename(upper)
        shutil.rmtree(old, ignore_errors=True)
        # The kernel's own scratch folder belongs to the old layer.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o755, exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove one; those made after it keep their own copies, and get its parent. Raises NotFound."""
        path = self._existing(name)
        parent = self._read(path, None).parent
        for other in self._snapshots.iterdir():
            described = _described(other)
            if described.get("parent") == name:
                (other / _FILE).write_text(json.dumps(described | {"parent": parent}))
        grave = self._snapshots / f".{name}.{os.getpid()}"
        path.rename(grave)
        shutil.rmtree(grave)

    def parent_of(self, name: str) -> str | None:
        """Return the name of a snapshot's parent. Raises NotFound."""
        return self._read(self._existing(name), None).parent

    def recover(self) -> None:
        """Finish what a crash in restore left: the old layer is put back if there is no new one."""
        upper, old = self._folder / "upper", self._folder / ".upper.old"
        with suppress(FileNotFoundError):
            if upper.exists():
                shutil.rmtree(old)
            else:
                old.rename(upper)

    def _existing(self, name: str) -> Path:
        path = self._snapshots / check_name(name)
        if not path.exists():
            raise NotFound(f"{self._container} has no snapshot {name}", hint=f"see: inn snapshot ls {self._container}")
        return path

    def _read(self, path: Path, current: str | None) -> Snapshot:
        described = _described(path)
        parent = described.get("parent")
        size = described.get("size_bytes")
        return Snapshot(
            name=path.name,
            created_s=float(str(described.get("created_s", 0))),
            parent=str(parent) if parent else None,
            is_current=path.name == current,
            size_bytes=int(str(size)) if size is not None else None,
        )


def _described(path: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads((path / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found
