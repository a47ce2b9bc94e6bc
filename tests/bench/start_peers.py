"""The other runtimes that a start is measured against, each in a state of its own below one folder.

crun refuses hybrid cgroups, so it (and runc, to be fair) runs in a private mount namespace without the unified
hierarchy. podman and dockerd live in a network namespace of their own: no rule or bridge of theirs is left behind.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.kernel import linux, rtnetlink

Cost = tuple[float, float]
"""Wall and CPU seconds."""

_DOCKERD_S, _COMMAND_S = 60.0, 60.0


class Yard:
    """A process with mount and network namespaces of its own that runs and times commands there."""

    def __init__(self, *, pure_v1: bool = False, own_network: bool = False) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                keep = theirs.fileno()
                os.closerange(3, keep)  # another helper's socket among them, which would never end then
                os.closerange(keep + 1, 1024)
                _enter(pure_v1, own_network)
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def run(self, *command: str) -> Cost:
        """Run a command and return what it cost. Raises RuntimeError if it fails."""
        self._ours.settimeout(_COMMAND_S)
        self._ours.send(json.dumps(command).encode())
        answer = json.loads(self._ours.recv(65536))
        if answer["status"]:
            raise RuntimeError(f"{' '.join(command)}: {answer['status']}: {answer['output']}")
        return answer["wall"], answer["cpu"]

    def close(self) -> None:
        """End it."""
        self._ours.close()
        os.waitpid(self.pid, 0)


def _enter(pure_v1: bool, own_network: bool) -> None:
    linux.unshare(linux.CLONE_NEWNS | (linux.CLONE_NEWNET if own_network else 0))
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    if pure_v1 and os.path.ismount("/sys/fs/cgroup/unified"):
        linux.umount("/sys/fs/cgroup/unified", linux.MNT_DETACH)
    if own_network:
        with rtnetlink.Rtnetlink() as route:
            route.do(rtnetlink.set_up("lo"))


def _serve(sock: socket.socket) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    while request := sock.recv(65536):
        command = json.loads(request)
        output = os.memfd_create("output")
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        began = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
        _, status, used = os.wait4(pid, 0)
        wall = time.perf_counter() - began
        text = os.pread(output, 2000, 0).decode(errors="replace") if status else ""
        os.close(output)
        answer = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "status": status, "output": text}
        sock.send(json.dumps(answer).encode())


def peers_group() -> str:
    """Return the control group that crun's and runc's containers are below."""
    return f"innkeeper-bench-{os.getpid()}"


class Oci:
    """crun or runc on a bundle that asks for what Innkeeper's own config.json asks."""

    def __init__(self, program: str, folder: Path, rootfs: Path, config: dict[str, Any]) -> None:
        self._yard = Yard(pure_v1=True)
        self._bundle = folder / program
        self._bundle.mkdir()
        self._line = [program, *(["--cgroup-manager=cgroupfs"] if program == "crun" else [])]
        self._line += ["--root", str(folder / f"{program}-state"), "run", "--bundle", str(self._bundle)]
        adapted = json.loads(json.dumps(config))
        adapted["ociVersion"] = "1.0.2"  # the newest that crun 1.8 takes
        adapted["root"]["path"] = str(rootfs)
        adapted["linux"]["cgroupsPath"] = f"/{peers_group()}/{program}"
        (self._bundle / "config.json").write_text(json.dumps(adapted))

    def run(self) -> Cost:
        """Run the bundle from beginning to end."""
        return self._yard.run(*self._line, f"bench-{secrets.token_hex(4)}")

    def close(self) -> None:
        """End the helper and remove the group above."""
        self._yard.close()
        for controller in Path("/sys/fs/cgroup").iterdir():
            if (controller / peers_group() / "cpu.shares").exists():
                continue  # --boost's
            with suppress(OSError):
                (controller / peers_group()).rmdir()


