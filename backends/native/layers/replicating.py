"""Layers are copied while a container writes to them, by a process that looks at nothing else (replica.py)."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from backends.errors import InnkeeperError
from backends.kernel.mounts import KernelStep
from backends.kernel.trees import remove_tree
from backends.trace import Recorder

_ROOT = Path(__file__).resolve().parents[3]
_CODE = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from backends.native.layers import replica; "
    "replica.main(*sys.argv[1:])"
)
_SHORT_S, _MOST_PASSES = 1.0, 4


@dataclass(frozen=True, slots=True)
class CopyLayer(KernelStep):
    """Copy a writable layer exactly, or what has changed in it since the last copy."""

    copy: LayerCopy
    is_live: bool
    kind = "copy"

    def describe(self) -> str:
        while_it = " while it is written to" * self.is_live
        return f"copy the layer {self.copy.source} to {self.copy.target}{while_it}"

    def by_hand(self) -> str:
        return f"rsync -aHAX --sparse --delete {self.copy.source}/ {self.copy.target}/"

    def run(self) -> None:
        self.copy.update(is_live=self.is_live)


class LayerCopy:
    """A copy of a layer in the making. What is not kept at the end of the with statement is removed.

    Whiteouts (devices 0:0), overlay's attributes, hard links and holes are kept, and blocks shared where they can be.
    """

    def __init__(self, source: str, draft: Path, name: str) -> None:
        """draft is a folder that is removed with what is in it unless it is kept; the copy is called `name` there."""
        self.source, self.target, self._draft = source, str(draft / name), draft
        # A fresh interpreter, not a fork: this process may have threads, and others wait for their turn in it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CODE, self.source, self.target],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
            cwd="/", env={},
        )  # fmt: skip

    def follow(self, recorder: Recorder) -> None:
        """Copy the layer while it is written to, again and again until little is left. Raises InnkeeperError."""
        for _ in range(_MOST_PASSES):
            began = time.monotonic()
            recorder.check()
            recorder.run(CopyLayer(self, is_live=True))
            if time.monotonic() - began < _SHORT_S:
                break

    def finish(self, recorder: Recorder) -> Path:
        """Copy the rest while nobody writes, and return the draft, which is the caller's. Raises InnkeeperError."""
        recorder.run(CopyLayer(self, is_live=False))
        return self._draft

    def update(self, *, is_live: bool) -> None:
        """Do one pass. Raises InnkeeperError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write("live\n" if is_live else "last\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
        if answer != "ok":
            raise InnkeeperError(f"cannot copy {self.source}: {answer or 'the process that copies died'}")

    def __enter__(self) -> LayerCopy:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        remove_tree(self._draft, ignore_errors=True)
