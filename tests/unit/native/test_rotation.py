"""What a reader gets of a file that grows while it is read."""

from __future__ import annotations

import io
from collections.abc import Sequence

from backends.native.rotation import whole_blocks


class Growing(io.RawIOBase):
    """A file that has more at each read; an empty piece is an end that is reached for the moment."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces, self._at = list(pieces), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset if whence == io.SEEK_SET else self._at + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._pieces.pop(0) if self._pieces else b""
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def blocks(*pieces: bytes) -> list[list[bytes]]:
    """Return what is read of a file that grows so."""
    with io.BufferedReader(Growing(pieces)) as file:
        return list(whole_blocks(file, 0))


def test_a_line_of_which_the_first_half_was_there_comes_as_one() -> None:
    assert blocks(b"one\ntw", b"", b"o\nthree\n") == [[b"one", b"two", b"three"]]


def test_a_line_that_is_not_whole_yet_is_left_for_the_next_time() -> None:
    growing = Growing([b"one\ntw"])
    with io.BufferedReader(growing) as file:
        assert list(whole_blocks(file, 0)) == [[b"one"]]
        assert file.tell() == 4


def test_empty_lines_are_lines() -> None:
    assert blocks(b"\n\none\n\n") == [[b"", b"", b"one", b""]]
