"""Running a program in a live container: what it is in, what it gets, and who is turned away."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import InnkeeperError, StartFailed
from backends.kernel import joining
from backends.oci import terminal
from backends.oci.errors import NotRunning, OciError
from backends.oci.join import join
from tests.tools.engine import Engine, engine_at, kill, read_terminal, with_userns
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]
PTS = {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
       "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}  # fmt: skip


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with a bundle of its own; all it makes is removed afterwards."""
    with engine_at(Path(tempfile.mkdtemp(prefix="inn-test-"))) as made:
        made.config["linux"]["namespaces"].append({"type": "cgroup"})
        yield made


def places(pid: int) -> tuple[list[str], str]:
    return sorted(os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir(f"/proc/{pid}/ns")), Path(
        f"/proc/{pid}/cgroup"
    ).read_text()


@pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])
def test_a_program_is_in_every_namespace_and_group_of_the_first(engine: Engine, userns: bool) -> None:
    if userns:
        with_userns(engine)
    if os.path.exists("/proc/self/ns/time"):
        engine.config["linux"]["namespaces"].append({"type": "time"})
    created = engine.running()
    joined = engine.join(created, "sleep", "1000")
    assert places(joined.pid) == places(created.pid)
    assert engine.groups[0].procs() == sorted((created.pid, joined.pid))
    os.kill(joined.pid, 9)
    engine.wait(joined)


def test_a_namespace_of_the_hosts_and_a_user_namespace_of_its_own_are_both_joined(engine: Engine) -> None:
    with_userns(engine)
    spaces = engine.config["linux"]["namespaces"]
    next(space for space in spaces if space["type"] == "network")["path"] = "/proc/self/ns/net"
    created = engine.running()
    assert engine.said(created, "id", "-u") == "0\n"


def test_a_program_sees_what_the_process_says(engine: Engine) -> None:
    created = engine.running()
    process = {"env": ["PATH=/bin", "A=b"], "cwd": "/tmp", "user": {"uid": 7, "gid": 8, "additionalGids": [9]}}
    script = "echo $A; pwd; id -u; id -G; grep -E 'NoNewPrivs|CapEff' /proc/self/status"
    words = engine.said(created, "sh", "-c", script, process=process).split()
    assert words == ["b", "/tmp", "7", "8", "9", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]


def test_a_user_is_found_in_the_containers_own_files(engine: Engine) -> None:
    created = engine.running()
    assert engine.said(created, "sh", "-c", "id -u; id -G; echo $HOME", user="guest") == "1000\n1000 50\n/home/guest\n"


@pytest.mark.parametrize(
    "program,code,words",
    [("foo", 127, r"executable file not found in \$PATH"), ("/etc", 126, "is a directory"),
     ("/etc/passwd", 126, "permission denied")],
)  # fmt: skip
def test_a_program_that_cannot_be_run_is_told_and_the_container_goes_on(
    engine: Engine, program: str, code: int, words: str
) -> None:
    created = engine.running()
    with pytest.raises(StartFailed, match=words) as caught:
        engine.join(created, program)
    assert caught.value.exit_code == code
    assert engine.groups[0].procs() == [created.pid]


def test_a_working_directory_that_is_missing_is_told_and_not_made(engine: Engine) -> None:
    created = engine.running()
    with pytest.raises(StartFailed, match=r'chdir to cwd \("/nope"\) set in config.json failed: no such file'):
        engine.join(created, "true", process={"cwd": "/nope"})
    assert engine.said(created, "ls", "/").split().count("nope") == 0


def test_a_working_directory_that_leads_out_is_refused(engine: Engine) -> None:
    created = engine.running()
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        with pytest.raises(StartFailed):
            engine.join(created, "true", process={"cwd": f"/proc/self/fd/{leak}"})
    finally:
        os.close(leak)


def test_a_stopped_container_takes_no_program(engine: Engine) -> None:
    created = engine.running()
    request = engine.request(created, "true")
    kill(created)
    with pytest.raises(NotRunning):
        join(request)
    os.waitpid(created.pid, 0)
    with pytest.raises(NotRunning, match="cannot exec in a stopped container"):
        join(request)


def test_a_process_that_only_has_the_pid_of_the_first_is_never_joined(engine: Engine) -> None:
    created = engine.running()
    request = engine.request(created, "true", started_ticks=1)
    with pytest.raises(NotRunning, match="cannot exec in a stopped container"):
        join(request)


def test_a_paused_container_takes_a_program_only_by_force(engine: Engine) -> None:
    created = engine.running()
    engine.groups[0].freeze()
    try:
        with pytest.raises(OciError, match="cannot exec in a paused container"):
            engine.join(created, "true")
    finally:
        engine.groups[0].thaw()
    engine.groups[0].freeze()
    engine.groups[0].thaw()
    assert engine.said(created, "echo", "on", ignore_paused=True) == "on\n"


def test_a_program_gets_a_terminal_of_the_containers(engine: Engine) -> None:
    engine.config["mounts"].append(PTS)
    created = engine.running()
    joined = engine.join(created, "sh", "-c", "tty; stty size", process={"terminal": True}, size=(20, 60))
    assert joined.terminal_fd is not None
    assert read_terminal(joined.terminal_fd) == "/dev/pts/0\r\n20 60\r\n"
    engine.wait(joined)


def test_a_terminal_goes_to_the_console_socket(engine: Engine) -> None:
    engine.config["mounts"].append(PTS)
    created = engine.running()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        process = {"terminal": True, "consoleSize": {"height": 5, "width": 6}}
        joined = engine.join(created, "stty", "size", process=process, console=theirs.fileno())
        _, fds, _, _ = socket.recv_fds(ours, 100, 1)
    assert read_terminal(fds[0]) == "5 6\r\n"
    engine.wait(joined)


