"""Run a command under a Linux of its own: user-mode-linux, a kernel that is a process.

    python tests/tools/uml.py [--cgroup v2|v1|hybrid] [--timeout S] [--memory SIZE] [--fetch FILE] -- COMMAND…

Debian's package user-mode-linux brings Linux 6.1 for this. The command sees this machine's files read-only
(hostfs), with tmpfs on /tmp, /run and the like, and cgroups mounted as asked, whatever this machine's own
are. What it writes to /run/host/fetched is copied to FILE at the end. The command runs in the current
folder, with one CPU, as root, without a network; INNKEEPER_TEST_DISK names a folder there on a block device
(ubda), for I/O limits. Output is streamed, the exit code is the command's;
124 means the time was over, 125 that the kernel did not come up.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PROGRAM = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
INIT = Path(__file__).with_name("uml_init.py")
STARTED = "== innkeeper uml: the command starts =="
TIMED_OUT, DID_NOT_BOOT = 124, 125
_PASSED_ON = ("PATH", "TERM", "LANG", "CI", "PYTHONPATH", "HYPOTHESIS_PROFILE")


def why_not() -> str:
    """Say why no kernel can be run here, or return an empty text."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is missing: apt-get install user-mode-linux"
    if not any(MODULES.glob("*/modules.dep")) and not any(MODULES.glob("*/kernel")):
        return f"{MODULES} has no kernel modules: apt-get install user-mode-linux"
    if has_tiles() and shutil.which("cc") is None:
        return "this processor has AMX, so tests/tools/uml_xstate.c must be built: apt-get install gcc libc6-dev"
    return ""


def has_tiles() -> bool:
    """True on a processor with AMX: see uml_xstate.c."""
    return " amx_tile" in Path("/proc/cpuinfo").read_text()


def run(
    command: Sequence[str],
    *,
    cgroup: str = "v2",
    timeout_s: float = 900.0,
    memory: str = "1500M",
    disk: str = "256M",
    fetch: Path | None = None,
    out: IO[str] = sys.stdout,
) -> int:
    """Boot, run the command, stream what it prints and return its exit code.

    With `fetch`, what the command wrote to /run/host/fetched is copied there.
    """
    with _workplace() as folder:
        (folder / "job.json").write_text(json.dumps(_job(command, cgroup, folder)))
        _make_sparse(folder / "disk", disk)
        kernel = subprocess.Popen(
            _kernel_line(folder, memory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "TMPDIR": _memory_folder(folder),
                **_preload(folder),
            },
        )
        deadline = time.monotonic() + timeout_s
        timer = threading.Timer(timeout_s, _kill_all, [kernel.pid])
        try:
            with _watched(kernel.pid, folder):
                timer.start()
                boot_talk = _stream(kernel, out)
                kernel.wait()
        finally:
            timer.cancel()
            _kill_all(kernel.pid)
            kernel.wait()
        if fetch is not None and (folder / "fetched").exists():
            shutil.copyfile(folder / "fetched", fetch)
        return _outcome(folder, boot_talk, time.monotonic() >= deadline, timeout_s)


@contextmanager
def _watched(leader: int, folder: Path) -> Iterator[None]:
    """Kill the kernel's processes, and remove the folder, also when this process is killed.

    Programs inside are traced processes here. Were only their tracer to end, they would go on as processes of
    this machine, as root. The watcher waits for the end of a pipe that this process holds.
    """
    script = 'read -r _; kill -s KILL -- "-$1"; rm -rf "$2"'
    line = ["sh", "-c", script, "sh", str(leader), str(folder)]
    watcher = subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def _outcome(folder: Path, boot_talk: list[str], late: bool, timeout_s: float) -> int:
    result = folder / "exit"
    if result.exists():
        return int(result.read_text())
    if late:
        print(f"uml: not done after {timeout_s:g} s, killed", file=sys.stderr)
        return TIMED_OUT
    print("".join(boot_talk) + "uml: the kernel ended before the command did", file=sys.stderr)
    return DID_NOT_BOOT


def _preload(folder: Path) -> dict[str, str]:
    """Build uml_xstate.c, where it is needed, and return the variable that loads it. Raises RuntimeError."""
    if not has_tiles():
        return {}
    library = folder / "xstate.so"
    line = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("uml_xstate.c"))]
    built = subprocess.run(line, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        raise RuntimeError(f"cannot build uml_xstate.c: {built.stderr}")
    return {"LD_PRELOAD": str(library)}


@contextmanager
def _workplace() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="innkeeper-uml-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _job(command: Sequence[str], cgroup: str, folder: Path) -> dict[str, object]:
    checkout = Path(__file__).resolve().parents[2]
    named = [Path(sys.prefix), Path(sys.base_prefix), checkout, Path.cwd()]
    return {
        "command": list(command),
        "cgroup": cgroup,
        "folder": str(folder),
        "cwd": str(Path.cwd()),
        "modules": str(MODULES),
        "show": sorted({str(path) for path in named}),
        "env": {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(("INNKEEPER_", "PYTEST_"))
        },
        "started": STARTED,
    }


def _kernel_line(folder: Path, memory: str) -> list[str]:
    return [
        PROGRAM,
        f"mem={memory}",
        "root=none",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "lsm=capability,yama,apparmor",
        "quiet",
        "loglevel=3",
        "con0=null,fd:1",
        "con=null",
        "ssl=null",
        f"ubd0={folder}/disk",
        f"uml_dir={folder}",
        "umid=guest",
        f"init={sys.executable}",
        "--",
        "-I",
        str(INIT),
        str(folder),
    ]


def _memory_folder(folder: Path) -> str:
    # The kernel's memory is a sparse file that it unlinks at once; in RAM it is many times faster.
    shm = Path("/dev/shm")
    return str(shm) if os.access(shm, os.W_OK) else str(folder)


def _make_sparse(path: Path, size: str) -> None:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    with path.open("wb") as file:
        file.truncate(int(size[:-1]) * units[size[-1].upper()])


def _stream(kernel: subprocess.Popen[bytes], out: IO[str]) -> list[str]:
    """Copy what the command prints; return what the kernel said before it, if it never got there."""
    boot_talk: list[str] = []
    started = False
    assert kernel.stdout is not None
    for raw in kernel.stdout:
        line = raw.decode("utf-8", "replace").replace("\r", "")
        if started and line != "reboot: System halted\n":
            out.write(line)
            out.flush()
        elif STARTED in line:
            started = True
        elif not started:
            boot_talk.append(line)
    return boot_talk


def _kill_all(leader: int) -> None:
    # Each program inside is a process here too, a traced one, and all are in the session made for the kernel.
    for _ in range(50):
        try:
            os.killpg(leader, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.01)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="uml.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cgroup", choices=("v2", "v1", "hybrid"), default="v2", help="how cgroups are mounted")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S", help="seconds until it is killed")
    parser.add_argument("--memory", default="1500M", help="of the kernel, for example 1500M")
    parser.add_argument("--fetch", type=Path, metavar="FILE", help="where /run/host/fetched is copied to at the end")
    parser.add_argument("command", nargs="+", help="program and arguments; put -- before them")
    chosen = parser.parse_args(arguments)
    reason = why_not()
    if reason:
        print(f"uml: cannot run {shlex.join(chosen.command)}: {reason}", file=sys.stderr)
        return DID_NOT_BOOT
    return run(chosen.command, cgroup=chosen.cgroup, timeout_s=chosen.timeout, memory=chosen.memory, fetch=chosen.fetch)


if __name__ == "__main__":
    sys.exit(main())
