"""Trees of files that a build copies: read, digested and written through descriptors.

Nothing is opened by a path that somebody else could exchange: each entry is opened below the descriptor of its
folder without following links. A digest is of what a copy would be: kinds, modes, owners, contents, links,
attributes; not of times.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from backends.errors import InnkeeperError
from backends.kernel.rooted import open_in_root
from backends.native.build import modes

_BLOCK = 1 << 20
_DEEPEST = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTES = ("user.", "security.capability")

KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@dataclass(slots=True)
class Rules:
    """How entries become what they are in the image."""

    owner: tuple[int, int] | None = None
    """Of all; None: as they have it."""

    mode: str = ""
    """Of all but links, as modes.py reads it; empty: as they have it."""

    with_devices: bool = False
    """Devices and named pipes are copied too: from another stage, not from a context."""

    ignores: Callable[[str], bool] = lambda path: False
    prunes: bool = True
    """Nothing below an ignored folder can be seen."""

    tell: Callable[[int], None] = lambda done: None
    """Told how many bytes more were read."""

    left_out: list[str] = field(default_factory=list)
    """What no copy is made of, and why."""

    def mode_of(self, found: os.stat_result) -> int:
        """Return the permission bits that an entry gets."""
        bits = stat.S_IMODE(found.st_mode)
        return modes.changed(self.mode, bits, is_folder=stat.S_ISDIR(found.st_mode)) if self.mode else bits

    def noted_owner(self, found: os.stat_result) -> tuple[int, int] | None:
        """Return the owner as it counts for a digest: what is asked for is known without."""
        return None if self.owner else (found.st_uid, found.st_gid)

    def owner_of(self, found: os.stat_result) -> tuple[int, int]:
        """Return the owner that an entry gets."""
        return self.owner or (found.st_uid, found.st_gid)


class Tree:
    """Digests entries, and copies them if it has somewhere to put them."""

    def __init__(self, rules: Rules, root_fd: int | None = None) -> None:
        """root_fd is the root of the image; None: nothing is copied."""
        self._rules, self._root = rules, root_fd
        self._digest = hashlib.sha256()
        self._linked: dict[tuple[int, int], str] = {}

    @property
    def digest(self) -> str:
        """Of all that was added so far."""
        return self._digest.hexdigest()

    def note(self, *parts: object) -> None:
        """Add something to the digest."""
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
            self._digest.update(f"{len(data)}:".encode() + data)

    def add(self, folder: int, name: str, path: str, seen: str, depth: int = 0) -> None:
        """Digest, and copy to a path of the image, an entry of a folder with all below it.

        seen is its path in the context, which rules.ignores is asked about.
        """
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if depth > _DEEPEST:
            raise InnkeeperError(f"{seen}: folders are nested deeper than {_DEEPEST}")
        if kind == stat.S_IFDIR:
            with _opened(name, folder) as inner:
                self.add_folder(inner, found, path, seen, depth)
        elif kind == stat.S_IFREG:
            self._add_file(folder, name, path)
        elif kind == stat.S_IFLNK:
            self._add_link(os.readlink(name, dir_fd=folder), found, path)
        elif kind == stat.S_IFSOCK or not self._rules.with_devices:
            self._rules.left_out.append(f"{seen} ({KINDS[kind]})")
        else:
            self._add_node(found, path)

    def add_folder(self, inner: int, found: os.stat_result, path: str, seen: str, depth: int = 0) -> None:
        """The same of a folder that is open."""
        is_seen = not self._rules.ignores(seen)
        if is_seen:
            # The folder that a copy goes to may be there already, and then stays as it is.
            self.note("d", self._rules.mode_of(found), self._rules.noted_owner(found))
            made = self._make_folder(found, path, depth)
        elif self._rules.prunes:
            return
        names = sorted(os.listdir(inner))
        for name in names:
            below = f"{seen}/{name}" if seen else name
            entry = os.stat(name, dir_fd=inner, follow_symlinks=False)
            if self._rules.ignores(below) and (self._rules.prunes or not stat.S_ISDIR(entry.st_mode)):
                continue
            self.note("+", name)
            self.add(inner, name, f"{path}/{name}", below, depth + 1)
        self.note("-")
        if is_seen and self._root is not None and (made or depth):
            fd = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(fd, ns=(found.st_mtime_ns, found.st_mtime_ns))
            finally:
                os.close(fd)

    def _make_folder(self, found: os.stat_result, path: str, depth: int) -> bool:
        """Make a folder, or give one that is there mode and owner, unless it is the one that the copy goes to."""
        if self._root is None:
            return False
        parent, name = self._parent(path)
        try:
            try:
                os.mkdir(name or ".", 0o700, dir_fd=parent)
                is_new = True
            except FileExistsError:
                is_new = False
        finally:
            os.close(parent)
        fd = self._open_folder(path)
        try:
            if is_new or depth:
                os.fchown(fd, *self._rules.owner_of(found))
                os.fchmod(fd, self._rules.mode_of(found))
        finally:
            os.close(fd)
        return is_new

    def _open_folder(self, path: str) -> int:
        assert self._root is not None
        try:
            return open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            raise InnkeeperError(f"{path} is a file in the image: a folder cannot take its place") from None

    def _parent(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the folder that a path of the image is in, and the last name; made if need be."""
        assert self._root is not None
        folder, _, name = path.rstrip("/").rpartition("/")
        try:
            return open_in_root(self._root, folder or "/", os.O_PATH | os.O_DIRECTORY), name
        except FileNotFoundError:
            make_folders(self._root, folder, self._rules.owner or (0, 0))
        except NotADirectoryError:
            raise _no_folder(folder) from None
        return open_in_root(self._root, folder or "/", os.O_PATH | os.O_DIRECTORY), name

    def _add_file(self, folder: int, name: str, path: str) -> None:
        reading = _open_regular(folder, name)
        try:
            self.add_open_file(reading, path)
        finally:
            os.close(reading)

    def add_open_file(self, reading: int, path: str) -> None:
        """Digest a file that is open, and copy it to a path of the image."""
        found = os.fstat(reading)
        attributes = _attributes(reading)
        self.note("f", self._rules.mode_of(found), self._rules.noted_owner(found), found.st_size, attributes)
        with self._placed(path, found) as writing:
            self._copy(reading, writing, found.st_size)
            if writing is None:
                return
            os.fchown(writing, *self._rules.owner_of(found))
            os.fchmod(writing, self._rules.mode_of(found))  # after the owner: chown(2) clears set-id bits
            for key, value in attributes:
                with suppress(OSError):
                    os.setxattr(writing, key, value)
            os.utime(writing, ns=(found.st_mtime_ns, found.st_mtime_ns))

    def digest_file(self, reading: int) -> None:
        """Digest the content of a file that is open, and copy it nowhere."""
        self.note("a", os.fstat(reading).st_size)
        self._copy(reading, None, os.fstat(reading).st_size)

    @contextmanager
    def _placed(self, path: str, found: os.stat_result) -> Iterator[int | None]:
        """Yield a descriptor of a new file to be written; None if nothing is copied, or it is linked already."""
        if self._root is None:
            yield None
            return
        parent, name = self._parent(path)
        try:
            key = found.st_dev, found.st_ino
            self._make_room(parent, name, path)
            if found.st_nlink > 1 and key in self._linked and self._link(self._linked[key], parent, name):
                yield None
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writing = os.open(name, flags, 0o600, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            yield writing
            self._linked[key] = path
        finally:
            os.close(writing)

    def _link(self, first: str, parent: int, name: str) -> bool:
        assert self._root is not None
        fd = open_in_root(self._root, first, os.O_PATH | os.O_NOFOLLOW)
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent, follow_symlinks=True)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _make_room(self, parent: int, name: str, path: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            raise InnkeeperError(f"{path} is a folder in the image: a file cannot take its place") from None

    def _copy(self, reading: int, writing: int | None, size: int) -> None:
        """Digest a file's parts that hold data, with where they are, and write them; holes stay holes."""
        at = 0
        while at < size:
            try:
                begin = os.lseek(reading, at, os.SEEK_DATA)
                end = os.lseek(reading, begin, os.SEEK_HOLE)
            except OSError:  # no data up to the end
                break
            os.lseek(reading, begin, os.SEEK_SET)
            if writing is not None:
                os.lseek(writing, begin, os.SEEK_SET)
            self._digest.update(b"@%d" % begin)
            at = begin
            while at < min(end, size) and (block := os.read(reading, min(_BLOCK, min(end, size) - at))):
                self._digest.update(block)
                at += len(block)
                self._rules.tell(len(block))
                view = memoryview(block)
                while writing is not None and view:
                    view = view[os.write(writing, view) :]
            if at < min(end, size):
                break  # it became shorter meanwhile
        if writing is not None:
            os.ftruncate(writing, size)

    def _add_link(self, to: str, found: os.stat_result, path: str) -> None:
        self.note("l", to, self._rules.noted_owner(found))
        if self._root is None:
            return
        parent, name = self._parent(path)
        try:
            self._make_room(parent, name, path)
            os.symlink(to, name, dir_fd=parent)
            os.chown(name, *self._rules.owner_of(found), dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    def _add_node(self, found: os.stat_result, path: str) -> None:
        self.note("n", found.st_mode, found.st_rdev, self._rules.noted_owner(found))
        if self._root is None:
            return
        parent, name = self._parent(path)
        try:
            self._make_room(parent, name, path)
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=parent)
            os.chown(name, *self._rules.owner_of(found), dir_fd=parent, follow_symlinks=False)
            os.chmod(name, self._rules.mode_of(found), dir_fd=parent)
        finally:
            os.close(parent)


def make_folders(root: int, path: str, owner: tuple[int, int], mode: int = 0o755) -> None:
    """Make a folder of the image with its parents; those that are missing get the owner."""
    from backends.kernel.rooted import make_directory

    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        place = "/" + "/".join(parts[:count])
        try:
            os.close(open_in_root(root, place, os.O_PATH | os.O_DIRECTORY))
            continue
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            raise _no_folder(place) from None
        make_directory(root, place, mode)
        fd = open_in_root(root, place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchown(fd, *owner)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)


def _no_folder(place: str) -> InnkeeperError:
    return InnkeeperError(f"{place} in the image is no folder, nor leads to one", hint="choose another destination")


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    fd = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_regular(folder: int, name: str) -> int:
    """Open a regular file for reading, looked at first: to open a device is an act of its own."""
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise InnkeeperError(f"{name} was exchanged while it was read")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place)


def _attributes(fd: int) -> list[tuple[str, bytes]]:
    try:
        keys = [key for key in os.listxattr(fd) if key.startswith(_ATTRIBUTES)]
        return sorted((key, os.getxattr(fd, key)) for key in keys)
    except OSError:
        return []
