"""A created container: the namespaces it is in, and what its program gets and does not get."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import InnkeeperError, StartFailed
from backends.oci import terminal
from tests.tools.engine import KINDS, Engine, captured, engine_at, namespace, read_terminal, with_userns
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]
PTS = {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
       "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}  # fmt: skip


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with a bundle of its own; all it makes is removed afterwards."""
    with engine_at(Path(tempfile.mkdtemp(prefix="inn-test-"))) as made:
        yield made


# ── namespaces ──────────────────────────────────────────────────────────────────────────────────────


def test_each_namespace_asked_for_is_new_and_no_other(engine: Engine) -> None:
    engine.config["linux"]["namespaces"] = [{"type": kind} for kind in ("mount", "pid", "uts", "cgroup")]
    created = engine.running()
    differing = {kind for kind in KINDS if namespace(created.pid, kind) != namespace("self", kind)}
    assert differing == {"mount", "pid", "uts", "cgroup"}


def test_namespaces_of_another_container_are_joined_by_path(engine: Engine) -> None:
    first = engine.running()
    wanted = ("network", "ipc", "uts", "pid")
    engine.config["linux"]["namespaces"] = [{"type": "mount"}] + [
        {"type": kind, "path": f"/proc/{first.pid}/ns/{KINDS[kind]}"} for kind in wanted
    ]
    second = engine.create()
    engine.start(second)
    assert all(namespace(first.pid, kind) == namespace(second.pid, kind) for kind in wanted)
    assert namespace(first.pid, "mount") != namespace(second.pid, "mount")
    status = Path(f"/proc/{second.pid}/status").read_text()
    assert int(re.findall(r"NSpid:.*\t(\d+)", status)[0]) > 1


def test_a_namespace_path_of_another_type_or_of_none_is_refused(engine: Engine) -> None:
    for path, words in (
        ("/proc/self/ns/uts", "of another type"),
        ("/etc/passwd", "no namespace"),
        ("/nope", "No such"),
    ):
        engine.config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "network", "path": path}]
        with pytest.raises(InnkeeperError, match=words):
            engine.create()


def test_a_container_sees_its_own_group_as_the_top(engine: Engine) -> None:
    engine.config["linux"]["namespaces"].append({"type": "cgroup"})
    engine.program("cat", "/proc/self/cgroup")
    assert {line.rpartition(":")[2] for line in engine.output().split()} == {"/"}


def test_a_user_namespace_has_the_maps_and_its_root_owns_the_others(engine: Engine) -> None:
    with_userns(engine)
    engine.config["linux"]["namespaces"].append({"type": "cgroup"})
    engine.program("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id -u; hostname inside; hostname")
    engine.config["hostname"] = "outside"
    engine.config["process"]["capabilities"] = {
        kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")
    }
    words = engine.output().split()
    assert words == ["0", "100000", "65536"] * 2 + ["0", "inside"]


def test_a_user_namespace_of_another_container_is_joined_with_what_it_owns(engine: Engine) -> None:
    with_userns(engine)
    first = engine.running()
    kinds = ("user", "network", "ipc")
    engine.config["linux"]["namespaces"] = [{"type": kind} for kind in ("mount", "pid", "uts")] + [
        {"type": kind, "path": f"/proc/{first.pid}/ns/{KINDS.get(kind, kind)}"} for kind in kinds
    ]
    del engine.config["linux"]["uidMappings"], engine.config["linux"]["gidMappings"]
    second = engine.create()
    engine.start(second)
    assert all(namespace(first.pid, kind) == namespace(second.pid, kind) for kind in kinds)
    assert os.stat(f"/proc/{second.pid}").st_uid == 100000


@needs("timens")
def test_the_clocks_of_a_time_namespace_are_moved(engine: Engine) -> None:
    engine.config["linux"]["namespaces"].append({"type": "time"})
    engine.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000, "nanosecs": 0}}
    engine.program("cat", "/proc/uptime")
    ahead = float(engine.output().split()[0]) - float(Path("/proc/uptime").read_text().split()[0])
    assert 999_000 < ahead < 1_000_100


@needs("timens")
def test_a_user_namespace_and_a_time_namespace_go_together(engine: Engine) -> None:
    with_userns(engine)
    engine.config["linux"]["namespaces"].append({"type": "time"})
    engine.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 86_400}}
    engine.program("true")
    engine.start(engine.create())


# ── what the program gets ───────────────────────────────────────────────────────────────────────────


def test_the_first_descriptors_asked_for_are_the_programs_and_no_others(engine: Engine) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom tests.tools.engine import engine_at\n"
        "for number, text in ((3, b'three'), (4, b'four'), (5, b'five')):\n"
        "    fd = os.memfd_create('x', 0); os.write(fd, text); os.lseek(fd, 0, 0)\n"
        "    assert fd == number, fd\n"
        "import tempfile\n"
        "with engine_at(Path(tempfile.mkdtemp(prefix='inn-test-'))) as engine:\n"
        "    engine.program('sh', '-c', 'cat <&3; cat <&4; ls /proc/self/fd | wc -l')\n"
        "    print(engine.output(preserve_fds=2), end='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parents[2])], capture_output=True, text=True, timeout=50
    )
    # 0, 1, 2, the two, and the folder that ls reads
    assert (done.stdout, done.stderr) == ("threefour6\n", "")


