"""Unpacking into a folder in which somebody else renames meanwhile."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from backends.kernel import tarring


def test_a_link_put_in_the_place_of_a_new_fifo_gets_neither_its_mode_nor_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("")
    outside.chmod(0o600)
    make = os.mknod

    def make_and_exchange(name: str, mode: int, device: int, *, dir_fd: int) -> None:
        make(name, mode, device, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mknod", make_and_exchange)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("pipe")
        entry.type, entry.mode = tarfile.FIFOTYPE, 0o777
        archive.addfile(entry)
    stream.seek(0)
    unpacker = tarring.Unpacker(lambda below: os.open(folder / below, os.O_RDONLY), keeps_owner=False)
    with pytest.raises(OSError, match="exchanged"):
        unpacker.unpack(stream)
    assert outside.stat().st_mode & 0o777 == 0o600


def test_a_special_file_has_the_mode_of_the_archive_whatever_the_umask(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("pipe")
        entry.type, entry.mode = tarfile.FIFOTYPE, 0o622
        archive.addfile(entry)
    stream.seek(0)
    tarring.Unpacker(lambda below: os.open(tmp_path / below, os.O_RDONLY), keeps_owner=False).unpack(stream)
    assert (tmp_path / "pipe").stat().st_mode & 0o777 == 0o622
