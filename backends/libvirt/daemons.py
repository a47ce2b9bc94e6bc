"""Starting libvirt's daemons for the demo where no service manager does, and stopping those started here."""

from __future__ import annotations

import grp
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable, InnkeeperError
from backends.libvirt import event_loop
from backends.libvirt.link import Link

Say = Callable[[str], None]

START_TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 10.0


def answers(uri: str) -> bool:
    """True if a libvirt daemon answers there."""
    event_loop.ensure_running()
    link = Link(uri, "probe")
    try:
        link.call("connect", lambda connection: connection.getLibVersion(), _CONNECT_TIMEOUT_S)
    except BackendUnavailable:
        return False
    finally:
        link.close()
    return True


def ensure_daemons(uri: str, run_dir: Path, say: Say) -> None:
    """Make sure that a libvirt daemon answers at a local system URI; start one where none does.

    With systemd the service is started, else virtlogd and libvirtd themselves. What was started is noted in
    run_dir for stop_daemons(). Raises BackendUnavailable when it cannot.
    """
    if uri == "qemu:///system":
        _remember(run_dir, open_kvm(say))
    if answers(uri):
        return
    if uri != "qemu:///system":
        raise BackendUnavailable(f"no libvirt daemon answers at {uri}")
    if os.geteuid() != 0:
        raise BackendUnavailable(
            "no libvirt daemon answers at qemu:///system",
            hint="start libvirtd as root, and be a member of the group libvirt",
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        _remember(run_dir, _start_all(say))
        if answers(uri):
            return
        if time.monotonic() > deadline:
            raise BackendUnavailable(f"libvirtd was started, but does not answer at {uri}")
        time.sleep(0.2)  # an old one may still be on its way out


def _start_all(say: Say) -> list[dict[str, Any]]:
    """Start what does not run; return what was started."""
    if not os.path.isdir("/run/systemd/system"):
        return [entry for name in _needed() if (entry := _start(name, say))]
    state = subprocess.run(["systemctl", "is-active", "--quiet", "libvirtd"], check=False, timeout=START_TIMEOUT_S)
    if state.returncode == 0:
        return []
    say("starting the service libvirtd")
    done = subprocess.run(["systemctl", "start", "libvirtd"], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise BackendUnavailable(
            f"cannot start the service libvirtd: {done.stderr.strip()}",
            hint="apt install libvirt-daemon-system qemu-system-x86",
        )
    return [{"unit": "libvirtd"}]


def stop_daemons(uri: str, run_dir: Path, say: Say) -> None:
    """Stop the daemons that ensure_daemons() started, unless guests still run under them."""
    note = _note(run_dir)
    started = _recall(note)
    if not started:
        return
    if _live_guests(uri):
        say("libvirtd was started for the demo and goes on: other guests run under it")
        return
    for entry in reversed(started):
        if "unit" in entry:
            say(f"stopping the service {entry['unit']}")
            subprocess.run(["systemctl", "stop", entry["unit"]], capture_output=True, check=False, timeout=60)
        elif "device" in entry:
            give_back(entry)
        elif _start_time(entry["pid"]) == entry["start_time"]:
            say(f"stopping {entry['name']}")
            _end(entry["pid"])
    note.unlink(missing_ok=True)


def open_kvm(say: Say, device: str = "/dev/kvm") -> list[dict[str, Any]]:
    """Give /dev/kvm to the group kvm where no udev did, as its rule would.

    QEMU runs as a user of that group. libvirt 9 that finds KVM in QEMU but the device closed to that user
    takes what it knows of QEMU for outdated at each look, and asks QEMU anew, a second each: a definition
    then takes minutes.
    """
    try:
        status, group = os.stat(device), grp.getgrnam("kvm").gr_gid
    except (OSError, KeyError):
        return []
    mode = stat.S_IMODE(status.st_mode)
    is_open = mode & 0o006 == 0o006 or (status.st_gid == group and mode & 0o060 == 0o060)
    if os.geteuid() != 0 or is_open:
        return []
    say(f"giving {device} to the group kvm, so that QEMU's user may open it")
    os.chown(device, -1, group)
    os.chmod(device, 0o660)
    return [{"device": device, "gid": status.st_gid, "mode": mode}]


def give_back(entry: dict[str, Any]) -> None:
    """Put a device back as it was."""
    with suppress(OSError):
        os.chown(entry["device"], -1, entry["gid"])
        os.chmod(entry["device"], entry["mode"])


def _needed() -> list[str]:
    main = next((name for name in ("libvirtd", "virtqemud") if shutil.which(name, path=_PATH)), None)
    if main is None:
        raise BackendUnavailable("libvirtd is not installed", hint="apt install libvirt-daemon-system qemu-system-x86")
    return [name for name in ("virtlogd", main) if shutil.which(name, path=_PATH)]


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _start(name: str, say: Say) -> dict[str, Any] | None:
    """Start a daemon in the background; None if one runs already."""
    pid_file = Path(f"/run/{name}.pid")
    if _running_pid(pid_file, name):
        return None
    say(f"starting {name} (no service manager does it here)")
    program = shutil.which(name, path=_PATH) or name
    done = subprocess.run(
        [program, "-d", "-p", str(pid_file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_TIMEOUT_S,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BackendUnavailable(f"cannot start {name}: {last}")
    deadline = time.monotonic() + START_TIMEOUT_S
    while (pid := _running_pid(pid_file, name)) is None:
        if time.monotonic() > deadline:
            raise BackendUnavailable(f"cannot start {name}: it wrote no {pid_file}")
        time.sleep(0.05)
    return {"name": name, "pid": pid, "start_time": _start_time(pid)}


def _running_pid(pid_file: Path, name: str) -> int | None:
    try:
        pid = int(pid_file.read_text())
        return pid if Path(f"/proc/{pid}/comm").read_text().strip() == name else None
    except (OSError, ValueError):
        return None


def _start_time(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError):
        return None


def _end(pid: int) -> None:
    before = _start_time(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while before is not None and _start_time(pid) == before and not _is_zombie(pid):
        if time.monotonic() > deadline:
            raise InnkeeperError(f"process {pid} does not end on SIGTERM")
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _live_guests(uri: str) -> bool:
    event_loop.ensure_running()
    link = Link(uri, "probe")
    try:
        return bool(link.call("list the guests", lambda connection: connection.listAllDomains(1), _CONNECT_TIMEOUT_S))
    except InnkeeperError:
        return False
    finally:
        link.close()


def _note(run_dir: Path) -> Path:
    return run_dir / "libvirt" / "daemons.json"


def _remember(run_dir: Path, started: list[dict[str, Any]]) -> None:
    note = _note(run_dir)
    known = _recall(note)
    new = [entry for entry in started if entry not in known]
    if new:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps([*known, *new]))


def _recall(note: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(note.read_text())
    except (OSError, ValueError):
        return []
    return found
