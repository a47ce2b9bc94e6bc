"""Unpack a tar stream into the root: a program of its own, started by rootfs.py as `python -I -S unpack.py FOLDER`.

It imports the standard library only, all of it before the chroot, and so runs nothing that the archive brings.
Standard input is the stream; what it prints is "ok", or one line that says what is wrong.
"""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator

_MAX_ENTRIES = 4_000_000


def main(target: str) -> None:
    """Fill an empty folder from standard input."""
    message = "ok"
    try:
        _preload()
        os.chroot(target)
        os.chdir("/")
        os.umask(0)
        _extract()
    except Exception as error:  # the end of a process: it reports and is gone
        message = str(error) or type(error).__name__
    sys.stdout.write(message.replace("\n", " ")[:4000])


def _preload() -> None:
    """What tarfile imports on demand must be here before the chroot."""
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401

    "x".encode("idna")


def _extract() -> None:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*", errorlevel=1) as archive:
        if hasattr(tarfile, "fully_trusted_filter"):
            archive.extraction_filter = tarfile.fully_trusted_filter
        folders = []
        for member in _members(archive):
            archive.extract(member, path="/", numeric_owner=True, set_attrs=not member.isdir())
            _set_xattrs(member)
            if member.isdir():
                folders.append(member)
        for member in reversed(folders):  # deepest last written first: times and read-only modes stay
            path = "/" + member.name
            archive.chown(member, path, numeric_owner=True)
            archive.chmod(member, path)
            archive.utime(member, path)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count >= _MAX_ENTRIES:
            raise ValueError(f"the archive has more than {_MAX_ENTRIES} entries")
        member.name = os.path.normpath("/" + member.name).lstrip("/") or "."
        yield member


def _set_xattrs(member: tarfile.TarInfo) -> None:
    prefix = "SCHILY.xattr."
    for key, value in member.pax_headers.items():
        if key.startswith((prefix + "user.", prefix + "security.capability")):
            data = value.encode("utf-8", "surrogateescape")
            os.setxattr("/" + member.name, key.removeprefix(prefix), data, follow_symlinks=False)


if __name__ == "__main__":
    main(sys.argv[1])
