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
from contextlib import suppress
from pathlib import Path

import pytest

from backends.container import ExecSpec
from backends.errors import InnkeeperError
from backends.model import Guest, GuestState
from backends.native import protocol
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(120)]
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


@pytest.fixture(params=["host", pytest.param("auto", marks=needs("idmap"))])
def guest(run: Run, request: pytest.FixtureRequest) -> Guest:
    """A container that waits, with the host's users and with its own."""
    return run("sleep", "1000", userns=request.param)


@pytest.fixture
def plain_guest(run: Run) -> Guest:
    """One with the host's users."""
    return run("sleep", "1000")


def python(code: str) -> str:
    """Return the shell line that runs Python code inside."""
    return f"/usr/bin/python3 -I -S - <<'END'\n{_SYSCALL}{code}\nEND"


# ---------------------------------------------------------------- kernel files that run programs on the host


_HOSTS_FILES = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
    "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/proc/sysrq-trigger",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)  # fmt: skip


def test_no_file_of_the_kernel_that_concerns_the_host_can_be_written(guest: Guest, output_of: Output) -> None:
    def content() -> list[bytes]:
        found = []
        for path in _HOSTS_FILES:
            with suppress(OSError):  # missing, or only to be written
                found.append(Path(path).read_bytes())
        return found

    before = content()
    line = f"for f in {' '.join(_HOSTS_FILES)}; do [ -e $f ] && echo /evil 2>/dev/null > $f && echo written $f; done"
    assert output_of(guest, line) == ""
    assert content() == before


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


_CALLS = {
    "keyctl": "250, 0, -3, 1", "add_key": "248, b'user', b'x', b'y', 1, -2", "bpf": "321, 0, None, 0",
    "perf_event_open": "298, None, 0, -1, -1, 0", "kexec_load": "246, 0, 0, None, 0",
    "init_module": "175, None, 0, b''",
    "userfaultfd": "323, 0", "setns": "308, os.open('/proc/self/ns/mnt', os.O_RDONLY), 0",
    "unshare": "272, 0x10000000", "io_uring_setup": "425, 1, None", "swapon": "167, b'/x', 0", "iopl": "172, 3",
    "mount_setattr": "442, -1, b'', 0, None, 0", "open_tree": "428, -100, b'/', 1", "fsopen": "430, b'proc', 0",
    "move_mount": "429, -1, b'', -1, b'', 0", "pivot_root": "155, b'/', b'/'", "umount2": "166, b'/proc', 2",
}  # fmt: skip


def test_calls_that_lead_out_are_refused(guest: Guest, output_of: Output) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    tries = "\n".join(f"call({name!r}, {arguments})" for name, arguments in _CALLS.items())
    assert output_of(guest, python(tries)).splitlines() == [f"{name} Operation not permitted" for name in _CALLS]


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


def test_typing_into_the_terminal_reaches_no_shell_of_the_host(plain_guest: Guest, root: Path) -> None:
    # TIOCSTI puts bytes into the input queue of a terminal. Whoever gave `inn exec -t` its terminal must find none.
    push = "import fcntl\nfor b in b'touch /evil\\n': fcntl.ioctl(0, 0x5412, bytes([b]))"
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        words = [sys.executable, str(REPOSITORY / "innkeeper.py"), "--root", str(root), "exec", "-t", plain_guest.name]
        subprocess.run(
            [*words, "/usr/bin/python3", "-I", "-S", "-c", push],
            stdin=slave, stdout=slave, stderr=subprocess.STDOUT, start_new_session=True, timeout=60, check=False,
        )  # fmt: skip
        assert struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, b"0000")) == (0,)
    finally:
        os.close(master)
        os.close(slave)


def test_a_program_without_a_terminal_gets_none_of_the_users(plain_guest: Guest, root: Path) -> None:
    # A program that stays could read there what is typed later, to whoever asks for it.
    script = "for n in 0 1 2; do [ -t $n ] && echo a terminal; readlink /proc/self/fd/$n; done; echo last >&2"
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        words = [sys.executable, str(REPOSITORY / "innkeeper.py"), "--root", str(root), "exec", "-i", plain_guest.name]
        done = subprocess.run(
            [*words, "sh", "-c", script], stdin=slave, stdout=slave, stderr=slave, start_new_session=True, timeout=60
        )
        text = os.read(master, 10000).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 0, text
    assert "terminal" not in text
    assert text.count("pipe:[") == 3, text
    assert text.endswith("last\n")


def supervisor_of(root: Path, guest: Guest) -> int:
    """The process that keeps a container."""
    with protocol.connect(root / "run" / "containers" / guest.ref.id / "control", 10.0) as sock:
        return protocol.peer_pid(sock)


def test_even_with_the_hosts_processes_in_sight_its_supervisor_is_closed_to_it(
    run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", pid_mode="host")
    keeper = supervisor_of(root, guest)
    places = " ".join(f"/proc/{keeper}/{name}" for name in ("environ", "maps", "mem", "fd/0", "root/etc", "cwd/etc"))
    assert output_of(guest, f"for f in {places}; do cat $f >/dev/null 2>&1 && echo read $f; done") == ""
    if os.uname().machine == "x86_64":
        attached = output_of(guest, python(f"call('ptrace', 101, 16, {keeper}, 0, 0)"))
        assert attached == "ptrace Operation not permitted\n"


def test_no_process_of_ours_has_a_socket_that_a_shared_network_shows(run: Run, output_of: Output, root: Path) -> None:
    # Abstract sockets belong to a network, not to a folder that is root's own (CVE-2020-15257).
    guest = run("sleep", "1000", network="host")
    keeper = supervisor_of(root, guest)
    ours = set()
    for pid in (keeper, int(Path(f"/proc/{keeper}/stat").read_text().rpartition(") ")[2].split()[1])):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                ours.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in output_of(guest, "cat /proc/net/unix").splitlines()]
    assert any(row[6] in ours for row in rows)
    assert not [row for row in rows if row[6] in ours and len(row) > 7 and row[7].startswith("@")]


