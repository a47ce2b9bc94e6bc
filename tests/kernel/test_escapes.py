"""The known ways out of a container, tried from inside as its root: each has to fail, and the host be as it was."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")
REPOSITORY = Path(__file__).resolve().parents[2]

_SYSCALL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    done = libc.syscall(*arguments)
    print(name, done if done >= 0 else os.strerror(ctypes.get_errno()), flush=True)
"""


@pytest.fixture
def guest(run: Run) -> Guest:
    """A container that waits."""
    return run("sleep", "1000")


def python(code: str) -> str:
    """Return the shell line that runs Python code inside."""
    return f"/usr/bin/python3 -I -S - <<'END'\n{_SYSCALL}{code}\nEND"


# ---------------------------------------------------------------- kernel files that run programs on the host


@pytest.mark.parametrize(
    "path",
    ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
     "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/proc/sysrq-trigger",
     "/sys/kernel/mm/transparent_hugepage/enabled"],
)  # fmt: skip
def test_no_file_of_the_kernel_that_concerns_the_host_can_be_written(
    guest: Guest, output_of: Output, path: str
) -> None:
    before = Path(path).read_bytes() if os.access(path, os.R_OK) else b""
    written = output_of(guest, f"[ -e {path} ] || echo absent; echo /evil 2>/dev/null > {path} && echo written")
    assert written in ("", "absent\n") or "written" not in written
    assert before == (Path(path).read_bytes() if os.access(path, os.R_OK) else b"")


def test_the_release_agent_of_no_cgroup_hierarchy_can_be_reached(guest: Guest, output_of: Output) -> None:
    assert output_of(guest, "find /sys/fs/cgroup -name release_agent") == ""
    tries = "mkdir /tmp/c; mount -t cgroup -o memory none /tmp/c; mount -t cgroup2 none /tmp/c; ls /tmp/c"
    assert "cgroup.procs" not in output_of(guest, tries)
    writes = "for f in $(find /sys/fs/cgroup -name notify_on_release); do echo 1 2>/dev/null > $f && echo written; done"
    assert output_of(guest, writes) == ""


