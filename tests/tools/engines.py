"""docker and podman of a test's own, with `inn-oci` as their runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from tests.tools.needs import PROGRAMS_PATH as _PATH
from tests.tools.waiting import wait_until

RUNTIME = Path(__file__).parents[2] / "inn-oci"
_TIMEOUT_S = 60


class Said:
    """What a command said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"code {self.code}, out {self.out!r}, err {self.err!r}"


class Engine(ABC):
    """A container engine whose every file is in one folder."""

    def __init__(self, prefix: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        self._environment = dict(os.environ)

    @abstractmethod
    def words(self) -> list[str]:
        """Return how the engine is called."""

    def __call__(self, *words: str, text: str | None = None) -> Said:
        command = [*self.words(), *words]
        source = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=self._environment, **source
        )
        return Said(done)

    def in_terminal(self, line: str) -> Said:
        """Run a shell line of the engine's, "$E run -t …", with a terminal: script(1) makes one."""
        environment = {**self._environment, "E": " ".join(self.words())}
        command = ["script", "-qec", line, "/dev/null"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment
        )
        return Said(done)

    def image(self) -> Path:
        """Return a tar of a root file system of busybox."""
        busybox = shutil.which("busybox")
        assert busybox
        path = self.folder / "image.tar"
        applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        with tarfile.open(path, "w") as tar:
            tar.add(busybox, "bin/busybox")
            for applet in applets:
                if applet != "busybox":
                    link = tarfile.TarInfo(f"bin/{applet}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(link)
            for name in ("etc", "tmp", "proc", "sys", "dev", "root"):
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(folder)
        return path

    def mounts(self) -> list[str]:
        """Return what is mounted below its folder."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [path for path in (line.split()[4] for line in lines) if path.startswith(str(self.folder))]

    def processes(self) -> list[str]:
        """Return the command lines of processes that have its folder in them."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in text:
                found.append(text)
        return found

    def remove(self) -> None:
        """Remove its files; what it mounted must be gone."""
        for path in sorted(self.mounts(), reverse=True):
            subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(self.folder)


class Docker(Engine):
    """A dockerd without networks of its own."""

    def __init__(self) -> None:
        super().__init__("inn-docker-")
        self._log = (self.folder / "log").open("w")
        command = [
            "dockerd", f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec", f"--host=unix://{self.folder}/sock",
            f"--pidfile={self.folder}/pid", "--iptables=false", "--ip6tables=false", "--bridge=none",
            f"--config-file={self.folder}/none.json",
            f"--add-runtime=innkeeper={RUNTIME}", "--default-runtime=innkeeper", "--log-level=warn",
        ]  # fmt: skip
        (self.folder / "none.json").write_text("{}")
        self._daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env={**os.environ, "PATH": _PATH}, start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: self("version").code == 0, timeout_s=30, what=f"dockerd; {self.folder}/log says why")
        done = self("import", str(self.image()), "box")
        assert done.code == 0, done

    def words(self) -> list[str]:
        return ["docker", "--host", f"unix://{self.folder}/sock", "--config", str(self.folder / "client")]

    def remove(self) -> None:
        ids = self("ps", "-aq").out.split()
        if ids:
            self("rm", "-f", *ids)
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(30)
        self._log.close()
        super().remove()


class Podman(Engine):
    """podman with a store of its own."""

    def __init__(self) -> None:
        super().__init__("inn-podman-")
        config = self.folder / "containers.conf"
        # podman's own limits are above what a host without CAP_SYS_RESOURCE may give.
        config.write_text('[containers]\ndefault_ulimits = ["nofile=1024:2048", "nproc=4096:4096"]\n')
        self._environment |= {"CONTAINERS_CONF": str(config), "PATH": _PATH}
        done = self("import", str(self.image()), "box")
        assert done.code == 0, done

    def words(self) -> list[str]:
        return [
            "podman", f"--root={self.folder}/root", f"--runroot={self.folder}/runroot", f"--tmpdir={self.folder}/tmp",
            f"--runtime={RUNTIME}", "--cgroup-manager=cgroupfs", "--events-backend=file",
            f"--storage-driver={_driver()}",
        ]  # fmt: skip

    def remove(self) -> None:
        self("rm", "--all", "--force", "--time", "0")
        self("rmi", "--all", "--force")
        super().remove()


def _driver() -> str:
    return "overlay" if "overlay" in Path("/proc/filesystems").read_text().split() else "vfs"


def inspect(engine: Engine, name: str, path: str) -> str:
    """Return a field of what the engine knows of a container: "State.ExitCode"."""
    found = json.loads(engine("inspect", name).out)[0]
    for key in path.split("."):
        found = found[key]
    return str(found)
