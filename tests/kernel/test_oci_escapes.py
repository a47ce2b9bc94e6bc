"""Ways out of a container that go through the runtime: hostile images, hostile containers that are joined."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import InnkeeperError, StartFailed
from backends.kernel import lsm
from tests.tools.bundles import Bundle
from tests.tools.engine import Engine, engine_at
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]
PTS = {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
       "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}  # fmt: skip


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with a bundle of its own; all it makes is removed afterwards."""
    with engine_at(Path(tempfile.mkdtemp(prefix="inn-test-"))) as made:
        yield made


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    """A bundle for the command line."""
    made = Bundle.make(Path(tempfile.mkdtemp(prefix="inn-test-")))
    yield made
    made.remove()


# ---------------------------------------------------------------- descriptors and working directories


def test_no_descriptor_of_the_callers_leads_a_working_directory_out(bundle: Bundle) -> None:
    """CVE-2024-21626: by number, and by a link of the image's, for the first program and for one beside it."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    place = f"/proc/self/fd/{leak}"
    (bundle.folder / "rootfs" / "lead").symlink_to(place)
    name = f"test-{os.getpid()}-leak"
    try:
        for folder in (place, "/lead"):
            bundle.config["process"] |= {"cwd": folder, "args": ["ls"]}
            bundle.write()
            answer = bundle.oci("run", "--bundle", str(bundle.folder), name, fds=(leak,))
            assert answer.code != 0, answer.out
            assert "boot" not in answer.out
        bundle.config["process"] |= {"cwd": "/", "args": ["sh", "-c", "exec sleep 1000 >/dev/null 2>&1"]}
        bundle.write()
        assert bundle.oci("run", "--detach", "--bundle", str(bundle.folder), name).code == 0
        for folder in (place, "/lead"):
            answer = bundle.oci("exec", "--cwd", folder, name, "ls", fds=(leak,))
            assert answer.code != 0, answer.out
            assert "boot" not in answer.out
    finally:
        os.close(leak)


# ---------------------------------------------------------------- files of the image that the runtime reads


@pytest.mark.parametrize("kind", ["fifo", "zero", "kernel", "folder", "loop", "sparse"])
def test_a_hostile_table_of_users_holds_nobody_up(engine: Engine, kind: str) -> None:
    table = engine.bundle.folder / "rootfs" / "etc" / "passwd"
    table.unlink()
    if kind == "fifo":
        os.mkfifo(table)
    elif kind == "folder":
        table.mkdir()
    elif kind == "sparse":
        table.touch()
        os.truncate(table, 1 << 40)
    else:
        table.symlink_to({"zero": "/dev/zero", "kernel": "/proc/kmsg", "loop": "passwd"}[kind])
    created = engine.running()
    assert engine.said(created, "grep", "Uid:", "/proc/self/status", user="7:8").split()[1] == "7"
    with pytest.raises(StartFailed, match="no user"):
        engine.join(created, "true", user="guest")


def test_a_long_table_of_users_does_not_eat_the_containers_memory(engine: Engine) -> None:
    table = engine.bundle.folder / "rootfs" / "etc" / "passwd"
    table.write_text("".join(f"a:b:{number}\n" for number in range(1_400_000)))
    engine.config["linux"]["resources"] = {"memory": {"limit": 96 << 20}}
    created = engine.running()
    assert engine.said(created, "grep", "Uid:", "/proc/self/status", user="7").split()[1] == "7"


def test_what_a_c_library_would_read_of_the_image_is_not_even_opened(engine: Engine) -> None:
    """CVE-2019-14271: a fifo in its place would hold up whoever opens it."""
    created = engine.running()
    places = "/etc/nsswitch.conf /etc/ld.so.preload /etc/ld.so.cache /etc/localtime /etc/resolv.conf /etc/pyvenv.cfg"
    engine.said(created, "sh", "-c", f"for f in {places}; do mkfifo $f; done")
    assert engine.said(created, "id", "-un", user="guest") == "guest\n"
    assert engine.said(created, "whoami", user="guest:staff") == "guest\n"


# ---------------------------------------------------------------- consoles and labels that are not what they seem


@pytest.mark.parametrize("to", ["/etc/passwd", "/proc/sys/kernel/core_pattern", "/proc/self/attr/exec"])
def test_a_console_that_leads_elsewhere_is_refused(engine: Engine, to: str) -> None:
    """CVE-2025-52565."""
    rootfs = engine.bundle.folder / "rootfs"
    (rootfs / "dev" / "console").symlink_to(to)
    engine.config["mounts"] = [mount for mount in engine.config["mounts"] if mount["destination"] != "/dev"] + [PTS]
    engine.config["process"]["terminal"] = True
    engine.program("cat", to)
    with pytest.raises(InnkeeperError, match="symbolic link"):
        engine.create()


def test_terminals_come_from_no_node_of_the_images(engine: Engine) -> None:
    rootfs = engine.bundle.folder / "rootfs"
    (rootfs / "dev" / "pts").mkdir()
    (rootfs / "dev" / "pts" / "ptmx").symlink_to("/etc/passwd")
    engine.config["mounts"] = [mount for mount in engine.config["mounts"] if mount["destination"] != "/dev"]
    engine.config["process"]["terminal"] = True
    with pytest.raises(InnkeeperError):
        engine.create()


def test_a_label_is_not_written_into_a_proc_of_the_containers_own(engine: Engine) -> None:
    """CVE-2025-52881: a program that was to be confined must not run when the write goes elsewhere."""
    if not lsm.has_apparmor():
        pytest.skip("this kernel has no AppArmor")
    capabilities = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
    engine.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    created = engine.running()
    fake = "mount -t tmpfs none /proc; for d in self thread-self; do mkdir -p /proc/$d/attr/apparmor;"
    fake += " touch /proc/$d/attr/exec /proc/$d/attr/apparmor/exec; done"
    engine.said(created, "sh", "-c", fake)
    with pytest.raises(StartFailed, match="not procfs"):
        engine.join(created, "true", process={"apparmorProfile": "unconfined"})


# ---------------------------------------------------------------- a container that shares what is the host's


def test_a_container_with_the_hosts_processes_in_sight_cannot_look_into_its_runtime(engine: Engine) -> None:
    engine.config["linux"]["namespaces"] = [
        space for space in engine.config["linux"]["namespaces"] if space["type"] != "pid"
    ]
    pid = os.getpid()
    tries = "; ".join(f"cat /proc/{pid}/{name}" for name in ("environ", "maps", "fd/0", "root/etc/passwd", "cwd/x"))
    engine.program("sh", "-c", f"exec 2>&1; {tries}")
    lines = engine.output().splitlines()
    assert len(lines) == 5, lines
    assert all("ermission denied" in line or "not permitted" in line for line in lines), lines


# ---------------------------------------------------------------- what others on the host may do to its state


def test_nobody_else_writes_to_what_it_leaves_whatever_umask_its_caller_has(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    state, pid_file, name = bundle.folder / "state" / "of" / "ours", bundle.folder / "pid", f"test-{os.getpid()}-umask"
    before = os.umask(0)
    try:
        words = ("--root", str(state), "create", "--bundle", str(bundle.folder), "--pid-file", str(pid_file), name)
        with open(bundle.folder / "out", "w") as out:
            command = [sys.executable, str(Path(__file__).resolve().parents[2] / "innkeeper.py"), "oci", *words]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=30)
    finally:
        os.umask(before)
    assert done.returncode == 0, (bundle.folder / "out").read_text()
    try:
        modes = {
            path: stat.S_IMODE(path.stat().st_mode) for path in (*state.parents, state) if bundle.folder in path.parents
        }
        assert set(modes.values()) == {0o700}, modes
        assert not stat.S_IMODE(pid_file.stat().st_mode) & 0o022
        kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state / name).iterdir()}
        # The fifo is for whoever the program's user is by then; its folder is closed to all others.
        assert {mode for file, mode in kept.items() if file != "exec.fifo"} == {0o600}, kept
    finally:
        bundle.oci("--root", str(state), "delete", "--force", name)