def test_a_program_can_be_put_into_a_group_below(engine: Engine) -> None:
    engine.config["linux"]["namespaces"].pop()
    created = engine.running()
    for directory in engine.groups[0].directories.values():
        os.mkdir(f"{directory}/part")
    found = engine.said(created, "cat", "/proc/self/cgroup", sub_groups=["part"])
    assert {os.path.basename(line) for line in found.split()} == {"part"}
    with pytest.raises(InnkeeperError, match="no such file or directory"):
        engine.join(created, "true", sub_groups=["none"])


def test_only_the_controllers_named_are_entered_below(engine: Engine) -> None:
    created = engine.running()
    memory = engine.groups[0].directory("memory")
    if memory is None or memory == engine.groups[0].unified:
        pytest.skip("memory has no hierarchy of its own here")
    os.mkdir(f"{memory}/part")
    joined = engine.join(created, "sleep", "1000", sub_groups=["memory:part"])
    text = Path(f"/proc/{joined.pid}/cgroup").read_text()
    assert [line.split(":")[1] for line in text.split() if line.endswith("/part")] == ["memory"]
    os.kill(joined.pid, 9)
    engine.wait(joined)


def test_a_filter_of_the_container_holds_for_programs_beside_the_first(engine: Engine) -> None:
    refuse = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}
    engine.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse]}
    created = engine.running()
    found = engine.said(created, "sh", "-c", "mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status")
    assert re.search(r"(?i)cross-device link\nSeccomp:\s+2", found), found


def test_only_the_descriptors_asked_for_are_the_programs(engine: Engine) -> None:
    created = engine.running()
    # 0, 1, 2 and the folder that ls reads
    assert engine.said(created, "sh", "-c", "ls /proc/self/fd | wc -l") == "4\n"


def test_what_joins_cannot_be_looked_into_from_inside(engine: Engine) -> None:
    """Nobody in the container can open the interpreter, or read its memory, while it is there (CVE-2019-5736)."""
    engine.config["process"]["capabilities"] = {}
    engine.program("sh", "-c", "while :; do for p in /proc/[0-9]*; do readlink $p/exe; done | grep -v busybox; done")
    seen = os.memfd_create("seen", os.MFD_CLOEXEC)
    created = engine.create(stdio=(0, seen, seen))
    engine.start(created)
    for _ in range(20):
        engine.said(created, "true")
    kill(created)
    assert os.pread(seen, 1000, 0) == b""
    os.close(seen)


def test_a_terminal_is_refused_where_the_container_has_none(engine: Engine) -> None:
    created = engine.running()
    with pytest.raises(StartFailed, match="nothing of type devpts"):
        engine.join(created, "true", process={"terminal": True})
    assert terminal.size_of({"consoleSize": {"height": 0, "width": 0}}, None) is None


@pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])
def test_a_program_has_the_keys_of_the_first(engine: Engine, userns: bool) -> None:
    if userns:
        with_userns(engine)
    created = engine.running()
    once, again = (engine.said(created, "grep", "_ses", "/proc/keys").split()[0] for _ in range(2))
    assert once == again


@pytest.mark.skipif(
    bool(os.statvfs(tempfile.gettempdir()).f_flag & os.ST_NODEV),
    reason="the folder for temporary files takes no device nodes",
)
def test_a_container_without_mounts_of_its_own_keeps_programs_below_its_root(engine: Engine) -> None:
    engine.config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "ipc", "uts")]
    engine.config["mounts"] = []
    created = engine.running()
    assert sorted(engine.said(created, "ls", "/").split()) == sorted(os.listdir(engine.bundle.folder / "rootfs"))


def test_the_hosts_null_device_cannot_be_changed_through_the_standard_streams(engine: Engine) -> None:
    created = engine.running()
    mode = stat.S_IMODE(os.stat("/dev/null").st_mode)
    script = f"chmod {mode:o} /proc/self/fd/0; chown 0:0 /proc/self/fd/0; echo x > /proc/self/fd/0 && cat && echo works"
    refusals = [f"{word}: /proc/self/fd/0: Read-only file system" for word in ("chmod", "chown")]
    said = engine.said(created, "sh", "-c", f"exec 2>&1; {script}")
    assert said.splitlines() == [*refusals, "works"]


def test_what_joins_has_no_more_of_its_runtimes_files_open_than_it_needs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = engine.running()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    leak = os.open("/", os.O_RDONLY | os.O_CLOEXEC)

    def tell(pidfd: int, kinds: object) -> None:
        names = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
        os.write(writing, "\n".join(os.readlink(f"/proc/self/fd/{name}") for name in names).encode())
        raise PermissionError(errno.EPERM, "enough")

    monkeypatch.setattr(joining, "join_process", tell)
    try:
        with pytest.raises(StartFailed, match="enough"):
            engine.join(created, "true", stdio=(writing, writing, writing))
        found = os.read(reading, 10000).decode().splitlines()
    finally:
        for fd in (reading, writing, leak):
            os.close(fd)
    assert found
    assert "/" not in found


def test_a_host_process_that_got_the_pid_of_the_first_is_not_taken_for_it(engine: Engine, tmp_path: Path) -> None:
    created = engine.running()
    pidfd = os.dup(created.pidfd)
    kill(created)
    os.waitpid(created.pid, 0)
    # The pid is now that of another, here our own: none of its namespaces differs from the runtime's.
    escaped = tmp_path / "escaped"
    request = engine.request(created, "/usr/bin/touch", str(escaped), pid=os.getpid(), pidfd=pidfd, group=None)
    try:
        with pytest.raises(StartFailed, match="has just ended"):
            join(request)
    finally:
        os.close(pidfd)
    assert not escaped.exists()