# ---------------------------------------------------------------- what a container with every right still cannot do


def test_a_privileged_container_stays_among_its_own_processes(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    bystander = run("sleep", "1000")
    guest = run("sleep", "1000", privileged=True)
    seen = output_of(guest, "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; readlink $p/exe; done 2>/dev/null")
    assert "innkeeper" not in seen
    assert "spawner" not in seen
    assert "python" not in seen
    native.exec(guest.ref, ExecSpec(("sh", "-c", "kill -9 -1"))).wait()
    assert now(native, bystander).state == GuestState.RUNNING


@needs("idmap")
def test_root_of_other_users_with_every_right_cannot_lift_its_limits(run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", userns="auto", cap_add=("ALL",), security_opts=("seccomp=unconfined",),
                pids=50, memory_bytes=64 << 20)  # fmt: skip
    again = "mkdir /tmp/c; mount -t cgroup2 none /tmp/c || mount -t cgroup -o pids none /tmp/c"
    output_of(guest, f"({again}; mount -o remount,rw /sys/fs/cgroup; mount -o remount,rw /proc/sys) 2>/dev/null")
    files = "$(find /sys/fs/cgroup /tmp/c -name pids.max -o -name memory.max -o -name memory.limit_in_bytes)"
    assert output_of(guest, f"for f in {files}; do echo 1000000000 2>/dev/null > $f && echo written $f; done") == ""
    assert output_of(guest, "find /tmp/c -name release_agent") == ""
    written = "for f in kernel/core_pattern kernel/modprobe; do echo /evil 2>/dev/null > /proc/sys/$f && echo $f; done"
    assert output_of(guest, written) == ""


# ---------------------------------------------------------------- hostile targets of exec


def test_no_working_directory_by_number_leads_out(native: NativeBackend, run: Run, output_of: Output) -> None:
    """CVE-2024-21626: whatever number a descriptor of ours has while a program joins."""
    guest = run("sleep", "1000")
    output_of(guest, "touch /inside; for n in $(seq 3 9); do ln -s /proc/self/fd/$n /lead$n; done")
    for number in range(3, 10):
        with suppress(InnkeeperError):  # as a rule it is refused
            assert output_of(guest, "cat ./etc/shadow ../etc/shadow ../../etc/shadow", cwd=f"/lead{number}") == ""
    for number in range(10, 20, 3):
        with pytest.raises(InnkeeperError):
            output_of(guest, "true", cwd=f"/proc/self/fd/{number}")


def test_a_container_that_exchanged_its_own_files_gets_nothing_of_ours(run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000")
    exchange = (
        "for f in /etc/passwd /etc/group /etc/nsswitch.conf /etc/localtime; do rm -f $f; mkfifo $f; done;"
        "rm -f /dev/null /dev/tty; mkdir /dev/null; ln -s /proc/1/mem /dev/tty; ln -sf /proc/1/root /root/x"
    )
    output_of(guest, exchange)
    assert output_of(guest, "id -u; chmod 777 /proc/self/fd/0 2>&1", user="5:6").startswith("5\nchmod:")


# ---------------------------------------------------------------- what is shown of it


def test_what_a_container_calls_itself_does_nothing_to_the_terminal(run: Run, output_of: Output, root: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\x9b5A"
    script = f"printf '%s\\n' '{evil}'; exec -a '{evil}' sleep 1000"
    guest = run("bash", "-c", script, labels={"x": evil}, env=(f"E={evil}",))
    wait_until(lambda: "sleep" in output_of(guest, "cat /proc/1/comm"), what="it has its name")
    for words in (["ps"], ["ps", "--no-trunc"], ["processes", guest.name], ["inspect", guest.name]):
        command = [sys.executable, str(REPOSITORY / "innkeeper.py"), "--root", str(root), *words]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        shown = done.stdout + done.stderr
        assert not [byte for byte in shown if byte < 32 and byte not in b"\n\t"], (words, shown)
        assert "\x9b" not in shown.decode()


# ---------------------------------------------------------------- state and sockets


def test_state_folders_and_sockets_are_roots_own(native: NativeBackend, plain_guest: Guest, root: Path) -> None:
    for place in (root / "containers", root / "run"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700, place
    sockets = [path for path in (root / "run").rglob("*") if path.is_socket()]
    assert sockets
    assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}


def test_a_stranger_who_finds_an_open_socket_gets_no_answer(
    native: NativeBackend, plain_guest: Guest, root: Path
) -> None:
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
    assert now(native, plain_guest).state == GuestState.RUNNING


def test_a_message_nested_without_end_is_refused_and_no_end_of_ours(
    native: NativeBackend, plain_guest: Guest, root: Path
) -> None:
    for path in [path for path in (root / "run").rglob("*") if path.is_socket()]:
        with protocol.connect(path, 10.0) as sock, suppress(BrokenPipeError, ConnectionResetError):
            sock.send(b'{"op":' + b"[" * 100_000)
            sock.recv(1000)
        with protocol.connect(path, 10.0) as sock:
            protocol.send(sock, {"op": "ping"})
            assert protocol.receive(sock)[0]["ok"], path
    assert now(native, plain_guest).state == GuestState.RUNNING


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
