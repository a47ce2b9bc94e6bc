"""What a container sees of the host, and what it cannot do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import StartFailed, UsageError
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")


@pytest.fixture
def guest(run: Run) -> Guest:
    """A container that waits."""
    return run("sleep", "1000")


@pytest.mark.parametrize("pid", ["1", "self"])
def test_programs_have_dockers_capabilities_no_new_privileges_and_a_filter(
    guest: Guest, output_of: Output, pid: str
) -> None:
    lines = dict(line.split(":\t", 1) for line in output_of(guest, f"cat /proc/{pid}/status").splitlines())
    assert lines["CapBnd"] == lines["CapEff"] == lines["CapPrm"] == "00000000a80425fb"
    assert lines["CapInh"] == lines["CapAmb"] == "0" * 16
    assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")


def test_another_user_has_no_capabilities_but_the_bounding_set(run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", user="65534:65534")
    text = output_of(guest, "id -u; id -g; grep CapEff /proc/1/status")
    assert text.splitlines() == ["65534", "65534", "CapEff:\t" + "0" * 16]
    assert output_of(guest, "id -u", user="root") == "0\n"


@pytest.mark.parametrize(
    "line",
    ["mount -t tmpfs none /mnt", "unshare -U true", "unshare -m true", "hostname other",
     "chroot / mount -t proc x /mnt", "echo 1 > /proc/sys/kernel/panic", "echo b > /proc/sysrq-trigger",
     "touch /usr/x", "mkdir /sys/fs/cgroup/x",
     "ip link set eth0 down", "date -s 2000-01-01"],
)  # fmt: skip
def test_what_only_the_host_may_do_is_refused(guest: Guest, output_of: Output, line: str) -> None:
    assert output_of(guest, f"({line}) >/dev/null 2>&1 || echo refused") == "refused\n"


def test_the_disk_of_the_host_cannot_be_opened_through_a_device_node(guest: Guest, output_of: Output) -> None:
    found = os.stat("/").st_dev
    major, minor = os.major(found), os.minor(found)
    nodes = f"mknod /root/disk b {major} {minor}; mknod /root/mem c 1 1"
    text = output_of(guest, f"{nodes}; head -c 1 /root/disk; head -c 1 /root/mem")
    assert text.count("Operation not permitted") == 2
    usual = "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 8 /dev/urandom | wc -c"
    assert output_of(guest, usual) == "3\n8\n"


def test_every_namespace_but_user_and_time_is_its_own_and_exec_joins_them(
    native: NativeBackend, guest: Guest, output_of: Output
) -> None:
    pid = now(native, guest).pid
    for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        own = os.readlink(f"/proc/{pid}/ns/{name}")
        assert own != os.readlink(f"/proc/self/ns/{name}"), name
        assert output_of(guest, f"readlink /proc/self/ns/{name}").strip() == own


def test_it_sees_its_own_processes_host_name_and_cgroup(guest: Guest, output_of: Output) -> None:
    assert output_of(guest, "cat /proc/1/comm; hostname").split() == ["sleep", guest.ref.id]
    groups = [line.split(":")[2] for line in output_of(guest, "cat /proc/self/cgroup").splitlines()]
    assert set(groups) == {"/"}
    numbers = [int(name) for name in output_of(guest, "ls /proc").split() if name.isdigit()]
    assert len(numbers) <= 4


def test_secret_and_dangerous_kernel_files_are_masked(guest: Guest, output_of: Output) -> None:
    files = "/proc/kcore /proc/keys /proc/timer_list /proc/interrupts"
    assert output_of(guest, f"cat {files} 2>/dev/null | wc -c; ls /sys/firmware | wc -l").split() == ["0", "0"]


def test_the_mounts_are_private_and_the_system_ones_read_only(guest: Guest, output_of: Output) -> None:
    table = output_of(guest, "cat /proc/self/mountinfo")
    assert "shared:" not in table
    options = {line.split()[4]: line.split()[5].split(",") for line in table.splitlines()}
    for path in ("/sys", "/usr", "/proc/sys", "/sys/fs/cgroup"):
        assert "ro" in options[path], path
    assert "noexec" in options["/dev/shm"]
    # As with docker there is a /dev/core where the kernel has /proc/kcore, which is masked.
    assert output_of(guest, "ls -I core /dev").split() == [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ]  # fmt: skip


def test_the_host_image_shows_nothing_of_the_hosts_own_configuration(guest: Guest, output_of: Output) -> None:
    assert output_of(guest, "cat /etc/shadow 2>/dev/null; ls /root /home") == "/home:\n\n/root:\n"
    assert "root:x:0:0" in output_of(guest, "cat /etc/passwd")


def test_no_descriptor_of_ours_reaches_the_program(
    run: Run, native: NativeBackend, guest: Guest, output_of: Output
) -> None:
    # ls itself has the folder open, as 3.
    assert output_of(guest, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    other = run("ls", "/proc/self/fd")
    native.wait(other.ref, timeout_s=30)
    assert log_of(native, other).split() == ["0", "1", "2", "3"]


def test_the_environment_is_the_images_and_the_users_only(run: Run, native: NativeBackend) -> None:
    guest = run("env", env=("COLOUR=blue",))
    native.wait(guest.ref, timeout_s=30)
    names = {line.partition("=")[0] for line in log_of(native, guest).splitlines()}
    assert names == {"PATH", "HOME", "HOSTNAME", "COLOUR"}


def test_signals_are_as_a_fresh_process_has_them(guest: Guest, output_of: Output) -> None:
    for pid in ("1", "self"):
        lines = dict(line.split(":\t", 1) for line in output_of(guest, f"cat /proc/{pid}/status").splitlines())
        assert int(lines["SigIgn"], 16) == 0
        assert int(lines["SigBlk"], 16) == 0


def test_a_container_never_sees_the_interpreter_that_joins_it(
    run: Run, native: NativeBackend, output_of: Output
) -> None:
    look = "for p in /proc/[0-9]*; do readlink $p/exe; head -c1 $p/environ; done"
    guest = run("sh", "-c", f"until [ -e /root/end ]; do {look}; done 2>/dev/null | sort -u")
    for _ in range(25):
        output_of(guest, "true")
    output_of(guest, "touch /root/end")
    assert native.wait(guest.ref, timeout_s=60) == 0
    assert "python" not in log_of(native, guest)


@pytest.mark.parametrize("place", ["proc", "sys", "dev", "etc"])
def test_a_symlink_in_the_image_leads_no_mount_onto_the_host(native: NativeBackend, tmp_path: Path, place: str) -> None:
    rootfs = tmp_path / "hostile"
    victim = tmp_path / "victim"
    for folder in (rootfs, victim):
        folder.mkdir()
    (victim / "pts").mkdir()
    (rootfs / place).symlink_to(victim)
    before = Path("/proc/self/mountinfo").read_text()
    native.image_import(f"with-{place}", str(rootfs), R)
    guest = native.create(ContainerSpec(f"with-{place}", ("/x",)), R)
    with pytest.raises(StartFailed):
        native.start(guest.ref, R)
    assert Path("/proc/self/mountinfo").read_text() == before
    assert [path.name for path in victim.iterdir()] == ["pts"]


def test_volumes_are_shown_where_asked_and_read_only_when_asked(run: Run, root: Path, output_of: Output) -> None:
    shared = root / "shared"
    shared.mkdir()
    guest = run("sleep", "1000", volumes=(f"{shared}:/data", f"{shared}:/fixed:ro"))
    output_of(guest, "echo hello > /data/note; echo no > /fixed/other")
    assert [path.name for path in shared.iterdir()] == ["note"]
    with pytest.raises(UsageError, match="no-such"):
        run("true", volumes=("/no-such-folder:/data",))


def test_a_read_only_container_cannot_write_its_root(run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", read_only=True)
    line = "touch /x 2>/dev/null || echo refused; echo y > /dev/shm/y && cat /dev/shm/y"
    assert output_of(guest, line) == "refused\ny\n"


def test_a_user_that_the_image_does_not_know_is_an_error(native: NativeBackend) -> None:
    guest = native.create(ContainerSpec("host", ("true",), user="nobody-knows"), R)
    with pytest.raises(StartFailed, match="nobody-knows"):
        native.start(guest.ref, R)


def test_a_volume_above_the_state_folder_does_not_show_the_containers_own_root_again(
    run: Run, root: Path, native: NativeBackend, output_of: Output
) -> None:
    guest = run("sleep", "1000", volumes=(f"{root}:/all",))
    assert "/all/" not in output_of(guest, "cut -d' ' -f5 /proc/self/mountinfo")
    assert output_of(guest, f"ls /all/containers/{guest.ref.id}/rootfs") == ""
    # What the host had mounted there is still shown, and this namespace only is without it.
    assert (root / "containers" / guest.ref.id / "config.json").exists()


@pytest.mark.parametrize("place", ["/", "/proc", "/proc/sys", "/x/../proc", "//proc/1"])
def test_no_volume_takes_the_place_of_proc_or_the_root(run: Run, root: Path, place: str) -> None:
    with pytest.raises(UsageError, match="in the place"):
        run("true", volumes=(f"{root}:{place}",))


def test_no_32_bit_call_gets_around_the_filter(native: NativeBackend, run: Run, root: Path) -> None:
    """The same calls through int 0x80, and through x32's numbers, from machine code that a Python program maps."""
    program = """
import ctypes, mmap, platform
if platform.machine() != "x86_64":
    raise SystemExit("refused " * 6)
page = mmap.mmap(-1, 4096, prot=7)
# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; int 0x80; cdqe; pop rbx; ret
page.write(bytes.fromhex("53 89f8 89f3 89d1 cd80 4898 5b c3"))
call = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long)(
    ctypes.addressof(ctypes.c_char.from_buffer(page)))
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
low = libc.mmap(None, 4096, 3, 0x62, -1, 0)  # MAP_32BIT: a pointer that a 32-bit call can take
ctypes.memmove(low, (ctypes.c_uint32 * 3)(40, 1, 0), 12)  # AF_VSOCK
print(call(20, 0, 0) > 0, "getpid")
for number, first, second in ((21, 0, 0), (310, 0x10000000, 0), (359, 40, 1), (359, 38, 5), (102, 1, low)):
    answer = call(number, first, second)
    print("refused" if answer in (-1, -38) else f"allowed: {answer}", number)
print("refused" if libc.syscall(0x40000000 | 165, 0, 0, 0, 0, 0) == -1 else "allowed", "x32 mount")
"""
    guest = run("python3", "-c", program)
    assert native.wait(guest.ref, timeout_s=60) == 0, log_of(native, guest)
    if "False getpid" in log_of(native, guest):
        pytest.skip("needs i386 calls: user-mode Linux takes int 0x80 for a 64-bit one")
    assert log_of(native, guest).count("refused") == 6, log_of(native, guest)


def test_programs_are_no_safer_from_the_oom_killer_than_others(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    before = Path("/proc/self/oom_score_adj").read_text()
    guest = run("sleep", "1000")
    assert int(output_of(guest, "cat /proc/1/oom_score_adj")) == max(0, int(before))
