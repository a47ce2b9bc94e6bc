"""What `--init` puts before the program: our own small first process, or the host's on other machines."""

from __future__ import annotations

import os
from pathlib import Path

from backends.container import ContainerSpec
from backends.errors import Unsupported, UsageError
from backends.native.options.mounts import user_mounts

PLACE = "/dev/init"
"""Where it is in the container: /dev is always a fresh file system, so the image is not touched."""

_OF_THE_HOST = (
    ("/usr/bin/catatonit", ["--"]),
    ("/usr/libexec/podman/catatonit", ["--"]),
    ("/usr/bin/tini-static", ["-s", "--"]),
    ("/usr/bin/docker-init", ["-s", "--"]),
)
"""Static ones: what links to libraries finds none in a container."""


def check(asked: ContainerSpec) -> None:
    """Raise UsageError or Unsupported where it cannot be had."""
    if not asked.init:
        return
    if any(mount["destination"] in ("/dev", PLACE) for mount in user_mounts(asked)):
        raise UsageError(f"--init and a mount on /dev do not go together: the first process is {PLACE}")
    arguments()


def content() -> bytes:
    """Return the program's bytes. Each container gets a file of its own, which none can change for another."""
    if not _is_ours():
        return Path(_found()[0]).read_bytes()
    from backends.native.reaper import program  # only few containers have one

    return program.executable()


def arguments() -> list[str]:
    """Return the words to put before the program's. Raises Unsupported."""
    return [PLACE, *([] if _is_ours() else _found()[1])]


def _is_ours() -> bool:
    return os.uname().machine == "x86_64"


def _found() -> tuple[str, list[str]]:
    for path, options in _OF_THE_HOST:
        if os.access(path, os.X_OK):
            return path, options
    text = f"--init: there is no first process for {os.uname().machine} here"
    raise Unsupported(text, hint="install catatonit or tini-static")
