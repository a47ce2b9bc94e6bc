"""The image `host`: this machine's own programs, read-only, with a minimal /etc and none of its secrets.

Its one layer is a skeleton made here; `/usr` is bound from the host read-only. Of the host's /etc only
what programs need to be found and linked is copied: the dynamic linker's cache and Debian's alternatives.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from backends.native.images.image import ImageConfig
from backends.native.network import locked
from backends.native.store import write_file

NAME = "host"

_FOLDERS = {"dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555, "root": 0o700,
            "run": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "var": 0o755, "var/tmp": 0o1777,
            "var/log": 0o755, "var/lib": 0o755, "var/cache": 0o755}  # fmt: skip

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/profile": "PS1='\\u@\\h:\\w\\$ '\n",
    "etc/os-release": 'ID=innkeeper-host\nNAME="Innkeeper host image"\nPRETTY_NAME="Programs of the host, read-only"\n',
}

_FROM_HOST = ("etc/ld.so.cache", "etc/ld.so.conf", "etc/ld.so.conf.d", "etc/alternatives", "etc/protocols",
              "etc/services")  # fmt: skip

_PROGRAM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def image(folder: Path) -> ImageConfig:
    """Return the host image, its skeleton made on first use or when the host's programs changed."""
    skeleton = folder / "rootfs"
    stamp = folder / "stamp"
    wanted = _stamp()
    if not _is_fresh(stamp, wanted):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / "lock"):
            if not _is_fresh(stamp, wanted):
                _build(folder, skeleton)
                write_file(stamp, wanted)
    return ImageConfig(
        name=NAME,
        id="host",
        created_s=stamp.stat().st_mtime,
        layers=[str(skeleton)],
        command=["/bin/sh"],
        mounts=_mounts(),
        note="this machine's /usr, read-only",
    )


def _is_fresh(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _stamp() -> str:
    """A text that changes when the copied parts of the host's /etc do."""
    found = [f"{name} {os.stat('/' + name).st_mtime_ns}" for name in _FROM_HOST if os.path.exists("/" + name)]
    return "\n".join(["2", *found])


def _build(folder: Path, skeleton: Path) -> None:
    draft = folder / f"draft-{os.getpid()}-{time.monotonic_ns()}"
    draft.mkdir(mode=0o755)
    try:
        _fill(draft)
        if skeleton.exists():
            # Containers that run have it as a lower layer: it is moved aside, not deleted under them.
            skeleton.rename(folder / f"old-{time.monotonic_ns()}")
        draft.rename(skeleton)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(root: Path) -> None:
    for name, mode in _FOLDERS.items():
        path = root / name
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for name in _FROM_HOST:
        _copy(Path("/") / name, root / name)
    for name in _PROGRAM_FOLDERS:
        host = Path("/") / name
        if host.is_symlink():
            (root / name).symlink_to(os.readlink(host))
        elif host.is_dir():
            (root / name).mkdir()


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.is_file():
        shutil.copyfile(source, target)


def _mounts() -> list[dict[str, Any]]:
    unmerged = (name for name in _PROGRAM_FOLDERS if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"))
    options = ["rbind", "rprivate", "ro", "nosuid", "nodev"]
    folders = [f"/{name}" for name in ("usr", *unmerged)]
    return [{"destination": path, "type": "bind", "source": path, "options": options} for path in folders]
