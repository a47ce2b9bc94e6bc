"""`restore` of `inn oci`: CRIU brings processes back into a group and a root that we make as for a new container."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends.errors import StartFailed, Unsupported
from backends.kernel import linux, netlink
from backends.kernel.cgroup import Cgroup
from backends.oci import criu, criu_rpc, hooks, rootfs, steps, terminal
from backends.oci.checkpointing import DESCRIPTORS, FACTS, NETWORK, Asked, network_path
from backends.oci.creating import Creation
from backends.oci.criu_rpc import CriuFailed, Option, Worker
from backends.oci.errors import OciError
from backends.oci.request import Created, CreateRequest
from backends.oci.stage import Namespaces
from backends.oci.state import Container
from backends.oci.work import Work
from backends.trace import Recorder

_CRIU_ROOT = "criu-root"
_JOINED = {"mount": "mnt", "ipc": "ipc", "uts": "uts", "time": "time"}
"""Namespaces of others that CRIU can put processes into, by CRIU's names."""


class Restoration(Creation):
    """One `restore`: as a creation, but for where the processes come from."""

    asked: Asked
    """Set before run()."""

    def run(self, recorder: Recorder) -> tuple[Container, Created]:
        """See there."""
        spaces = self.bundle.config["linux"].setdefault("namespaces", [])
        if os.path.exists("/proc/self/ns/time") and all(space["type"] != "time" for space in spaces):
            spaces.append({"type": "time"})  # CRIU keeps the clocks going on: those who exec are to see the same
        return super().run(recorder)

    def _born(self, container: Container, group: Cgroup | None, sockets: int, recorder: Recorder) -> Created:
        """Bring the processes back instead of making one."""
        program = criu.require(f"restore container {self.id}")
        request = self._request(container, group, sockets)
        facts = _facts(self.asked.images)
        if group is None:
            raise Unsupported(f"cannot restore container {self.id}: it has no control group")
        work = Work(recorder)
        try:
            work.run(steps.group_steps(request))
            _prepare(request)
            created = _Restoring(program, request, self.asked, facts, container).run()
            os.unlink(container.fifo)  # it waits for no start
            return created
        except CriuFailed as error:
            work.undo()
            said = criu.failure("restore", Path(self.asked.logs), str(error))
            raise StartFailed(f"criu failed: {said}") from error
        except BaseException:
            work.undo()
            raise