class Podman:
    """`podman run`, with storage of its own."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self._yard = Yard(own_network=True)
        self._line = ["podman", "--root", str(folder / "podman"), "--runroot", str(folder / "podman-run"),
                      "--cgroup-manager", "cgroupfs", "--events-backend", "none",
                      "--runtime", _podman_runtime()]  # fmt: skip
        archive = _archive(folder, rootfs)
        self._yard.run(*self._line, "import", str(archive), "bench")

    def run(self, *options: str) -> Cost:
        """Run the image's `true` and remove the container."""
        return self._yard.run(
            *self._line,
            "run",
            "--rm",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
            *options,
            "bench",
            "true",
        )

    def close(self) -> None:
        """Remove the storage's mounts and end the helper."""
        with suppress(RuntimeError):
            self._yard.run(*self._line, "system", "reset", "--force")
        self._yard.close()


def _podman_runtime() -> str:
    """runc: crun does not take hybrid cgroups."""
    return "runc" if shutil.which("runc") else "crun"


class Docker:
    """`docker run` against a dockerd of its own."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self._folder = folder / "docker"
        self._folder.mkdir()
        self._yard = Yard(own_network=True)
        self._client = [_docker_client(), "--host", f"unix://{self._folder}/sock"]
        arguments = [
            "dockerd", "--host", f"unix://{self._folder}/sock", "--data-root", str(self._folder / "data"),
            "--exec-root", str(self._folder / "exec"), "--pidfile", str(self._folder / "pid"),
        ]  # fmt: skip
        with open(self._folder / "log", "wb") as log:
            self._daemon = subprocess.Popen(
                ["nsenter", "--target", str(self._yard.pid), "--mount", "--net", *arguments], stdout=log, stderr=log
            )
        self._wait_until_up()
        self._yard.run(*self._client, "import", str(_archive(folder, rootfs)), "bench")

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _DOCKERD_S
        while True:
            with suppress(RuntimeError):
                self._yard.run(*self._client, "version")
                return
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"dockerd does not come up: {(self._folder / 'log').read_text()[-400:]}")
            time.sleep(0.2)

    def run(self, *options: str) -> Cost:
        """Run the image's `true` and remove the container; the daemon's CPU time counts too."""
        before = self._daemon_cpu_s()
        wall, cpu = self._yard.run(*self._client, "run", "--rm", *options, "bench", "true")
        return wall, cpu + self._daemon_cpu_s() - before

    def _daemon_cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in (self._daemon.pid, *_children(self._daemon.pid)))

    def close(self) -> None:
        """End the daemon."""
        self._daemon.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._daemon.wait(30)
        self._yard.close()


def _docker_client() -> str:
    return next(path for path in ("/usr/bin/docker", "docker") if shutil.which(path))


def cpu_s(pid: int) -> float:
    """Return user and system time of a process and of its children that ended, in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _archive(folder: Path, rootfs: Path) -> Path:
    archive = folder / "rootfs.tar"
    if not archive.exists():
        subprocess.run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], check=True)
    return archive


def oci_peers(folder: Path, rootfs: Path, config: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Return those of crun and runc that are installed and run the bundle."""
    found = {}
    for program in ("crun", "runc"):
        if shutil.which(program):
            peer = Oci(program, folder, rootfs, config)
            try:
                peer.run()
            except RuntimeError as error:
                say(f"{program} left out: {error}")
                peer.close()
                continue
            found[program] = peer
    return found


def engine_peers(folder: Path, rootfs: Path, wanted: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Return those of podman and docker that are installed and come up."""
    found: dict[str, Any] = {}
    for name, kind, programs in (("podman", Podman, ("podman",)), ("docker", Docker, ("dockerd", "docker"))):
        if name in wanted and all(map(shutil.which, programs)):
            try:
                found[name] = kind(folder, rootfs)
                found[name].run()
            except RuntimeError as error:
                say(f"{name} left out: {error}")
                if name in found:
                    found.pop(name).close()
    return found
