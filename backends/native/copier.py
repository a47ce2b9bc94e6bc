"""The process that copies files into and out of a container, started for one copy.

It is given the container's root as a descriptor (of a live one), or mounts it in a mount namespace of its own (of one
that is stopped). It opens everything below that root by descriptors, runs no program and loads no library of the
container, and looks up no names of users: what an image holds is only ever data to it.

On the descriptor `status` it tells {"ok", "name", "is_directory"} or {"error", "kind"}, a line of JSON.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
from contextlib import suppress
from typing import Any

from backends.errors import InnkeeperError, os_error_text
from backends.kernel import linux, mounts
from backends.kernel.tarring import Unpacker, open_inside, pack

_FOLDER = os.O_PATH | os.O_DIRECTORY


def main() -> None:
    """Do the job that the first argument describes."""
    job = json.loads(sys.argv[1])
    status = job["status"]
    try:
        root_fd = job["root"] if job["root"] is not None else _mount(job)
        if job["user_namespace"] is not None:
            _enter(job["user_namespace"])
        if job["op"] == "out":
            _out(root_fd, job["path"], status)
        else:
            _in(root_fd, job["path"])
            _tell(status, {"ok": True})
    except BrokenPipeError:
        os._exit(1)  # whoever wanted it has gone
    except OSError as error:
        text = os_error_text(error) if error.strerror else str(error)
        _tell(status, {"error": text, "kind": type(error).__name__})
        os._exit(1)
    except InnkeeperError as error:
        _tell(status, {"error": error.message, "kind": type(error).__name__})
        os._exit(1)
    except tarfile.TarError as error:
        _tell(status, {"error": f"the archive is damaged: {error}", "kind": "TarError"})
        os._exit(1)


def _tell(status: int, message: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(status, json.dumps(message).encode() + b"\n")


def _mount(job: dict[str, Any]) -> int:
    """Mount the container's layers, and what is bound into them, where nobody else sees it."""
    if job["maps"]:
        from backends.kernel import idmap, mapped_overlay

        uids, gids = map(_ranges, job["maps"])
        job["user_namespace"] = idmap.user_namespace(uids, gids)
        written_as = {path: (_ranges(uids), _ranges(gids)) for path, (uids, gids) in job["written_as"].items()}
        return mapped_overlay.open_overlay(job["layers"], job["upper"], job["work"], uids, gids, written_as)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    mounts.MountOverlay(tuple(job["layers"]), job["upper"], job["work"], job["target"]).run()
    root_fd = os.open(job["target"], _FOLDER | os.O_CLOEXEC)
    for source, destination in job["binds"]:
        with suppress(OSError):  # its place is made when the container starts
            fd = open_inside(root_fd, destination, os.O_PATH)
            linux.mount(source, f"/proc/self/fd/{fd}", "", linux.MS_BIND | linux.MS_REC)
            os.close(fd)
    return root_fd


def _ranges(side: list[list[int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple((inside, outside, count) for inside, outside, count in side)


def _enter(user_namespace: int) -> None:
    """Be root as the container knows it, so that owners are those that it sees."""
    linux.setns(user_namespace, linux.CLONE_NEWUSER)
    with suppress(PermissionError):
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _out(root_fd: int, path: str, status: int) -> None:
    folder, _, base = path.rstrip("/").rpartition("/")
    if path.endswith("/") or base in ("", ".", ".."):
        fd, base, name = open_inside(root_fd, path, _FOLDER), ".", base if base not in ("", "..") else "."
    else:
        fd, name = open_inside(root_fd, folder or "/", _FOLDER), base
    is_directory = stat.S_ISDIR(os.stat(base, dir_fd=fd, follow_symlinks=False).st_mode)
    _tell(status, {"ok": True, "name": name, "is_directory": is_directory})
    with os.fdopen(1, "wb", buffering=0, closefd=False) as out:
        pack(out, fd, base, name)
    _tell(status, {"done": True})


def _in(root_fd: int, path: str) -> None:
    place = f"{path.rstrip('/')}/"
    os.close(open_inside(root_fd, place, _FOLDER))
    unpacker = Unpacker(
        lambda below: open_inside(root_fd, place + below, os.O_RDONLY | os.O_DIRECTORY), keeps_owner=True
    )
    with os.fdopen(0, "rb", buffering=0, closefd=False) as source:
        unpacker.unpack(source)
        while source.read(1024 * 1024):
            continue  # the padding: whoever writes it is not to meet a closed pipe


if __name__ == "__main__":
    main()