def test_a_descriptor_that_is_not_there_cannot_be_kept(engine: Engine) -> None:
    with pytest.raises(StartFailed, match=r"please check that preserved-fd \d+ .of 1001. is present"):
        engine.create(preserve_fds=1001)


def test_a_working_directory_is_made_where_it_is_missing(engine: Engine) -> None:
    engine.config["process"]["cwd"] = "/a/b/c"
    engine.program("pwd")
    assert engine.output() == "/a/b/c\n"


def test_a_working_directory_that_leads_out_is_refused(engine: Engine) -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    engine.config["process"]["cwd"] = f"/proc/self/fd/{leak}"
    try:
        with pytest.raises(StartFailed):
            engine.create()
    finally:
        os.close(leak)


def test_a_program_cannot_be_reached_through_a_descriptor_of_ours(engine: Engine) -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    engine.program(f"/proc/self/fd/{leak}/bin/sh", "-c", "echo out")
    try:
        with captured() as (stdio, read):
            with pytest.raises(StartFailed):
                engine.start(engine.create(stdio=stdio))
            assert "out" not in read()
    finally:
        os.close(leak)


def test_names_and_kernel_parameters_are_the_containers_own(engine: Engine) -> None:
    engine.config.update(hostname="box", domainname="example.org")
    engine.config["linux"]["sysctl"] = {"kernel.msgmax": "9999", "net.ipv4.ip_forward": "1"}
    files = "/proc/sys/kernel/domainname /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward"
    engine.program("sh", "-c", f"hostname; cat {files}")
    before = Path("/proc/sys/kernel/msgmax").read_text()
    assert engine.output().split() == ["box", "example.org", "9999", "1"]
    assert Path("/proc/sys/kernel/msgmax").read_text() == before


def test_a_terminal_goes_to_the_console_socket_with_its_size_set(engine: Engine) -> None:
    engine.config["mounts"].append(PTS)
    engine.config["process"] |= {"terminal": True, "consoleSize": {"height": 33, "width": 77}}
    engine.program("sh", "-c", "stty size; tty; echo ok > /dev/console; ls /proc/self/fd | wc -l")
    path = str(engine.bundle.folder / "console")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        console = terminal.connect(path)
        created = engine.create(console=console)
        os.close(console)
        peer, _ = listener.accept()
        with peer:
            name, fds, _, _ = socket.recv_fds(peer, 100, 2)
    assert name == b"/dev/ptmx"
    assert created.terminal_fd is None
    engine.start(created)
    text = read_terminal(fds[0])
    assert re.fullmatch(r"33 77\r\n/dev/pts/0\r\nok\r\n\d+\r\n", text), text


def test_a_terminal_comes_back_where_no_socket_is_named(engine: Engine) -> None:
    engine.config["mounts"].append(PTS)
    engine.config["process"]["terminal"] = True
    engine.program("stty", "size")
    created = engine.create(size=(12, 34))
    engine.start(created)
    assert created.terminal_fd is not None
    assert read_terminal(os.dup(created.terminal_fd)) == "12 34\r\n"


def test_the_callers_keys_are_out_of_reach(engine: Engine) -> None:
    engine.program("cat", "/proc/keys")
    assert "_ses.engine1" in engine.output()


def test_a_container_runs_without_pivot_root_where_that_is_asked_for(engine: Engine) -> None:
    engine.program("ls", "/")
    assert "bin" in engine.output(no_pivot=True).split()


def test_a_terminal_is_there_in_a_user_namespace_too(engine: Engine) -> None:
    with_userns(engine)
    engine.config["mounts"].append(PTS)
    engine.config["process"]["terminal"] = True
    engine.program("sh", "-c", "tty; echo ok > /dev/console")
    created = engine.create()
    engine.start(created)
    assert created.terminal_fd is not None
    assert read_terminal(os.dup(created.terminal_fd)) == "/dev/pts/0\r\nok\r\n"


def test_a_mount_namespace_and_a_cgroup_namespace_of_others_are_joined(engine: Engine) -> None:
    keeper = subprocess.Popen(["unshare", "-m", "-C", "--propagation", "private", "sleep", "1000"])
    try:
        wait_until(lambda: Path(f"/proc/{keeper.pid}/comm").read_text() == "sleep\n")
        engine.config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "network", "ipc", "uts")] + [
            {"type": kind, "path": f"/proc/{keeper.pid}/ns/{KINDS[kind]}"} for kind in ("mount", "cgroup")
        ]
        created = engine.running()
        assert all(namespace(created.pid, kind) == namespace(keeper.pid, kind) for kind in ("mount", "cgroup"))
    finally:
        keeper.kill()
        keeper.wait()


def test_sockets_of_a_service_manager_are_handed_on_before_the_other_descriptors(engine: Engine) -> None:
    script = (
        "import os, sys, tempfile; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom tests.tools.engine import engine_at\n"
        "for text in (b'three', b'four'):\n"
        "    fd = os.memfd_create('x', 0); os.write(fd, text); os.lseek(fd, 0, 0)\n"
        "with engine_at(Path(tempfile.mkdtemp(prefix='inn-test-'))) as engine:\n"
        "    engine.program('sh', '-c', 'echo $LISTEN_FDS $LISTEN_PID $$; cat <&3; cat <&4')\n"
        "    print(engine.output(listen_fds=1, preserve_fds=1), end='')\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("1 1 1\nthreefour", "")
