"""The image `host` is made once for all state folders of tests, and goes from one to the next.

It has some hundred links, which each test would make and delete again. ext4 gives no inode out anew within five
seconds of its end, and looks at each of those first: half a second of every test, and next to nothing for a user.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTS = {"rootfs", "stamp", "lock"}
_kept: list[Path] = []


@contextmanager
def host_image_in(state_dir: Path) -> Iterator[None]:
    """Put the image into a state folder that is to be, if there is one, and take it out again at the end."""
    place = state_dir / "images" / "host"
    if _kept:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.parent.mkdir()
        shutil.move(_kept.pop(), place)
    yield
    if place.is_dir() and {path.name for path in place.iterdir()} == _PARTS:  # else a test has changed it
        kept = _home() / str(len(_kept))
        shutil.move(place, kept)
        _kept.append(kept)


def _home() -> Path:
    """Return the folder for those that wait, on the file system on which state folders are."""
    if not _homes:
        _homes.append(Path(tempfile.mkdtemp(prefix="inntest-host-")))
        atexit.register(shutil.rmtree, _homes[0], ignore_errors=True)
    return _homes[0]


_homes: list[Path] = []