def test_even_with_sys_admin_a_cgroup_mount_shows_no_release_agent(run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", cap_add=("SYS_ADMIN",), security_opts=("seccomp=unconfined",))
    tries = "mkdir /tmp/c; mount -t cgroup -o memory none /tmp/c 2>/dev/null; find /tmp/c -name release_agent"
    assert output_of(guest, tries) == ""


def test_debugging_and_tracing_file_systems_are_empty_or_closed(guest: Guest, output_of: Output) -> None:
    for path in ("/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/bpf", "/sys/firmware"):
        assert output_of(guest, f"ls {path} 2>/dev/null | wc -l") == "0\n", path
    assert output_of(guest, "mount -t debugfs none /mnt 2>/dev/null || echo refused") == "refused\n"


# ---------------------------------------------------------------- system calls


def test_host_files_cannot_be_opened_by_handle(guest: Guest, output_of: Output) -> None:
    # "Shocker": open_by_handle_at(2) of inode 2, the root folder of most file systems.
    handle = "handle = ctypes.create_string_buffer(bytes([8,0,0,0, 1,0,0,0, 2,0,0,0, 0,0,0,0]))"
    text = output_of(guest, python(f"{handle}\ncall('handle', 304, os.open('/', os.O_RDONLY), handle, 0)"))
    assert text == "handle Operation not permitted\n"


@pytest.mark.parametrize(
    "name, arguments",
    [("keyctl", "250, 0, -3, 1"), ("add_key", "248, b'user', b'x', b'y', 1, -2"), ("bpf", "321, 0, None, 0"),
     ("perf_event_open", "298, None, 0, -1, -1, 0"),
     ("kexec_load", "246, 0, 0, None, 0"), ("init_module", "175, None, 0, b''"), ("userfaultfd", "323, 0"),
     ("setns", "308, os.open('/proc/self/ns/mnt', os.O_RDONLY), 0"), ("unshare", "272, 0x10000000"),
     ("io_uring_setup", "425, 1, None"), ("swapon", "167, b'/x', 0"), ("iopl", "172, 3")],
)  # fmt: skip
def test_calls_that_lead_out_are_refused(guest: Guest, output_of: Output, name: str, arguments: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    text = output_of(guest, python(f"call({name!r}, {arguments})"))
    assert text == f"{name} Operation not permitted\n"


def test_the_hosts_keyrings_are_not_the_containers(guest: Guest, output_of: Output) -> None:
    assert output_of(guest, "cat /proc/keys /proc/key-users 2>/dev/null | grep -c _ses") in ("0\n", "")
    free = output_of(guest, "cat /proc/keys | wc -c")
    assert free == "0\n"


# ---------------------------------------------------------------- processes


def test_killing_everything_in_reach_ends_only_the_container(native: NativeBackend, run: Run) -> None:
    bystander = run("sleep", "1000")
    guest = run("sh", "-c", "kill -9 -1; for p in $(seq 1 400); do kill -9 $p; done; kill -9 0")
    code = native.wait(guest.ref, timeout_s=60)
    assert code is not None
    assert now(native, guest).state == GuestState.STOPPED
    assert now(native, bystander).state == GuestState.RUNNING
    native.stop(bystander.ref, R, timeout_s=0)  # its supervisor answers


def test_a_fork_bomb_stays_below_the_limit_of_tasks_and_can_be_ended(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    bomb = "(bomb() { bomb | bomb & }; bomb) & exec sleep 1000"
    guest = run("sh", "-c", bomb, pids=64)
    group = f"innkeeper-{native._bridge.removeprefix('inn-')}/{guest.ref.id}"
    files = [Path(f"/sys/fs/cgroup/{place}{group}/pids.current") for place in ("pids/", "")]
    current = next(path for path in files if path.exists())
    wait_until(lambda: int(current.read_text()) >= 60, what="the bomb reaches its limit")
    assert int(current.read_text()) <= 64
    native.kill(guest.ref, R)
    assert native.wait(guest.ref, timeout_s=60) == 128 + signal.SIGKILL
    assert not current.exists()


def test_the_supervisor_cannot_be_read_or_traced_from_inside(
    run: Run, output_of: Output, native: NativeBackend
) -> None:
    guest = run("sleep", "1000", cap_add=("SYS_PTRACE",), security_opts=("seccomp=unconfined",))
    seen = output_of(guest, "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")
    assert "innkeeper" not in seen
    assert "spawner" not in seen
    assert "python" not in seen


def test_typing_into_the_terminal_reaches_no_shell_of_the_host(guest: Guest, root: Path) -> None:
    # TIOCSTI puts bytes into the input queue of a terminal. Whoever gave `inn exec -t` its terminal must find none.
    push = "import fcntl\nfor b in b'touch /evil\\n': fcntl.ioctl(0, 0x5412, bytes([b]))"
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        words = [sys.executable, str(REPOSITORY / "innkeeper.py"), "--root", str(root), "exec", "-t", guest.name]
        subprocess.run(
            [*words, "/usr/bin/python3", "-I", "-S", "-c", push],
            stdin=slave, stdout=slave, stderr=subprocess.STDOUT, start_new_session=True, timeout=60, check=False,
        )  # fmt: skip
        assert struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, b"0000")) == (0,)
    finally:
        os.close(master)
        os.close(slave)


# ---------------------------------------------------------------- state and sockets


def test_state_folders_and_sockets_are_roots_own(native: NativeBackend, guest: Guest, root: Path) -> None:
    for place in (root / "containers", root / "run"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700, place
    sockets = [path for path in (root / "run").rglob("*") if path.is_socket()]
    assert sockets
    assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}


def test_a_stranger_who_finds_an_open_socket_gets_no_answer(native: NativeBackend, guest: Guest, root: Path) -> None:
    code = """
import os, socket, sys
os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for number in sys.argv[1:]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(10)
    try:
        sock.connect(f"/proc/self/fd/{number}")
        sock.send(b'{"op": "ping"}')
        print(sock.recv(100))
    except ConnectionError:
        print(b"")
"""
    sockets = [path for path in (root / "run").rglob("*") if path.is_socket()]
    fds = []
    try:
        for path in sockets:
            path.chmod(0o666)
            fds.append(os.open(path, os.O_PATH))
        words = [sys.executable, "-I", "-S", "-c", code, *map(str, fds)]
        done = subprocess.run(words, pass_fds=fds, capture_output=True, text=True, check=True)
    finally:
        for fd in fds:
            os.close(fd)
    assert done.stdout.split() == ["b''"] * len(sockets)
    assert now(native, guest).state == GuestState.RUNNING


# ---------------------------------------------------------------- using up what is shared


_FULL_DISK = """
import os, sys, time
from pathlib import Path
from backends.container import ContainerSpec
from backends.native.backend import make
from backends.registry import BackendConfig
from backends.trace import Recorder

root, r = Path(sys.argv[1]), Recorder("test")
backend = make(BackendConfig(root, root / "run"))
backend.open()
fill = "head -c 1G /dev/zero > /root/big; while :; do echo full; done"
try:
    flood = backend.create(ContainerSpec("host", ("sh", "-c", fill), name="flood"), r)
    quiet = backend.create(ContainerSpec("host", ("sleep", "1000"), name="quiet"), r)
    backend.start(quiet.ref, r)
    backend.start(flood.ref, r)
    deadline = time.monotonic() + 60
    while os.statvfs(root).f_bavail and time.monotonic() < deadline:
        time.sleep(0.01)
    print("free", os.statvfs(root).f_bavail)
    print([str(g.state.value) for g in backend.guests()])
    backend.stop(flood.ref, r, timeout_s=1)
    print(next(g for g in backend.guests() if g.name == "flood").state.value)
    backend.remove(flood.ref, r)
    backend.stop(quiet.ref, r, timeout_s=0)
    print(next(g for g in backend.guests() if g.name == "quiet").exit_code)
    backend.remove(quiet.ref, r)
finally:
    for guest in backend.guests():
        backend.remove(guest.ref, r, force=True)
    backend.clean(r)
    backend.shutdown()
    backend.close()
"""


def test_a_container_that_fills_the_disk_can_still_be_stopped_and_removed(tmp_path: Path) -> None:
    line = 'mount -t tmpfs -o size=48m,mode=700 none "$1" && exec "$2" -c "$3" "$1"'
    words = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        line,
        "sh",
        str(tmp_path),
        sys.executable,
        _FULL_DISK,
    ]
    repository = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": repository}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["free 0", "['running', 'running']", "stopped", "137"]
