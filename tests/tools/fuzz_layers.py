"""Looks for layers that should be refused and are not, that reach outside, or that leave something.

    python -m tests.tools.fuzz_layers SECONDS [SEED]

Tars made of nasty entries, and such tars damaged at random, are unpacked on top of a layer with files, folders and
links. Each must be taken whole or refused with one line; nothing outside may change, and nothing half made may stay.
As root. A tar that shows something wrong is kept, and named.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from backends.errors import InnkeeperError
from backends.native.images.manifest import LAYER
from backends.native.layers.store import Layers
from backends.trace import Recorder

_KINDS = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE,
          tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z")  # fmt: skip
_PARTS = ("a", "b", "dir", "file", "up", "abs", ".wh.a", ".wh.dir", ".wh..wh..opq", ".wh..wh.plnk", ".", "")
_BAD_PARTS = ("..", ".wh.", ".wh..", "n" * 255, "n" * 256, "\udc80", "x\ny", "é")
_KEYS = ("mtime", "size", "path", "SCHILY.xattr.user.x", "SCHILY.xattr.security.capability", "uid",
         "SCHILY.xattr.trusted.overlay.opaque", "GNU.sparse.map", "GNU.sparse.major")  # fmt: skip
_VALUES = ("1", "-1", "1e999", "x" * 70000, "0,9,8", "nan")
_ODD = (0, 1, -1, 2**21, 2**31, 2**32 - 1, 2**40, 2**63)


class Fuzz:
    """A store below which is a layer, and beside which is what must not change."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random, self.folder = random.Random(seed), folder
        self.layers = Layers(folder / "state")
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("kept")
        self.base = self._add(self._base(), "")

    def _base(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, kind, link in (
                ("dir", tarfile.DIRTYPE, ""), ("dir/a", tarfile.REGTYPE, ""), ("file", tarfile.REGTYPE, ""),
                ("up", tarfile.SYMTYPE, "../" * 30 + str(self.outside)[1:]),
                ("abs", tarfile.SYMTYPE, f"{self.outside}"),
            ):  # fmt: skip
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname, entry.mode = kind, link, 0o755
                tar.addfile(entry)
        return buffer.getvalue()

    def _add(self, data: bytes, parent: str) -> str:
        diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
        return self.layers.add(diff_id, parent, io.BytesIO(data), LAYER, Recorder("fuzz"))

    def name(self) -> str:
        """Return a path that is likely to hit something."""
        parts = self.random.choices(_PARTS, k=self.random.choice((1, 1, 2, 2, 3, 5)))
        if self.random.random() < 0.05:
            parts.append(self.random.choice(_BAD_PARTS))
        return self.random.choice(("", "", "/", "./")) + "/".join(parts)

    def tar(self) -> bytes:
        """Return a tar of nasty entries, perhaps damaged."""
        rand, buffer = self.random, io.BytesIO()
        form = rand.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
            for _ in range(rand.randint(1, 12)):
                entry = tarfile.TarInfo(self.name())
                entry.type = rand.choice(_KINDS)
                entry.linkname = rand.choice((self.name(), str(self.outside / "precious"), "/etc/passwd"))
                entry.mode = rand.choice((0o755, 0o6777, 0, 0o7777777))
                if rand.random() < 0.1:
                    entry.uid, entry.gid, entry.devmajor = (rand.choice(_ODD) for _ in range(3))
                if form == tarfile.PAX_FORMAT and rand.random() < 0.3:
                    entry.pax_headers = {rand.choice(_KEYS): rand.choice(_VALUES)}
                entry.size = rand.choice((0, 5, 3000)) if entry.type == tarfile.REGTYPE else 0
                try:
                    tar.addfile(entry, io.BytesIO(rand.randbytes(entry.size)))
                except (ValueError, OverflowError, UnicodeError):
                    continue
        data = bytearray(buffer.getvalue())
        for _ in range(rand.choice((0, 0, 0, 1, 3, 20))):
            data[rand.randrange(len(data))] = rand.randrange(256)
        if rand.random() < 0.1:
            del data[rand.randrange(len(data)) :]
        return bytes(data)

    def once(self) -> str:
        """Unpack one; return how it went. Raises AssertionError for what is wrong."""
        data = self.tar()
        kept = self.folder / "last.tar"
        kept.write_bytes(data)
        said = ""
        try:
            self.layers.remove(self._add(data, self.base))
        except InnkeeperError as error:
            said = error.message or "nothing"
        assert "\n" not in said, said
        assert "died" not in said, said
        assert os.listdir(self.outside) == ["precious"]
        assert (self.outside / "precious").read_text() == "kept"
        assert [name for name in os.listdir(self.folder / "state/layers") if name.startswith(".")] == []
        return "refused" if said else "taken"


def run(seconds: float, seed: int, most: int = 10**9) -> Counter[str]:
    """Unpack tars until the time is over; return how often each outcome was. A tar that fails is kept."""
    folder = Path(tempfile.mkdtemp(prefix="inn-fuzz-layers-"))
    outcomes: Counter[str] = Counter()
    try:
        fuzz = Fuzz(folder, seed)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and sum(outcomes.values()) < most:
            outcomes[fuzz.once()] += 1
    except BaseException as error:
        found = tempfile.mkdtemp(prefix="inn-fuzz-found-")
        shutil.copy(folder / "last.tar", found)
        error.add_note(f"seed {seed}; the tar is in {found}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcomes


if __name__ == "__main__":
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {chosen}: {dict(run(float(sys.argv[1]), chosen))}")
