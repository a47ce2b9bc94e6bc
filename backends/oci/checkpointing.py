"""`checkpoint` of `inn oci`: a container's processes go to disk through CRIU, with runc's options and files.

The folder of the images has besides CRIU's own files:

    descriptors.json   what the program's first three descriptors are, as runc writes it
    innkeeper.json     what of the host is mounted in the container, and the folders of its group
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backends.errors import Unsupported
from backends.oci import criu, criu_rpc
from backends.oci.criu_rpc import CriuFailed, Message, Option, Worker
from backends.oci.errors import OciError
from backends.oci.state import Container, write_file

DESCRIPTORS, FACTS = "descriptors.json", "innkeeper.json"
CGROUP_MODES = {"": 0, "ignore": 0, "soft": 3, "full": 4, "strict": 5}
"""--manage-cgroups-mode. The group and its limits are ours; CRIU's way to restore them too, its and runc's default,
fails beside a v2 tree, and changes the options of that tree's mounts on the host."""

_NEW_NETWORK = 0x40000000
_SWITCHES = {
    "leave-running": Option.LEAVE_RUNNING,
    "tcp-established": Option.TCP_ESTABLISHED,
    "tcp-skip-in-flight": Option.TCP_SKIP_IN_FLIGHT,
    "link-remap": Option.LINK_REMAP,
    "ext-unix-sk": Option.EXT_UNIX_SK,
    "shell-job": Option.SHELL_JOB,
    "file-locks": Option.FILE_LOCKS,
    "auto-dedup": Option.AUTO_DEDUP,
    "lazy-pages": Option.LAZY_PAGES,
}


class Asked:
    """The options that checkpoint and restore share."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Raises OciError for a value that none has."""
        self.options = options
        self.images = os.path.abspath(str(options.get("image-path") or "checkpoint"))
        self.work = os.path.abspath(str(options["work-path"])) if options.get("work-path") else ""
        if str(options.get("manage-cgroups-mode") or "") not in CGROUP_MODES:
            raise OciError("invalid manage-cgroups-mode value")
        for name in options.get("empty-ns") or ():
            if name != "network":
                raise OciError(f'namespace "{name}" is not supported')

    def common(self, verb: str, images_fd: int, work_fd: int, config: Mapping[str, Any]) -> list[tuple[int, Any]]:
        """Return CRIU's options for both."""
        found: list[tuple[int, Any]] = [
            (Option.IMAGES_DIR_FD, images_fd),
            (Option.LOG_LEVEL, 4),
            (Option.LOG_FILE, f"{verb}.log"),
            (Option.NOTIFY_SCRIPTS, 1),
            (Option.MANAGE_CGROUPS, 1),
            (Option.MANAGE_CGROUPS_MODE, CGROUP_MODES[str(self.options.get("manage-cgroups-mode") or "")]),
            (Option.ORPHAN_PTS_MASTER, 1),
            # As runc: no addresses and routes are kept, whoever made the network makes it again.
            (Option.EMPTY_NS, _NEW_NETWORK),
        ]
        if work_fd >= 0:
            found.append((Option.WORK_DIR_FD, work_fd))
        found += [(field, 1) for name, field in _SWITCHES.items() if self.options.get(name)]
        file = (config.get("annotations") or {}).get("org.criu.config", "/etc/criu/runc.conf")
        return [*found, (Option.CONFIG_FILE, file)] if file else found

    @contextmanager
    def folders(self) -> Iterator[tuple[int, int]]:
        """Open the folders of the images and of the logs, the latter -1 if there is none of its own."""
        images_fd, work_fd = _open(self.images), -1
        try:
            work_fd = _open(self.work) if self.work else -1
            yield images_fd, work_fd
        finally:
            for fd in {images_fd, work_fd} - {-1}:
                os.close(fd)

    @property
    def logs(self) -> str:
        """The folder of CRIU's log."""
        return self.work or self.images


