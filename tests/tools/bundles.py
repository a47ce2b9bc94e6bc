"""OCI bundles with a root file system of busybox, and `inn oci` to run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools.needs import facility

_CHECKOUT = Path(__file__).parents[2]
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID"]
_TIMEOUT_S = 60


@facility("busybox")
def _busybox(_: str) -> str:
    return "" if shutil.which("busybox") else "busybox-static is missing"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


def usual_config(*args: str) -> dict[str, Any]:
    """A configuration such as `spec` writes, without a terminal."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(args) or ["true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }


@dataclass(slots=True)
class Bundle:
    """A bundle, and the state folder of a runtime that only it uses."""

    folder: Path
    config: dict[str, Any] = field(default_factory=usual_config)
    _runs: int = 0

    @classmethod
    def make(cls, folder: Path) -> Bundle:
        """Make a bundle with busybox in it, and a user "guest" with a group."""
        rootfs = folder / "rootfs"
        for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "run"):
            (rootfs / name).mkdir(parents=True)
        found = shutil.which("busybox")
        assert found
        shutil.copy(found, rootfs / "bin" / "busybox")
        for applet in subprocess.run([found, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if applet != "busybox":
                (rootfs / "bin" / applet).symlink_to("busybox")
        (rootfs / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n")
        (rootfs / "etc" / "group").write_text("root:x:0:\nguest:x:1000:\nstaff:x:50:guest\n")
        return cls(folder)

    @property
    def process(self) -> dict[str, Any]:
        """`process` of its configuration."""
        return self.config["process"]  # type: ignore[no-any-return]

    @property
    def linux(self) -> dict[str, Any]:
        """`linux` of its configuration."""
        return self.config["linux"]  # type: ignore[no-any-return]

    def sh(self, script: str) -> Answer:
        """Run a shell script in a container of this bundle."""
        self.process["args"] = ["sh", "-c", script]
        return self.run()

    def run(self) -> Answer:
        """Run the container until its end."""
        self.write()
        self._runs += 1
        return self.oci("run", "--bundle", str(self.folder), f"test-{os.getpid()}-{self._runs}")

    def write(self) -> None:
        """Write config.json."""
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def oci(self, *args: str, fds: Sequence[int] = ()) -> Answer:
        """Call `inn oci`."""
        command = [sys.executable, str(_CHECKOUT / "innkeeper.py"), "oci", "--root", str(self.folder / "state"), *args]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, pass_fds=fds
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def remove(self) -> None:
        """End whatever runs of it, and remove its files."""
        for name in self.oci("list", "-q").out.split():
            self.oci("delete", "--force", name)
        shutil.rmtree(self.folder)