def _facts(images: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (FACTS, DESCRIPTORS):
        try:
            found[name] = json.loads(Path(images, name).read_text())
        except (OSError, ValueError) as error:
            raise OciError(f"no checkpoint of this runtime in {images}: {error}") from error
    return {**found[FACTS], "descriptors": found[DESCRIPTORS]}


def _prepare(request: CreateRequest) -> None:
    """Make the folders and files that something is mounted on, by making all mounts where nobody sees them."""

    def run() -> None:
        linux.unshare(linux.CLONE_NEWNS)
        scene = steps.scene_of(request, Namespaces.of(request.config))
        for step in rootfs.prepare_steps(scene, {}):
            step.run()

    _in_fork(run)


def _in_fork(act: Callable[[], None]) -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except Exception as error:  # the end of a forked process
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    if text:
        raise StartFailed(text)


class _Restoring:
    """CRIU's work for one container."""

    def __init__(
        self, program: str, request: CreateRequest, asked: Asked, facts: Mapping[str, Any], container: Container
    ) -> None:
        self._program, self._request, self._asked = program, request, asked
        self._facts, self._container = facts, container
        self._root = f"{container.folder}/{_CRIU_ROOT}"
        self._master: int | None = None
        self._fds: list[int] = []

    def run(self) -> Created:
        """Raises CriuFailed, InnkeeperError."""
        os.makedirs(self._root, 0o755, exist_ok=True)
        try:
            with self._asked.folders() as folders:
                pid = self._restore(self._options(*folders))
        except BaseException:
            if self._master is not None:
                os.close(self._master)
            raise
        finally:
            for fd in self._fds:
                os.close(fd)
            os.rmdir(self._root)
        return Created(pid, os.pidfd_open(pid), self._master)

    def _restore(self, options: list[tuple[int, Any]]) -> int:
        worker = Worker(self._program, self._request.stdio, self._fds, self._enter)
        try:
            groups = [(Option.CG_ROOT, [(1, names), (2, path)]) for names, path in _groups(worker.pid)]
            pid = worker.call(criu_rpc.RESTORE, [*options, *groups], self._notify)
        finally:
            code = worker.close()
        if code:
            raise CriuFailed(f"exit code {code}")
        return pid

    def _enter(self) -> None:
        """Run in the process that becomes CRIU: be in the group, and see the root as a mount, as CRIU wants it."""
        terminal.reset_signals()
        assert self._request.group is not None
        self._request.group.enter(os.getpid())
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        linux.mount(self._request.root, self._root, "", linux.MS_BIND | linux.MS_REC)

    def _options(self, images_fd: int, work_fd: int) -> list[tuple[int, Any]]:
        config, asked = self._request.config, self._asked
        found = [
            *asked.common("restore", images_fd, work_fd, config),
            (Option.EVASIVE_DEVICES, 1),
            (Option.RST_SIBLING, 1),
            (Option.ROOT, self._root),
        ]
        for name, field in (("lsm-profile", Option.LSM_PROFILE), ("lsm-mount-context", Option.LSM_MOUNT_CONTEXT)):
            if asked.options.get(name):
                found.append((field, asked.options[name]))
        found += [(Option.EXT_MNT, [(1, point), (2, source)]) for point, source in self._mounts().items()]
        for number, name in enumerate(self._facts["descriptors"]):
            if name.startswith("pipe:"):
                found.append((Option.INHERIT_FD, [(1, name), (2, number)]))
        return [*found, *self._namespaces(config)]

    def _give(self, fd: int) -> int:
        """Have CRIU inherit a descriptor, and return its number there."""
        self._fds.append(fd)
        return criu_rpc.SOCKET_FD + len(self._fds)

    def _namespaces(self, config: Mapping[str, Any]) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        path = network_path(config)
        if path:
            try:
                fd = self._give(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                raise OciError(f"Requested network namespace {path} does not exist") from error
            found.append((Option.INHERIT_FD, [(1, NETWORK), (2, fd)]))
        for space in config["linux"].get("namespaces") or ():
            if space.get("path") and space["type"] in _JOINED:
                found.append((Option.JOIN_NS, [(1, _JOINED[space["type"]]), (2, space["path"])]))
        return found

    def _mounts(self) -> dict[str, str]:
        """Return where each mount that is the host's comes from, here and now."""
        config, bundle = self._request.config, self._request.bundle
        binds = {
            os.path.normpath(f"/{mount['destination']}"): os.path.join(bundle, mount["source"])
            for mount in config.get("mounts") or ()
            if {"bind", "rbind"} & set(mount.get("options") or ())
        }
        return {point: binds.get(point) or self._moved(source) for point, source in self._facts["mounts"].items()}

    def _moved(self, source: str) -> str:
        """A group that was the container's is now the one that it gets."""
        assert self._request.group is not None
        now = self._request.group.directories
        for mount, folder in (self._facts.get("groups") or {}).items():
            if mount in now and (source == folder or source.startswith(f"{folder}/")):
                return str(now[mount]) + source.removeprefix(folder)
        return source

    def _notify(self, script: str, pid: int, fds: list[int]) -> None:
        if script == "orphan-pts-master" and fds:
            self._take_terminal(fds.pop())
        elif script == "setup-namespaces":
            self._set_up(pid)
        for fd in fds:
            os.close(fd)

    def _take_terminal(self, master: int) -> None:
        if self._request.console is None:
            self._master = master
            return
        try:
            terminal.send_master(self._request.console, master)
        finally:
            os.close(master)

    def _set_up(self, pid: int) -> None:
        request = self._request
        spaces = Namespaces.of(request.config)
        if "network" in spaces.new:
            _in_fork(lambda: _loopback_of(pid))
        for kind in ("prestart", "createRuntime"):
            if (request.config.get("hooks") or {}).get(kind):
                hooks.run(request.config, kind, request.state("creating", pid), folder=request.bundle)


def _loopback_of(pid: int) -> None:
    space = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(space, linux.CLONE_NEWNET)
    netlink.LoopbackUp().run()


def _groups(pid: int) -> list[tuple[str, str]]:
    """Return (controllers, path) of a process's groups."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return [(names, path) for _, names, path in (line.split(":", 2) for line in lines)]
