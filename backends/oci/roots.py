"""Where the folders of containers are, so that Innkeeper finds those of docker, podman or any other --root.

::

    /run/innkeeper/oci-roots/DEVICE-INODE → ROOT

A link is made with the first container of a root and goes with the last one.
"""

from __future__ import annotations

import os

from backends.oci.state import DRAFT, make_private, run_folder

FOLDER = "oci-roots"


def remember(root: str) -> None:
    """Leave a link to a root; OSError if that cannot be."""
    folder = f"{run_folder()}/{FOLDER}"
    make_private(folder)
    with _Lock(folder):
        link = f"{folder}/{_name(root)}"
        try:
            os.symlink(root, link)
        except FileExistsError:
            if os.readlink(link) != root:
                os.unlink(link)
                os.symlink(root, link)
            return
        _sweep(folder)


def _sweep(folder: str) -> None:
    """Forget roots that somebody removed as a whole."""
    for name in os.listdir(folder):
        link = f"{folder}/{name}"
        if not os.path.isdir(link) and os.path.islink(link):
            os.unlink(link)


def forget_if_empty(root: str) -> None:
    """Remove the link to a root in which no container is left."""
    folder = f"{run_folder()}/{FOLDER}"
    try:
        with _Lock(folder):
            if all(name.startswith(DRAFT) for name in os.listdir(root)):
                os.unlink(f"{folder}/{_name(root)}")
    except FileNotFoundError:
        return


def known(folder: str) -> list[str]:
    """Return the roots that have been used, from a folder of links; those that are gone too."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(os.readlink(f"{folder}/{name}"))
        except OSError:
            continue
    return found


def _name(root: str) -> str:
    found = os.stat(root)
    return f"{found.st_dev:x}-{found.st_ino:x}"


class _Lock:
    """The folder of links for one process at a time: a root must not be forgotten while another starts in it."""

    def __init__(self, folder: str) -> None:
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> None:
        import fcntl

        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
