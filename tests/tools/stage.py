"""The root file system of an OCI container, really made in a child process, and looked at from inside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from backends.kernel import linux
from backends.kernel.cgroup import detect
from backends.oci import rootfs
from backends.oci.rootfs import Scene

BUSYBOX = Path("/bin/busybox")
MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
_FLAGS = {
    "pid": linux.CLONE_NEWPID,
    "network": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "mount": linux.CLONE_NEWNS,
    "cgroup": linux.CLONE_NEWCGROUP,
}
_TIMEOUT_S = 30

PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}
SYS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}


def mount(*arguments: str | Path) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


class Failed(Exception):
    """A step of the container's init failed; the text is what it said."""


def bind(source: object, destination: str, *options: str, **more: Any) -> dict[str, Any]:
    """Return a bind mount for config.json."""
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", *options], **more}


def tmpfs(destination: str, *options: str) -> dict[str, Any]:
    """Return a tmpfs for config.json."""
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


@dataclass
class Stage:
    """A bundle whose root file system is busybox and empty folders."""

    bundle: Path
    mounts: list[dict[str, Any]] = field(default_factory=lambda: [PROC, DEV, SYS])
    linux: dict[str, Any] = field(default_factory=dict)
    readonly: bool = False
    namespaces: Sequence[str] = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    no_pivot: bool = False
    has_userns: bool = False
    group_paths: Mapping[str, str] = field(default_factory=dict)
    before_pivot: Callable[[], object] = lambda: None
    """Called in init, when its mounts are made and it is not yet in its new root."""

    def __post_init__(self) -> None:
        for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.root / "bin/busybox")

    @property
    def root(self) -> Path:
        """The root file system."""
        return self.bundle / "rootfs"

    def map_users(self) -> None:
        """Use a user namespace, and give the files to its root."""
        self.has_userns = True
        self.linux |= {"uidMappings": MAPS, "gidMappings": MAPS}
        for path in (self.root, *self.root.rglob("*")):
            os.chown(path, 100000, 100000, follow_symlinks=False)

    @contextmanager
    def mounted_on_host(self, place: Path, options: str, source: Path | None = None) -> Iterator[None]:
        """Bind a folder (itself, if no other is given) on place with these options, for a while."""
        mount("--bind", source or place, place)
        try:
            # From no flag on, whatever the folder is on, and strict, so that each option of access times can be seen.
            mount("-o", "remount,bind,rw,dev,suid,exec,diratime,strictatime", place)
            mount("-o", f"remount,bind,{options}", place)
            yield
        finally:
            subprocess.run(["umount", place], check=True)

    def scene(self) -> Scene:
        """Return what the steps follow from."""
        names = [*self.namespaces, *(["user"] if self.has_userns else [])]
        part = {"namespaces": [{"type": name} for name in names], **self.linux}
        config = {"root": {"path": "rootfs", "readonly": self.readonly}, "mounts": self.mounts, "linux": part}
        return Scene(
            json.loads(json.dumps(config)),
            str(self.bundle),
            str(self.root),
            detect().mode,
            self.has_userns,
            self.no_pivot,
            self.group_paths,
        )

    def run(self, script: str) -> str:
        """Make the file system, run a shell line in it and return what it prints. Raises Failed."""
        scene = self.scene()
        with ExitStack() as undone:
            for step in rootfs.runtime_steps(scene):
                step.run()
                undone.callback(step.undo)
            return self._run(scene, script)

    def _run(self, scene: Scene, script: str) -> str:
        fds = rootfs.host_mount_fds(scene)
        output, errors, asking, telling = os.pipe(), os.pipe(), os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(asking[0])
            os.close(telling[1])
            _be_stage(self, scene, fds, script, (output[1], errors[1], asking[1], telling[0]))
        for fd in (*fds.values(), output[1], errors[1], asking[1], telling[0]):
            os.close(fd)
        try:
            if os.read(asking[0], 1):
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{pid}/{name}").write_text("0 100000 65536\n")
            os.close(telling[1])
            os.close(asking[0])
            with os.fdopen(output[0], "rb") as printed, os.fdopen(errors[0], "rb") as wrong:
                text, failure = printed.read().decode("utf-8", "replace"), wrong.read().decode()
        finally:
            os.waitpid(pid, 0)
        if failure:
            raise Failed(failure)
        return text


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A bundle that others can reach. None of its mounts may be left on the host."""
    bundle = Path(tempfile.mkdtemp(prefix="inn-stage-"))
    bundle.chmod(0o711)
    yield Stage(bundle)
    assert str(bundle) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(bundle)


def _be_stage(stage: Stage, scene: Scene, fds: Mapping[int, int], script: str, ours: tuple[int, int, int, int]) -> None:
    """Run in the child: enter the namespaces, fork init and wait for it."""
    output, errors, asking, telling = ours
    with _told_to(errors):
        signal.alarm(_TIMEOUT_S)
        if stage.has_userns:
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(asking, b"m")
        os.close(asking)
        os.read(telling, 1)
        if stage.has_userns:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        linux.unshare(sum(_FLAGS[name] for name in stage.namespaces if name != "cgroup"))
        pid = os.fork()
        if pid == 0:
            _be_init(stage, scene, fds, script, output, errors)
        os.close(output)
        os.waitpid(pid, 0)


def _be_init(stage: Stage, scene: Scene, fds: Mapping[int, int], script: str, output: int, errors: int) -> NoReturn:
    with _told_to(errors):
        os.umask(0o022)
        for step in rootfs.prepare_steps(scene, fds):
            step.run()
        stage.before_pivot()
        if "cgroup" in stage.namespaces:
            linux.unshare(linux.CLONE_NEWCGROUP)
        for step in rootfs.enter_steps(scene):
            step.run()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.set_inheritable(errors, False)
        os.execv("/bin/busybox", ["busybox", "sh", "-c", script])
    raise AssertionError("unreachable")


class _told_to:
    """Write what goes wrong to a descriptor, and end the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            with suppress(OSError):
                os.write(self._fd, (str(error) or "".join(traceback.format_exception(error))).encode())
        os._exit(0)
