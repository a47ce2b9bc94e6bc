"""Blobs enter the store whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from backends.errors import Busy, Damaged, InnkeeperError, NotFound
from backends.native.images.blobs import Blobs, check_digest


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def half_written(blobs: Blobs, data: bytes, half: int, *, is_known: bool = True) -> None:
    """Begin a blob and lose the connection."""
    with suppress(ConnectionError), blobs.ingest(digest_of(data) if is_known else None) as ingest:
        ingest.write(data[:half])
        raise ConnectionError


def taken_in(blobs: Blobs, digest: str, size: int | None, *parts: bytes) -> str:
    """Take in a blob that comes in parts."""
    with blobs.ingest(digest, size) as ingest:
        for part in parts:
            ingest.write(part)
        return ingest.commit()


def test_what_is_put_in_comes_out(blobs: Blobs) -> None:
    digest = blobs.put(b"hello")

    assert digest == digest_of(b"hello")
    assert blobs.has(digest)
    assert blobs.size(digest) == 5
    assert blobs.read(digest, 5) == b"hello"
    assert list(blobs.digests()) == [digest]
    assert blobs.put(b"hello") == digest


def test_a_blob_with_another_digest_or_size_never_enters(blobs: Blobs, tmp_path: Path) -> None:
    good = digest_of(b"good")
    with pytest.raises(InnkeeperError, match="not what it should be"):
        taken_in(blobs, good, None, b"evil")
    with pytest.raises(InnkeeperError, match="longer than the 4 bytes"):
        taken_in(blobs, good, 4, b"good", b"!")
    assert list(blobs.digests()) == []
    assert os.listdir(tmp_path / "partial") == []


def test_a_blob_cut_short_goes_on_where_it_was(blobs: Blobs) -> None:
    data = os.urandom(3_000_000)
    half_written(blobs, data, 1_234_567)
    with blobs.ingest(digest_of(data), len(data)) as ingest:
        assert ingest.offset == 1_234_567
        ingest.write(data[ingest.offset :])
        assert ingest.commit() == digest_of(data)
    assert blobs.size(digest_of(data)) == len(data)


def test_a_source_that_cannot_go_on_begins_anew(blobs: Blobs) -> None:
    half_written(blobs, b"0123456789", 4)
    with blobs.ingest(digest_of(b"0123456789"), 10) as ingest:
        ingest.restart()
        ingest.write(b"0123456789")
        ingest.commit()
    assert blobs.read(digest_of(b"0123456789"), 10) == b"0123456789"


def test_a_writer_that_is_killed_leaves_no_blob_and_what_can_be_resumed(blobs: Blobs, tmp_path: Path) -> None:
    data = b"x" * 100_000
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom backends.native.images.blobs import Blobs\n"
        f"with Blobs(Path({str(tmp_path)!r})).ingest({digest_of(data)!r}, {len(data)}) as ingest:\n"
        "    ingest.write(b'x' * 70_000)\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    assert not blobs.has(digest_of(data))
    with blobs.ingest(digest_of(data), len(data)) as ingest:
        assert ingest.offset == 70_000
        ingest.write(data[70_000:])
        ingest.commit()
    assert blobs.has(digest_of(data))


def test_a_blob_of_unknown_digest_leaves_nothing_when_it_fails(blobs: Blobs, tmp_path: Path) -> None:
    half_written(blobs, b"half and half", 4, is_known=False)
    assert os.listdir(tmp_path / "partial") == []


def test_who_waits_for_a_blob_that_another_takes_in_finds_it_there(blobs: Blobs) -> None:
    blobs.put(b"twice")
    with blobs.ingest(digest_of(b"twice"), 5) as ingest:
        assert ingest.is_here
        assert ingest.offset == 5
        ingest.write(b"twice")
        assert ingest.commit() == digest_of(b"twice")


def test_garbage_is_not_collected_while_blobs_come_in(blobs: Blobs) -> None:
    with blobs.using(), blobs.using(), pytest.raises(Busy), blobs.collecting(timeout_s=0.02):
        pass
    with blobs.collecting(timeout_s=0.02):
        pass


def test_a_damaged_blob_is_noticed(blobs: Blobs) -> None:
    digest = blobs.put(b"fine")
    blobs.path(digest).write_bytes(b"bad!")
    with pytest.raises(Damaged):
        blobs.read(digest, 100)


def test_what_is_not_here_is_not_found(blobs: Blobs) -> None:
    digest = digest_of(b"nothing")
    with pytest.raises(NotFound):
        blobs.open(digest)
    with pytest.raises(NotFound):
        blobs.size(digest)
    assert not list(blobs.digests())


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:../../etc/passwd", "sha512:" + "a" * 128, None, 3, []]
)
def test_what_is_no_digest_never_becomes_a_path(text: object, blobs: Blobs) -> None:
    with pytest.raises(InnkeeperError, match="no digest"):
        check_digest(text)
    with pytest.raises(InnkeeperError, match="no digest"):
        blobs.has(text)  # type: ignore[arg-type]
