"""Content by its digest: the blobs of an OCI image layout (image-layout.md, "Blobs").

::

    STATE/images/blobs/sha256/HEX    whole and verified; a file that is there is never written to again
    STATE/images/partial/HEX         what has come of it; locked by who writes it, resumed by the next who wants it
    STATE/images/partial/.ID         of a blob whose digest is known at its end only; worth nothing after a crash
    STATE/images/using.lock          shared by who adds blobs that nothing refers to yet, exclusive for collecting

The locks are flock's: they end with their process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from backends.errors import Busy, Damaged, InnkeeperError, NotFound

if TYPE_CHECKING:
    from hashlib import _Hash

_PREFIX = "sha256:"
_HEX_DIGITS = frozenset("0123456789abcdef")
_BLOCK = 1 << 20


def check_digest(text: object) -> str:
    """Return a digest if it is one that we verify: "sha256:" and 64 digits (descriptor.md). Raises InnkeeperError."""
    if not isinstance(text, str) or not text.startswith(_PREFIX):
        raise InnkeeperError(f"{_shown(text)} is no digest of SHA-256")
    digits = text[len(_PREFIX) :]
    if len(digits) != 64 or not _HEX_DIGITS.issuperset(digits):
        raise InnkeeperError(f"{_shown(text)} is no digest of SHA-256")
    return text


def _shown(text: object) -> str:
    return repr(text)[:100]


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    import hashlib

    return _PREFIX + hashlib.sha256(data).hexdigest()


class Blobs:
    """The blobs of one store. Safe to use from several processes and threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        """Of the image layout."""

    def path(self, digest: str) -> Path:
        """Return where a blob is, or would be. Raises InnkeeperError for what is no digest."""
        return self._folder / "blobs" / "sha256" / check_digest(digest)[len(_PREFIX) :]

    def has(self, digest: str) -> bool:
        """Say whether a blob is here, whole."""
        return self.path(digest).exists()

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading; the caller closes it. Raises NotFound."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFound(f"there is no blob {digest}") from None

    def size(self, digest: str) -> int:
        """Return a blob's length in bytes. Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"there is no blob {digest}") from None

    def read(self, digest: str, limit_bytes: int) -> bytes:
        """Return a whole blob, which must not be longer than the limit. Raises NotFound, InnkeeperError, Damaged.

        What is small enough to be read whole is also small enough to be verified again.
        """
        with self.open(digest) as file:
            data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise InnkeeperError(f"blob {digest} is longer than {limit_bytes} bytes")
        if digest_of(data) != digest:
            raise Damaged(f"blob {digest} is damaged: its content has another digest", hint="fetch the image again")
        return data

    def digests(self) -> Iterator[str]:
        """Yield the digests of all blobs, in no order."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder / "blobs" / "sha256"):
                if len(name) == 64 and _HEX_DIGITS.issuperset(name):
                    yield _PREFIX + name

    def put(self, data: bytes) -> str:
        """Add a blob and return its digest."""
        digest = digest_of(data)
        with self.ingest(digest, len(data)) as ingest:
            if not ingest.is_here:
                ingest.restart()
                ingest.write(data)
            return ingest.commit()

    def ingest(
        self, digest: str | None = None, size: int | None = None, check: Callable[[], None] | None = None
    ) -> Ingest:
        """Return what takes in a blob, to be used with `with`. Raises InnkeeperError.

        With a digest it goes on where an earlier one was cut short (`offset`), and waits while somebody else takes in
        the same blob; then `is_here` may be true, and there is nothing to write. While it waits, `check` is called
        now and then, and may raise Cancelled.
        """
        return Ingest(self, self.prepared(), digest and check_digest(digest), size, check)

    def prepared(self) -> Path:
        """Make the folders, and return the one that blobs are in while they come."""
        (self._folder / "blobs" / "sha256").mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "partial").mkdir(mode=0o700, exist_ok=True)
        return self._folder / "partial"

    def remove(self, digest: str) -> int:
        """Remove a blob, and return the bytes on disk that it had. Only with collecting() held."""
        path = self.path(digest)
        try:
            freed = path.stat().st_blocks * 512
            path.unlink()
        except FileNotFoundError:
            return 0
        return freed

    def partials(self, *, also_resumable: bool = False) -> list[Path]:
        """Return what crashes left of blobs half taken in. Only with collecting() held: else somebody writes them."""
        try:
            names = os.listdir(self._folder / "partial")
        except FileNotFoundError:
            names = []
        drafts = [path for path in self._folder.glob(".*") if path.is_file()]  # of index.json
        return drafts + [self._folder / "partial" / name for name in names if also_resumable or name.startswith(".")]

    @contextmanager
    def using(self) -> Iterator[None]:
        """Hold it from before blobs are added until something refers to them: so long no garbage is collected."""
        with self._locked(fcntl.LOCK_SH, None):
            yield

    @contextmanager
    def collecting(self, timeout_s: float = 10.0) -> Iterator[None]:
        """Hold it to remove what nothing refers to: while nobody adds anything. Raises Busy after the time."""
        with self._locked(fcntl.LOCK_EX, timeout_s):
            yield

    @contextmanager
    def _locked(self, kind: int, timeout_s: float | None) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / "using.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if timeout_s is None:
                fcntl.flock(fd, kind)
            else:
                _flock_within(fd, kind, timeout_s)
            yield
        finally:
            os.close(fd)


