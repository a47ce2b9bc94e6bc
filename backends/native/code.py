"""Whether the code that a process has loaded is still what lies on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])


class LoadedCode:
    """The modules of ours that were loaded when it was made, and the Python that runs them."""

    def __init__(self) -> None:
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        ours = [path for path in files if path and path.startswith(f"{ROOT}/backends/")]
        self._files = {path: _stamp(path) for path in (*ours, os.__file__)}

    def is_as_loaded(self, root: object) -> bool:
        """Say whether it is what a client that runs from `root` would load."""
        return root == ROOT and all(_stamp(path) == stamp for path, stamp in self._files.items())


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
