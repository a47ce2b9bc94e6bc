"""Tars become folders in overlay's format, by a process that sees nothing else (unpack.py)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from backends.native import rootless
from backends.native.images.reading import BLOCK, Source
from backends.native.images.strict_json import Malformed
from backends.native.layers.room import Bounds

_ROOT = Path(__file__).resolve().parents[3]
_CODE = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from backends.native.layers import unpack; "
    "unpack.main(sys.argv[1])"
)

_UNMOUNTED_S = 2.0


def unpack_tar(source: Source, draft: Path, below: Sequence[str], bounds: Bounds | None = None) -> None:
    """Fill draft/fs from a tar; below are the folders of the layers below it, top first.

    Raises Malformed, and what source does. The caller removes the draft then.
    """
    for name in ("work", "place"):
        (draft / name).mkdir(mode=0o700)
    request = {
        "target": str(draft / "fs"), "work": str(draft / "work"), "place": str(draft / "place"), "below": list(below),
        "in_userns": rootless.is_inside(), "bounds": asdict(bounds or Bounds()),
    }  # fmt: skip
    # A fresh interpreter, not a fork: this process may have threads, and memory that is none of an archive's business.
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CODE, json.dumps(request)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError), child.stdin:  # it ends early when it knows what is wrong
                while block := source.read(BLOCK):
                    child.stdin.write(block)
        except BaseException:
            child.kill()
            raise
        message = child.stdout.read().decode("utf-8", "replace")
    if message != "ok":
        raise Malformed(f"cannot unpack the layer: {message or 'the unpacker died'}")
    (draft / "place").rmdir()
    _remove_work(draft / "work")


def _remove_work(work: Path) -> None:
    """Remove overlay's scratch folder. The kernel unmounts in its own time, and clears it up then."""
    deadline = time.monotonic() + _UNMOUNTED_S
    while work.exists() and time.monotonic() < deadline:
        shutil.rmtree(work, ignore_errors=True)
        if work.exists():
            time.sleep(0.001)