def _flock_within(fd: int, kind: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy("images are just being fetched, built or loaded", hint="try again later") from None
            time.sleep(0.01)


class Ingest:
    """A blob on its way in; used with `with`. Left by an exception it stays resumable, if its digest is known."""

    def __init__(
        self,
        blobs: Blobs,
        folder: Path,
        digest: str | None,
        size: int | None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._blobs, self._digest, self._size, self._check = blobs, digest, size, check
        self._path = folder / (digest.removeprefix(_PREFIX) if digest else f".{secrets.token_hex(8)}")
        self._fd = -1
        self._hash: _Hash | None = None
        self.offset = 0
        """Bytes that are here: what comes next belongs there."""

        self.is_here = False
        """The whole blob is in the store; there is nothing to write, and commit() only says so."""

    def __enter__(self) -> Self:
        self._fd = _lock_new(self._path, self._check)
        try:
            if self._digest and self._blobs.has(self._digest):
                self.is_here, self.offset = True, self._blobs.size(self._digest)
                self._path.unlink(missing_ok=True)
            else:
                self._take_up()
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def _take_up(self) -> None:
        import hashlib

        self._hash = hashlib.sha256()
        found = os.fstat(self._fd).st_size
        if self._size is not None and found > self._size:
            return self.restart()
        while block := os.read(self._fd, _BLOCK):
            self._hash.update(block)
            self.offset += len(block)

    def restart(self) -> None:
        """Forget what is here of it, where the source cannot go on in the middle."""
        import hashlib

        if self.is_here:
            return
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash, self.offset = hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        """Take in the next bytes. Raises InnkeeperError if there are more than there should be, OSError (no space)."""
        if self.is_here:
            return
        assert self._hash is not None
        if self._size is not None and self.offset + len(data) > self._size:
            self._spoil(f"blob {self._digest or 'taken in'} is longer than the {self._size} bytes it should have")
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.offset += len(data)

    def commit(self) -> str:
        """Verify it, make it part of the store, and return its digest. Raises InnkeeperError; what is wrong is gone."""
        if self.is_here:
            assert self._digest is not None
            return self._digest
        assert self._hash is not None
        if self._size is not None and self.offset != self._size:
            raise InnkeeperError(
                f"blob {self._digest or 'taken in'} is cut short: {self.offset} bytes of {self._size}"
            )  # and stays resumable
        digest = _PREFIX + self._hash.hexdigest()
        if self._digest and digest != self._digest:
            self._spoil(f"blob {self._digest} is not what it should be: its content has the digest {digest}")
        os.fdatasync(self._fd)
        os.rename(self._path, self._blobs.path(digest))
        self.is_here, self._digest = True, digest
        return digest

    def _spoil(self, text: str) -> None:
        """What is here is wrong, so nobody should go on with it."""
        self._path.unlink(missing_ok=True)
        raise InnkeeperError(text)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.is_here and (self._digest is None or self.offset == 0):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)  # last: the next who waits for this blob finds all in order


def _lock_new(path: Path, check: Callable[[], None] | None = None) -> int:
    """Return a descriptor of a file, made if need be, that nobody else writes; raises what check does meanwhile."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if check is None:
                fcntl.flock(fd, fcntl.LOCK_EX)
            else:
                _flock_checking(fd, check)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(fd)):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its last holder made it a blob, or removed it


def _flock_checking(fd: int, check: Callable[[], None]) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            check()
            time.sleep(0.05)
