"""Copying between the host and a guest by docker's rules for what is a folder and what is not.

SRC a file:    DST missing -> a file of that name; a file -> replaced; a folder -> into it, under SRC's name.
SRC a folder:  DST missing -> made, with SRC's content; a file -> refused; a folder -> into it, under SRC's name,
               or its content alone where SRC ends with "/.".
"""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from backends.capabilities import Copying
from backends.container import Archive
from backends.errors import InnkeeperError, NotFound, UsageError, os_error_text
from backends.kernel import linux
from backends.kernel.tarring import Unpacker, pack
from backends.model import GuestRef
from backends.trace import Recorder

_MOST_LINKS = 40


def into_guest(
    backend: Copying, ref: GuestRef, recorder: Recorder, source: str | BinaryIO, path: str, *, follow: bool = False
) -> None:
    """Copy a path of the host, or a tar stream, into a guest. Raises NotFound, UsageError, InnkeeperError."""
    if not isinstance(source, str):
        backend.copy_in(ref, path, source, recorder)
        return
    source = posixpath.realpath(source) + source[len(source.rstrip("/.")) :] if follow else source
    is_directory = _is_host_directory(source)
    folder, name = _place_in_guest(backend, ref, source, path, is_directory=is_directory)
    _feed(source, name, lambda stream: backend.copy_in(ref, folder, stream, recorder))


def out_of_guest(
    backend: Copying,
    ref: GuestRef,
    path: str,
    target: str | BinaryIO,
    *,
    follow: bool = False,
    keeps_owner: bool = False,
) -> None:
    """Copy a path of a guest to the host, or as a tar into a stream. Raises NotFound, UsageError, InnkeeperError."""
    archive = _followed(backend, ref, path) if follow else backend.copy_out(ref, path)
    with archive.stream:
        if not isinstance(target, str):
            while block := archive.stream.read(1024 * 1024):
                target.write(block)
            return
        folder, name = _place_on_host(target, archive, path)
        _unpack(archive, folder, name, keeps_owner=keeps_owner)


# ------------------------------------------------------------------ into a guest


def _is_host_directory(path: str) -> bool:
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except NotADirectoryError as error:
        raise UsageError(f"cannot copy {path}: it is no folder") from error
    except OSError as error:
        kind = NotFound if isinstance(error, FileNotFoundError) else InnkeeperError
        raise kind(f"cannot copy {path}: {error.strerror}") from error
    return is_directory


def _place_in_guest(backend: Copying, ref: GuestRef, source: str, path: str, *, is_directory: bool) -> tuple[str, str]:
    """Return the folder in the guest, and the name that the top of the archive has there."""
    path = path if path.startswith("/") else f"/{path}"
    if _is_guest_directory(backend, ref, path):
        if is_directory and _means_content(source):
            return path, "."
        return path, posixpath.basename(posixpath.abspath(source))
    final = _final_place(backend, ref, path)
    existing = _look(backend, ref, final)
    if existing is not None and is_directory:
        raise UsageError(f"cannot copy the folder {source}: {path} in the guest is a file")
    if path.endswith(("/", "/.")) and not (is_directory and existing is None):
        raise NotFound(f"cannot copy {source}: there is no folder {path} in the guest")
    folder, name = posixpath.split(final.rstrip("/"))
    if not _is_guest_directory(backend, ref, folder):
        raise NotFound(f"cannot copy {source}: there is no folder {folder} in the guest")
    return folder, name


def _means_content(path: str) -> bool:
    return path.endswith("/.") or path == "."


def _is_guest_directory(backend: Copying, ref: GuestRef, path: str) -> bool:
    return _look(backend, ref, path.rstrip("/") + "/.") is not None


def _look(backend: Copying, ref: GuestRef, path: str) -> tarfile.TarInfo | None:
    """Return what a path of the guest is; None if it is not there."""
    try:
        archive = backend.copy_out(ref, path)
    except NotFound:
        return None
    with archive.stream, tarfile.open(fileobj=archive.stream, mode="r|") as tar:
        return tar.next()


def _final_place(backend: Copying, ref: GuestRef, path: str) -> str:
    """Follow links at the end of a path in the guest."""
    for _ in range(_MOST_LINKS):
        found = _look(backend, ref, path.rstrip("/"))
        if found is None or not found.issym():
            return path
        path = posixpath.join(posixpath.dirname(path.rstrip("/")), found.linkname)
    raise InnkeeperError(f"cannot copy to {path}: too many links")


def _feed(source: str, name: str, give: Callable[[BinaryIO], None]) -> None:
    """Pack a path of the host on a thread of its own while the stream is given away."""
    reading, writing = os.pipe()
    errors: list[OSError] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb") as out:
                _pack_host(source, name, out)
        except BrokenPipeError:
            return  # the other side says why it stopped
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=write, name="pack", daemon=True)
    with os.fdopen(reading, "rb") as stream:
        thread.start()
        try:
            give(stream)
        except InnkeeperError:
            if not errors:
                raise
    thread.join()
    if errors:
        raise InnkeeperError(f"cannot copy {source}: {os_error_text(errors[0])}") from errors[0]


def _pack_host(source: str, name: str, out: BinaryIO) -> None:
    path = posixpath.abspath(source)
    folder = os.open(posixpath.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        pack(out, folder, posixpath.basename(path) or ".", name)
    finally:
        os.close(folder)


# ------------------------------------------------------------------ out of a guest


def _followed(backend: Copying, ref: GuestRef, path: str) -> Archive:
    return backend.copy_out(ref, _final_place(backend, ref, path if path.startswith("/") else f"/{path}"))


def _place_on_host(target: str, archive: Archive, path: str) -> tuple[str, str]:
    """Return the folder on the host, and the name that the top of the archive gets there."""
    if Path(target).is_dir():
        means_content = archive.is_directory and archive.name == "."
        return target, "." if means_content else archive.name
    if archive.is_directory and posixpath.lexists(target):
        raise UsageError(f"cannot copy the folder {path}: {target} is a file")
    if target.endswith(("/", "/.")) and not archive.is_directory:
        raise NotFound(f"cannot copy {path}: there is no folder {target}")
    folder, name = posixpath.split(posixpath.realpath(target.rstrip("/")))
    if not Path(folder).is_dir():
        raise NotFound(f"cannot copy {path}: there is no folder {folder}")
    return folder, name


def _unpack(archive: Archive, folder: str, name: str, *, keeps_owner: bool) -> None:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def open_folder(below: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return linux.openat2(root, below, flags, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS)

    def rename(entry: str) -> str:
        top, slash, rest = entry.partition("/")
        return f"{name}{slash}{rest}" if top == archive.name else entry

    try:
        buffered = io.BufferedReader(cast("io.RawIOBase", archive.stream), 1024 * 1024)
        Unpacker(open_folder, keeps_owner=keeps_owner).unpack(buffered, rename)
        with suppress(ValueError):
            buffered.detach()
    except (OSError, tarfile.TarError) as error:
        text = os_error_text(error) if isinstance(error, OSError) and error.strerror else str(error)
        raise InnkeeperError(f"cannot copy to {folder}: {text}") from error
    finally:
        os.close(root)
