"""The containers on disk.

::

    STATE/containers/ID/   config.json container.json status.json log trace.jsonl lock
                           rootfs/ (mount point, empty) upper/ work/ etc/ snapshots/
    STATE/names/NAME       symlink to the ID: makes names unique without a lock over all
    RUN/containers/ID/     control (socket), alive (locked by the supervisor while it lives)

Every file is replaced by rename, so that a reader and a crash see the old one or the new one.
Folders are 0700: what is in them belongs to root.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import AlreadyExists, Busy, NotFound
from backends.native.record import ContainerRecord, Status

CONFIG, RECORD, STATUS, LOG, TRACE = "config.json", "container.json", "status.json", "log", "trace.jsonl"


class ContainerStore:
    """The containers of one state folder."""

    def __init__(self, state_dir: Path, run_dir: Path) -> None:
        self.state_dir, self.run_dir = state_dir, run_dir
        self._containers = state_dir / "containers"
        self._names = state_dir / "names"

    def prepare(self) -> None:
        """Make the folders. Raises OSError."""
        for folder in (self.state_dir, self.run_dir, self._containers, self._names, self.run_dir / "containers"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, container_id: str) -> Path:
        """Return where a container is kept."""
        return self._containers / container_id

    def run_folder(self, container_id: str) -> Path:
        """Return where its socket and life lock are."""
        return self.run_dir / "containers" / container_id

    def ids(self) -> list[str]:
        """Return the ids of all containers that are whole, in no order."""
        try:
            with os.scandir(self._containers) as entries:
                return [entry.name for entry in entries if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []

    def reserve(self, name: str | None, choices: Iterator[str]) -> tuple[str, str]:
        """Take an id and a name that nobody has. Raises AlreadyExists if the name asked for is taken."""
        container_id = secrets.token_hex(6)
        for candidate in [name] if name else choices:
            try:
                os.symlink(container_id, self._names / candidate)
            except FileExistsError:
                continue
            return container_id, candidate
        hint = f"choose another, or remove that container: inn rm {name}"
        raise AlreadyExists(f"the name {name} is taken", hint=hint)

    def release_name(self, name: str) -> None:
        """Give a reserved name back."""
        with suppress(FileNotFoundError):
            os.unlink(self._names / name)

    def create(self, record: ContainerRecord, config: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Write a new container; it appears whole or not at all."""
        draft = self._containers / f".{record.id}"
        draft.mkdir(mode=0o700)
        try:
            for name in ("rootfs", "upper", "work", "etc", "snapshots"):
                (draft / name).mkdir(mode=0o755)
            for name, text in files.items():
                (draft / "etc" / name).write_text(text)
            (draft / CONFIG).write_text(json.dumps(config, indent=1))
            (draft / RECORD).write_text(record.to_json())
            (draft / STATUS).write_text(Status().to_json())
            draft.rename(self.folder(record.id))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def record(self, container_id: str) -> ContainerRecord:
        """Read container.json. Raises NotFound."""
        return ContainerRecord.from_json(self._read(container_id, RECORD))

    def config(self, container_id: str) -> dict[str, Any]:
        """Read config.json. Raises NotFound."""
        found: dict[str, Any] = json.loads(self._read(container_id, CONFIG))
        return found

    def status(self, container_id: str) -> Status:
        """Read status.json. Raises NotFound."""
        return Status.from_json(self._read(container_id, STATUS))

    def write_record(self, record: ContainerRecord) -> None:
        """Replace container.json."""
        write_file(self.folder(record.id) / RECORD, record.to_json())

    def write_config(self, container_id: str, config: Mapping[str, Any]) -> None:
        """Replace config.json."""
        write_file(self.folder(container_id) / CONFIG, json.dumps(config, indent=1))

    def write_status(self, container_id: str, status: Status) -> None:
        """Replace status.json."""
        write_file(self.folder(container_id) / STATUS, status.to_json())

    def rename(self, record: ContainerRecord, name: str) -> None:
        """Change a container's name. Raises AlreadyExists."""
        try:
            os.symlink(record.id, self._names / name)
        except FileExistsError:
            raise AlreadyExists(f"cannot rename {record.name} to {name}: that name is taken") from None
        self.write_record(replace(record, name=name))
        self.release_name(record.name)

    def remove(self, record: ContainerRecord) -> None:
        """Remove all that is kept of a container. It vanishes from the list at once."""
        grave = self._containers / f".{record.id}"
        self.folder(record.id).rename(grave)
        self.release_name(record.name)
        shutil.rmtree(self.run_folder(record.id), ignore_errors=True)
        shutil.rmtree(grave)

    @contextmanager
    def locked(self, container_id: str) -> Iterator[None]:
        """Hold the container's lock: one operation on it at a time, over all processes. Raises NotFound."""
        try:
            fd = os.open(self.folder(container_id) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not self.folder(container_id).exists():
                raise NotFound(f"no container {container_id}")
            yield
        finally:
            os.close(fd)

    def is_supervised(self, container_id: str) -> bool:
        """Say whether a supervisor holds the container's life lock: it does so as long as it lives."""
        try:
            fd = os.open(self.run_folder(container_id) / "alive", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def hold_life_lock(self, container_id: str) -> int:
        """Take the life lock for this process; returns the descriptor that holds it. Raises Busy."""
        folder = self.run_folder(container_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Busy(f"container {container_id} has a supervisor already") from None
        return fd

    def half_made(self) -> list[Path]:
        """Return folders that a crash in create or remove left behind."""
        try:
            return [self._containers / entry for entry in os.listdir(self._containers) if entry.startswith(".")]
        except FileNotFoundError:
            return []

    def dangling_names(self) -> list[Path]:
        """Return names that belong to no container."""
        try:
            found = [self._names / name for name in os.listdir(self._names)]
        except FileNotFoundError:
            return []
        return [path for path in found if not self.folder(os.readlink(path)).exists()]

    def _read(self, container_id: str, name: str) -> str:
        try:
            return (self.folder(container_id) / name).read_text()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotFound(f"no container {container_id}") from None
            raise


def write_file(path: Path, text: str) -> None:
    """Replace a file by rename: readers see the old or the new one, never a half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
