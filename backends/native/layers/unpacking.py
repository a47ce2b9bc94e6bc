"""Tars become folders, so that nothing in them reaches outside.

The child that unpacks (unpack.py) chroots into the empty target first: `..`, absolute paths, symlinks and hard
links of a hostile archive can then only hurt the archive's own tree.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from backends.native import rootless
from backends.native.images.reading import BLOCK, Source
from backends.native.images.strict_json import Malformed
from backends.native.layers import unpack


def unpack_tar(source: Source, target: str, lowers: Sequence[str] = ()) -> None:
    """Fill an empty folder from a tar, whose whiteouts become overlayfs's. Raises Malformed, and what source does.

    lowers are the folders of the layers below, top first.
    """
    opaque = "user.overlay.opaque" if rootless.is_inside() else "trusted.overlay.opaque"
    # A fresh interpreter, not a fork: this process may have threads, and memory that is none of an archive's business.
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", unpack.__file__, target, opaque, *lowers],
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
