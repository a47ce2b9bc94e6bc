"""The named volumes of a state folder.

::

    STATE/volumes/NAME/    volume.json lock data/ (what containers see, owned as they see it)
    STATE/volumes/.NAME…   half made or half removed
    STATE/volumes/NAME/.data…    half filled

A volume appears, is filled and vanishes by rename. Its lock is held while it is given to a container, until that is on
record, and while it is removed: so nobody removes what another is just taking, and two do not fill it at once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from backends.errors import AlreadyExists, Busy, NotFound
from backends.kernel.trees import remove_tree
from backends.native.locking import locked
from backends.native.spec import check_name
from backends.native.store import hidden, new_id, read_file, write_file
from backends.volume import VolumeSpec

_FILE, _DATA, _LOCK = "volume.json", "data", "lock"
_MOST_NAMED = 5

Fill = Callable[[str], None]
"""Puts into an empty folder what a new volume begins with."""


@dataclass(frozen=True, slots=True)
class StoredVolume:
    """One volume (volume.json)."""

    name: str
    id: str
    """Tells it from others that had its name before."""

    created_s: float | None
    labels: dict[str, str] = field(default_factory=dict)
    note: str = ""
    """What is wrong with its record: its files are there all the same. Not kept."""


class VolumeStore:
    """What is kept of named volumes."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "volumes"

    def folder(self, name: str) -> Path:
        """Return where a volume's files are, whether it is there or not."""
        return self._folder / check_name(name) / _DATA

    def all(self) -> list[StoredVolume]:
        """Return all volumes by name."""
        found = []
        for name in sorted(self._names()):
            try:
                found.append(self.get(name))
            except NotFound:  # removed meanwhile
                continue
        return found

    def get(self, name: str) -> StoredVolume:
        """Return a volume; where its record is damaged only its name is known, and its files. Raises NotFound,
        UsageError."""
        path = self._folder / check_name(name) / _FILE
        try:
            raw = json.loads(read_file(str(path)))
            return StoredVolume(name, str(raw["id"]), float(raw["created_s"]), dict(raw["labels"]))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no volume {name}", hint="inn volume ls lists them") from None
        except (ValueError, TypeError, KeyError) as error:
            return StoredVolume(name, "", None, note=f"{path} is damaged: {error}")

    def create(self, spec: VolumeSpec, fill: Fill = lambda folder: None) -> StoredVolume:
        """Make a volume, which appears whole and filled, or not at all. Raises AlreadyExists, UsageError."""
        name = check_name(spec.name or new_id())
        volume = StoredVolume(name, new_id(), time.time(), dict(spec.labels))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        draft = self._folder / f".{name}.{volume.id}"
        os.mkdir(draft, 0o700)
        try:
            os.mkdir(draft / _DATA, 0o755)
            os.chmod(draft / _DATA, 0o755)  # whatever the umask
            kept = {key: value for key, value in asdict(volume).items() if key != "note"}
            write_file(draft / _FILE, json.dumps(kept))
            fill(str(draft / _DATA))
            _rename(draft, self._folder / name)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return volume

    def take(self, name: str, fill: Fill, is_used: Callable[[], bool], kept: ExitStack) -> bool:
        """Have a volume for a container; say whether it is new.

        It stays there until `kept` is closed. One that is not there is made, filled. One that is empty and that nobody
        uses yet is filled too: there may be processes in the files of one that is used.
        """
        made = ""
        while True:
            try:
                kept.enter_context(locked(self._folder / check_name(name) / _LOCK))
            except FileNotFoundError:
                made = self._made(name, fill) or made
                continue
            is_new = bool(made) and self.get(name).id == made
            if not is_new and self._is_empty(name) and not is_used():
                self._fill(name, fill)
            return is_new

    def remove(self, name: str, users: Callable[[], list[str]]) -> None:
        """Remove a volume that nobody uses. Raises NotFound, Busy."""
        grave = self._folder / f".{check_name(name)}.{new_id()}"
        try:
            with locked(self._folder / name / _LOCK):
                if found := users():
                    few = ", ".join(found[:_MOST_NAMED]) + (" …" if len(found) > _MOST_NAMED else "")
                    who = f"container {few} uses it" if len(found) == 1 else f"containers {few} use it"
                    hint = "remove those first, also when they are stopped: inn rm"
                    raise Busy(f"cannot remove volume {name}: {who}", hint=hint)
                (self._folder / name).rename(grave)
        except FileNotFoundError:
            raise NotFound(f"there is no volume {name}", hint="inn volume ls lists them") from None
        remove_tree(grave, ignore_errors=True)

    def half_made(self) -> list[Path]:
        """Return folders that a crash left behind; true only while nobody is making or removing anything."""
        inside = [path for name in self._names() for path in hidden(self._folder / name)]
        return [*hidden(self._folder), *inside]

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def _made(self, name: str, fill: Fill) -> str:
        try:
            return self.create(VolumeSpec(name), fill).id
        except AlreadyExists:  # somebody was faster
            return ""

    def _is_empty(self, name: str) -> bool:
        with os.scandir(self.folder(name)) as entries:
            return next(entries, None) is None

    def _fill(self, name: str, fill: Fill) -> None:
        """Put a filled folder in the place of the empty one: a crash leaves the one or the other."""
        draft = self._folder / name / f".{_DATA}.{new_id()}"
        os.mkdir(draft, 0o755)
        try:
            shutil.copystat(self.folder(name), draft)
            found = os.stat(self.folder(name))
            os.chown(draft, found.st_uid, found.st_gid)
            fill(str(draft))
            os.rename(draft, self.folder(name))
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _rename(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError as error:
        if not target.exists():
            raise
        raise AlreadyExists(f"there is a volume {target.name} already") from error