def checkpoint(container: Container, asked: Asked, *, is_pre_dump: bool = False) -> None:
    """Write the processes to disk; without leave-running or pre-dump they end with it. Raises Unsupported, OciError."""
    program = criu.require(f"checkpoint container {container.id}")
    config = container.config()
    now = container.status()
    if now in ("created", "stopped", "creating"):
        raise OciError(f"Container cannot be checkpointed in {now} state")
    _require_simple(container.id, config)
    os.makedirs(asked.images, 0o700, exist_ok=True)
    with asked.folders() as (images_fd, work_fd):
        options = [*asked.common("dump", images_fd, work_fd, config), *_options(container, asked, config)]
        if not is_pre_dump:
            options += _externals(container, asked)
        _dump(program, criu_rpc.PRE_DUMP if is_pre_dump else criu_rpc.DUMP, options, asked)


def _dump(program: str, kind: int, options: Message, asked: Asked) -> None:
    status_fd = asked.options.get("status-fd")

    def notify(script: str, _: int, taken: list[int]) -> None:
        for fd in taken:
            os.close(fd)
        if script == "status-ready" and status_fd is not None:
            os.write(status_fd, b"\0")
            os.close(status_fd)

    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        worker = Worker(program, [null] * 3, [], lambda: None)
        try:
            worker.call(kind, options, notify)
        finally:
            code = worker.close()
        if code and kind == criu_rpc.DUMP:
            raise CriuFailed(f"exit code {code}")
    except CriuFailed as error:
        raise OciError(f"criu failed: {criu.failure('dump', Path(asked.logs), str(error))}") from error
    finally:
        os.close(null)


def _open(folder: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _require_simple(container_id: str, config: Mapping[str, Any]) -> None:
    """Raise Unsupported for what we could not bring back."""
    for space in config["linux"].get("namespaces") or ():
        if space["type"] == "user":
            raise Unsupported(f"cannot checkpoint container {container_id}: it has users of its own")
        if space["type"] == "pid" and space.get("path"):
            raise Unsupported(f"cannot checkpoint container {container_id}: its processes are in another's namespace")


def _options(container: Container, asked: Asked, config: Mapping[str, Any]) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = [(Option.PID, container.pid), (Option.ROOT, container.state["rootfs"])]
    cgroup = container.state.get("cgroup") or {}
    if cgroup.get("freezer") or cgroup.get("unified"):
        found.append((Option.FREEZE_CGROUP, cgroup.get("freezer") or cgroup["unified"]))
    if asked.options.get("parent-path"):
        found += [(Option.PARENT_IMG, asked.options["parent-path"]), (Option.TRACK_MEM, 1)]
    if asked.options.get("page-server"):
        found.append((Option.PAGE_SERVER, _page_server(str(asked.options["page-server"]))))
    path = network_path(config)
    if path:
        found.append((Option.EXTERNAL, f"net[{os.stat(path).st_ino}]:{NETWORK}"))
    return found


NETWORK = "extRootNetNS"
"""runc's name for a network namespace that somebody else made."""


def network_path(config: Mapping[str, Any]) -> str:
    """Return the path of a network namespace that is not the container's own, or nothing."""
    spaces = config["linux"].get("namespaces") or ()
    return next((str(space.get("path") or "") for space in spaces if space["type"] == "network"), "")


def _page_server(text: str) -> Message:
    address, _, port = text.rpartition(":")
    if not address or not port:
        raise OciError("Use --page-server ADDRESS:PORT to specify page server")
    if not port.isdigit():
        raise OciError("Invalid port number")
    return [(1, address.strip("[]")), (2, int(port))]


def _externals(container: Container, asked: Asked) -> list[tuple[int, Any]]:
    """Tell CRIU what is the host's, and write down what it was."""
    mounts = criu.external_mounts(container.pid)
    facts = {"mounts": mounts, "groups": (container.state.get("cgroup") or {}).get("folders") or {}}
    write_file(f"{asked.images}/{FACTS}", json.dumps(facts))
    write_file(f"{asked.images}/{DESCRIPTORS}", json.dumps(_descriptors(container.pid)))
    return [(Option.EXT_MNT, [(1, point), (2, point)]) for point in mounts]


def _descriptors(pid: int) -> list[str]:
    found = []
    for number in (0, 1, 2):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            found.append("")
    return found
