"""The containers on disk.

::

    STATE/containers/ID/   config.json container.json status.json log log.1 … trace.jsonl health.json lock hold
                           rootfs/ (mount point, empty) upper/ work/ etc/ snapshots/ volumes/
                           asked.json (what was asked for, with what the image adds: for clones)
    STATE/names/NAME       symlink to the ID: makes names unique without a lock over all
    STATE/making.lock      shared while something is made or removed, so that `clean` knows what is only half made
    RUN/containers/ID/     control (socket), alive (life_lock.py)

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
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from backends.errors import AlreadyExists, Busy, Damaged, NotFound
from backends.kernel.trees import remove_tree
from backends.native.life_lock import LifeLocks
from backends.native.record import ContainerRecord, Status

_T = TypeVar("_T")
ASKED = "asked.json"
CONFIG, RECORD, STATUS, LOG, TRACE = "config.json", "container.json", "status.json", "log", "trace.jsonl"


class ContainerStore(LifeLocks):
    """The containers of one state folder. Which of them live is in LifeLocks."""

    def __init__(self, state_dir: Path, run_dir: Path) -> None:
        super().__init__(state_dir / "containers", run_dir / "containers")
        self.state_dir, self.run_dir = state_dir, run_dir
        self._names = state_dir / "names"

    def prepare(self) -> None:
        """Make the folders. Raises OSError."""
        for folder in (self.state_dir, self.run_dir, self._kept, self._names, self._running):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def ids(self) -> list[str]:
        """Return the ids of all containers that are whole, in no order."""
        try:
            with os.scandir(self._kept) as entries:
                return [entry.name for entry in entries if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []

    def reserve(self, name: str | None, choices: Iterator[str], container_id: str = "") -> tuple[str, str]:
        """Take an id and a name that nobody has. Raises AlreadyExists if the name asked for is taken."""
        container_id = container_id or new_id()
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

    def create(
        self,
        record: ContainerRecord,
        config: Mapping[str, Any],
        files: Mapping[str, str | bytes],
        asked: Mapping[str, Any],
        prepare: Callable[[str], None] = lambda draft: None,
    ) -> None:
        """Write a new container; it appears whole or not at all. Files of bytes are programs.

        asked is kept as it is, for clones. prepare puts more into the folder that becomes the container's.
        """
        draft = f"{self._kept}/.{record.id}"
        os.mkdir(draft, 0o700)
        try:
            for name in ("rootfs", "upper", "work", "etc", "snapshots"):
                os.mkdir(f"{draft}/{name}", 0o755)
            for name, content in files.items():
                _write_new(f"{draft}/etc/{name}", content)
            _write_new(f"{draft}/{CONFIG}", json.dumps(config))
            _write_new(f"{draft}/{RECORD}", record.to_json())
            _write_new(f"{draft}/{STATUS}", Status().to_json())
            _write_new(f"{draft}/{ASKED}", json.dumps(asked))
            _be_like(f"{draft}/upper", record.layers[0])
            prepare(draft)
            os.rename(draft, self.folder(record.id))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def record(self, container_id: str) -> ContainerRecord:
        """Read container.json. Raises NotFound, Damaged."""
        return self._parsed(container_id, RECORD, ContainerRecord.from_json)

    def config(self, container_id: str) -> dict[str, Any]:
        """Read config.json. Raises NotFound, Damaged."""
        return self._parsed(container_id, CONFIG, _object)

    def status(self, container_id: str) -> Status:
        """Read status.json. Raises NotFound, Damaged."""
        return self._parsed(container_id, STATUS, Status.from_json)

    def write_record(self, record: ContainerRecord) -> None:
        """Replace container.json."""
        write_file(self.folder(record.id) / RECORD, record.to_json())

    def write_config(self, container_id: str, config: Mapping[str, Any]) -> None:
        """Replace config.json."""
        write_file(self.folder(container_id) / CONFIG, json.dumps(config, indent=1))

    def write_status(self, container_id: str, status: Status) -> None:
        """Replace status.json; on a full disk in its own place, since an end must always be put on record."""
        path = self.folder(container_id) / STATUS
        try:
            write_file(path, status.to_json())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
                raise
            _overwrite(path, status.to_json())

    def rename(self, record: ContainerRecord, name: str) -> None:
        """Change a container's name. Raises AlreadyExists."""
        try:
            os.symlink(record.id, self._names / name)
        except FileExistsError:
            raise AlreadyExists(f"cannot rename {record.name} to {name}: that name is taken") from None
        self.write_record(replace(record, name=name))
        self.release_name(record.name)

    def remove(self, record: ContainerRecord, when_gone: Callable[[], None] = lambda: None) -> None:
        """Remove all that is kept of a container.

        It vanishes from the list at once; when_gone is called then, before what it took on the disk is deleted.
        """
        grave = self._kept / f".{record.id}"
        self.folder(record.id).rename(grave)
        self.release_name(record.name)
        shutil.rmtree(self.run_folder(record.id), ignore_errors=True)
        when_gone()
        is_saved = f"{self.state_dir}/saved/"
        has_saved = bool(_children(grave / "snapshots")) or any(layer.startswith(is_saved) for layer in record.layers)
        remove_tree(grave)
        if has_saved:
            from backends.native.saved_layers import SavedLayers

            SavedLayers(self.state_dir).collect()

    @contextmanager
    def locked(self, container_id: str, *, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the container's lock: one operation on it at a time, over all processes.

        Raises NotFound, and Busy after the time, if one is given.
        """
        try:
            fd = os.open(self.folder(container_id) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}") from None
        try:
            _lock(fd, fcntl.LOCK_EX, timeout_s, f"another operation on container {container_id} goes on")
            if not self.folder(container_id).exists():
                raise NotFound(f"no container {container_id}")
            yield
        finally:
            os.close(fd)

    @contextmanager
    def held(self, container_id: str) -> Iterator[None]:
        """Keep a container that is to be removed at its end from being removed, until the end of this process at most.

        Raises NotFound.
        """
        fd = self._open_hold(container_id)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    def wait_until_free(self, container_id: str) -> None:
        """Wait until nobody keeps it from being removed."""
        with suppress(NotFound):
            fd = self._open_hold(container_id)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            finally:
                os.close(fd)

    def _open_hold(self, container_id: str) -> int:
        try:
            return os.open(self.folder(container_id) / "hold", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}") from None

    @contextmanager
    def making(self, *, alone: bool = False, timeout_s: float | None = None) -> Iterator[None]:
        """Hold while something is made or removed in steps; alone: while nobody does. Raises Busy after the time."""
        why = "something is just being made or removed"
        with held(self.state_dir / "making.lock", alone=alone, timeout_s=timeout_s, why=why):
            yield

    def half_made(self) -> list[Path]:
        """Return folders and files that a crash left behind; true only while nobody is making anything."""
        ids = self.ids()
        found = [path for path in _children(self._kept) if path.name.startswith(".")]
        found += [path for path in _children(self._running) if path.name not in ids]
        return found

    def drafts(self, container_id: str) -> list[Path]:
        """Return what a crash left behind in a container's folder; true only under its lock."""
        folder = self.folder(container_id)
        # A supervisor replaces status.json without the lock; its draft is not for us.
        inside = [] if self.is_supervised(container_id) else _children(folder)
        return [path for path in (*inside, *_children(folder / "snapshots")) if path.name.startswith(".")]

    def dangling_names(self) -> list[Path]:
        """Return names that no container goes by; true only while nobody is making anything."""
        known: dict[str, str | None] = {}
        for container_id in self.ids():
            try:
                known[container_id] = self.record(container_id).name
            except NotFound:
                continue
            except Damaged:
                known[container_id] = None  # any name may be its own
        names = ((path, known.get(os.readlink(path), "")) for path in _children(self._names))
        return [path for path, name in names if name not in (None, path.name)]

    def _parsed(self, container_id: str, name: str, parse: Callable[[str], _T]) -> _T:
        try:
            return parse(self._read(container_id, name))
        except (ValueError, TypeError, AttributeError) as error:
            path = self.folder(container_id) / name
            text = f"container {container_id}: {name} is damaged: {error}"
            raise Damaged(text, hint=f"mend {path}, or delete {path.parent} and clean up: inn clean") from error

    def _read(self, container_id: str, name: str) -> str:
        try:
            return read_file(f"{self._kept}/{container_id}/{name}")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotFound(f"no container {container_id}") from None
            raise


def _be_like(folder: str, layer: str) -> None:
    """Give the topmost folder of a new layer the mode and owner of that below: it is what / is inside."""
    found, ours = os.stat(layer), os.stat(folder)
    if (found.st_uid, found.st_gid) != (ours.st_uid, ours.st_gid):
        os.chown(folder, found.st_uid, found.st_gid)
    if found.st_mode != ours.st_mode:
        os.chmod(folder, found.st_mode & 0o7777)


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found


def new_id() -> str:
    """Return an id that nobody has."""
    return secrets.token_hex(6)


def read_file(path: str) -> str:
    """Return the text of a small file. Plain calls: pathlib and text files take ten times the memory and time."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(fd, 65536):
            data += piece
    finally:
        os.close(fd)
    return data.decode()


def write_file(path: Path, text: str) -> None:
    """Replace a file by rename: readers see the old or the new one, never a half."""
    draft = f"{path.parent}/.{path.name}.{os.getpid()}"
    try:
        _write_new(draft, text)
        os.rename(draft, path)
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def _write_new(path: str, content: str | bytes) -> None:
    """Write a file that nobody looks at yet; bytes are a program."""
    is_program = isinstance(content, bytes)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(content if isinstance(content, bytes) else content.encode())
        while view:
            view = view[os.write(fd, view) :]
        if is_program:
            os.fchmod(fd, 0o755)
    finally:
        os.close(fd)


def _overwrite(path: Path, text: str) -> None:
    """Write a file in the blocks that it has: one write, padded with spaces over what was there. Raises OSError."""
    with open(path, "r+b", buffering=0) as file:
        file.write(text.encode().ljust(os.fstat(file.fileno()).st_size))


def _children(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []


def hidden(folder: Path) -> list[Path]:
    """Return what is half made or half removed in a folder; true only while nobody is making anything."""
    return [path for path in _children(folder) if path.name.startswith(".")]


@contextmanager
def held(path: Path, *, alone: bool, timeout_s: float | None, why: str) -> Iterator[None]:
    """Hold a lock on a file, shared or alone. Raises Busy, which says why, after the time, if one is given."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, timeout_s, why)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, how: int, timeout_s: float | None, why: str) -> None:
    if timeout_s is None:
        fcntl.flock(fd, how)
        return
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(why, hint="try again") from None
        time.sleep(0.01)
