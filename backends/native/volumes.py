"""Volumes of a container's own: folders beside its record that no snapshot holds, filled with what its image has there.

::

    STATE/containers/ID/volumes/0 1 …    in the order of the record's `volumes`

A process of its own fills them: it stacks the image's layers where nobody else sees it, opens each folder below them
by descriptors (openat2, RESOLVE_IN_ROOT) and lets the host's cp copy it. Nothing of the image is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError
from backends.kernel import linux, rooted
from backends.kernel.mounts import MountOverlay

_ROOT = Path(__file__).resolve().parents[2]
_CODE = f"import sys; sys.path.append({str(_ROOT)!r}); from backends.native.volumes import main; main()"


def folder_of(container: str, number: int) -> str:
    """Return where a container's volume is kept."""
    return f"{container}/volumes/{number}"


def make(container: str, places: Sequence[str], layers: Sequence[str], *, in_userns: bool) -> None:
    """Make the volumes of a container whose folder this is, with what its layers have there. Raises InnkeeperError."""
    if not places:
        return
    os.mkdir(f"{container}/volumes", 0o755)
    for number in range(len(places)):
        os.mkdir(folder_of(container, number), 0o755)
    folders = {place: folder_of(container, number) for number, place in enumerate(places)}
    fill(f"{container}/rootfs", folders, layers, in_userns=in_userns)


def fill(root: str, folders: Mapping[str, str], layers: Sequence[str], *, in_userns: bool) -> None:
    """Put what layers have at each place into its folder, which gets the owner and mode of what is there.

    root is an empty folder that the layers are stacked at, where nobody else sees it. Raises InnkeeperError.
    """
    job = {"layers": list(layers), "root": root, "places": list(folders), "folders": list(folders.values()),
           "in_userns": in_userns}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _CODE, json.dumps(job)], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", cwd="/", env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
    )  # fmt: skip
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["the process that copies died"])[-1]
        raise InnkeeperError(f"cannot fill {', '.join(folders)} with what the image has there: {reason}")


def copy(source: str, container: str) -> None:
    """Make the volumes of a container as those of another are now, if it has any. Raises InnkeeperError."""
    if not os.path.isdir(f"{source}/volumes"):
        return
    _cp(f"{source}/volumes", f"{container}/volumes")


def main() -> None:
    """Do the job that the first argument describes; what is wrong is the last line on standard error."""
    job = json.loads(sys.argv[1])
    try:
        _fill(job)
    except (OSError, InnkeeperError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def _fill(job: dict[str, Any]) -> None:
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    root = job["layers"][0]
    if len(job["layers"]) > 1:
        root = job["root"]
        MountOverlay(tuple(job["layers"]), "", "", root, job["in_userns"]).run()
    for place, folder in zip(job["places"], job["folders"], strict=True):
        with suppress(FileNotFoundError, NotADirectoryError):  # the image has none there: it stays empty
            fd = rooted.open_in_root(root, place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                _cp(f"/proc/self/fd/{fd}/.", folder, fd)
            finally:
                os.close(fd)


def _cp(source: str, target: str, *fds: int) -> None:
    command = ["cp", "-a", "--reflink=auto", "--sparse=always", "--", source, target]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", pass_fds=fds)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"cp ended with {done.returncode}"])[0]
        raise InnkeeperError(f"cannot copy a volume: {reason}")


if __name__ == "__main__":
    main()
