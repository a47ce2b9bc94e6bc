"""A bundle for an installed runtime: our config.json in the words that it knows, users by number."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError, StartFailed
from backends.kernel import linux, mount_calls
from backends.kernel.account import Account
from backends.native import secrets
from backends.native.secrets import PlaceSecrets
from backends.oci import process as processes
from backends.oci.request import CreateRequest

_VERSION = "1.0.2"
"""Of the specification, as runtimes of the last years know it."""

_ANSWER_BYTES = 65536


def prepare(request: CreateRequest, folder: Path) -> None:
    """Make the root file system and the bundle, in a mount namespace of this process's own.

    Runs in the process that becomes the runtime: no other sees the mounts, and they go with the container.
    """
    linux.unshare(linux.CLONE_NEWNS)
    for step in request.before_mounts:
        step.run()
    config = dict(request.config)
    process, account = dict(config["process"]), account_in(request.root, config["process"], request.user)
    config["process"] = translated(process, account, request.size)
    config["ociVersion"] = _VERSION
    config["root"] = {**config["root"], "path": request.root}
    config["linux"] = {**config["linux"], "cgroupsPath": "/" + config["linux"]["cgroupsPath"].lstrip("/")}
    config["mounts"] = [*config["mounts"], *_secrets(request, folder)]
    (folder / "config.json").write_text(json.dumps(config))


def translated(process: Mapping[str, Any], account: Account, size: tuple[int, int] | None) -> dict[str, Any]:
    """Return a process whose user is given by numbers."""
    found = dict(process)
    user = {"uid": account.uid, "gid": account.gid}
    more = [group for group in account.groups if group != account.gid]
    found["user"] = {**user, **({"additionalGids": more} if more else {})}
    if not any(entry.startswith("HOME=") for entry in found.get("env") or ()):
        found["env"] = [*(found.get("env") or ()), f"HOME={account.home}"]
    if size is not None and found.get("terminal"):
        found["consoleSize"] = {"height": size[0], "width": size[1]}
    return found


def account_in(root: str, process: Mapping[str, Any], user: str | None) -> Account:
    """Look a user up in the files below a root, by a process that sees no others. Raises StartFailed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            try:
                _look_up(root, process, user, theirs)
            finally:
                os._exit(0)
        theirs.close()
        answer = json.loads(ours.recv(_ANSWER_BYTES) or b"{}")
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    if "uid" not in answer:
        raise StartFailed(answer.get("failed") or "its user could not be looked up")
    return Account(answer["uid"], answer["gid"], tuple(answer["groups"]), answer["home"])


def _look_up(root: str, process: Mapping[str, Any], user: str | None, answer: socket.socket) -> None:
    try:
        os.chroot(root)
        os.chdir("/")
        found: dict[str, Any] = asdict(processes.account_of(process, user))
    except (OSError, LookupError, InnkeeperError) as error:
        found = {"failed": str(error.args[0] if isinstance(error, LookupError) else error)}
    answer.send(json.dumps(found).encode())


def _secrets(request: CreateRequest, folder: Path) -> Sequence[Mapping[str, Any]]:
    """Mount the secrets in our own mount namespace and return the bind of them for the runtime."""
    for step in request.in_container:
        if isinstance(step, PlaceSecrets):
            place = folder / "secrets"
            place.mkdir(mode=0o700, exist_ok=True)
            mount = secrets.make_mount(step.secrets, step.fd)
            target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mount_calls.attach(mount, target)
            finally:
                os.close(target)
                os.close(mount)
            options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]
            return [{"destination": secrets.FOLDER, "type": "bind", "source": str(place), "options": options}]
    return []
