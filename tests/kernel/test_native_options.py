"""What docker's run options do, seen from inside the container."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec, ExecSpec, Secret
from backends.errors import InnkeeperError, StartFailed
from backends.kernel.capability import DEFAULT_CAPABILITIES, mask_of
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.native.options import privileges
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Inside = Callable[..., str]
R = Recorder("test")


@pytest.fixture
def inside(run: Run, native: NativeBackend) -> Inside:
    """Run a shell line as the program of a container with these options and return what it printed."""

    def capture(line: str, **options: object) -> str:
        guest = run("sh", "-c", line, **{"network": "none", **options})
        native.wait(guest.ref, timeout_s=60)
        return log_of(native, guest)

    return capture


def bounding(inside: Inside, **options: object) -> int:
    return int(inside("grep CapBnd /proc/self/status", **options).split()[1], 16)


# ---------------------------------------------------------------- privileges


def test_capabilities_are_dockers_and_more_or_less_as_asked(inside: Inside) -> None:
    default, host = mask_of(DEFAULT_CAPABILITIES), mask_of(tuple(privileges.host_capabilities()))
    assert bounding(inside) == default == 0xA80425FB
    assert bounding(inside, cap_add=("NET_ADMIN",)) == default | 1 << 12
    assert bounding(inside, cap_drop=("ALL",), cap_add=("chown",)) == 1
    assert bounding(inside, cap_add=("ALL",)) == host
    assert inside("ip link set lo down && echo down", cap_add=("NET_ADMIN",)) == "down\n"


def test_no_new_privileges_can_be_lifted(inside: Inside) -> None:
    line = "grep NoNewPrivs /proc/self/status"
    assert inside(line).split()[1] == "1"
    assert inside(line, security_opts=("no-new-privileges=false",)).split()[1] == "0"


def test_the_filter_can_be_lifted_and_replaced(inside: Inside, tmp_path: Path) -> None:
    line = "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo unshared; mkdir /tmp/x && echo made"
    assert inside(line).split() == ["Seccomp:", "2", "made"]
    free = inside(line, security_opts=("seccomp=unconfined",), cap_add=("SYS_ADMIN",))
    assert free.split() == ["Seccomp:", "0", "unshared", "made"]
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    text = inside("mkdir /tmp/x; touch /tmp/y && echo touched", security_opts=(f"seccomp={path}",))
    assert "not supported" in text
    assert "touched" in text


def test_a_capability_opens_the_calls_that_it_is_for(inside: Inside) -> None:
    line = "unshare -m --propagation unchanged true && echo unshared"
    assert "unshared" not in inside(line)
    assert "unshared" in inside(line, cap_add=("SYS_ADMIN",))


def test_system_paths_can_be_uncovered_and_covered(inside: Inside) -> None:
    line = (
        "head -c 1 /proc/timer_list | wc -c; head -c 1 /proc/cpuinfo | wc -c; touch /proc/sys/kernel/panic && echo rw"
    )
    assert inside(line).split()[0] == "0"
    free = inside(line, security_opts=("systempaths=unconfined",)).split()
    assert free[-1] == "rw"
    masked = inside("cat /proc/cpuinfo | wc -c", security_opts=("mask=/proc/cpuinfo",))
    assert masked.split() == ["0"]


def test_privileged_has_all_that_the_host_has_to_give(inside: Inside) -> None:
    options = {"privileged": True}
    assert bounding(inside, **options) == mask_of(tuple(privileges.host_capabilities()))
    status = dict(line.split(":\t", 1) for line in inside("cat /proc/self/status", **options).splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "0")
    mounts = inside("cat /proc/self/mountinfo", **options).splitlines()
    flags = {line.split()[4]: line.split()[5].split(",") for line in mounts}
    assert "rw" in flags["/sys"]
    assert not {"/proc/kcore", "/proc/sys", "/sys/firmware"} & flags.keys()
    assert "mounted" not in inside("mount -t tmpfs none /mnt && echo mounted")
    assert inside("mount -t tmpfs none /mnt && echo mounted", **options) == "mounted\n"


def test_privileged_finds_the_hosts_devices_and_may_open_them(inside: Inside) -> None:
    hosts = {entry.name for entry in os.scandir("/dev") if entry.name in ("kmsg", "loop-control", "fuse", "net")}
    assert hosts <= set(inside("ls /dev", privileged=True).split())
    line = "mknod /tmp/k c 1 11 && head -c 0 /tmp/k && echo opened"
    assert inside(line, privileged=True) == "opened\n"
    assert "opened" not in inside(line, cap_add=("SYSLOG",))


def test_an_exec_can_be_privileged_in_a_container_that_is_not(run: Run, output_of: Inside) -> None:
    guest = run("sleep", "1000", network="none")
    line = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status"
    free = output_of(guest, line, privileged=True).split()
    everything = f"{mask_of(tuple(privileges.host_capabilities())):016x}"
    assert free == ["CapEff:", everything, "NoNewPrivs:", "0", "Seccomp:", "0"]
    assert output_of(guest, line).split()[1] == "00000000a80425fb"


def test_a_detached_exec_goes_on_without_its_client(native: NativeBackend, run: Run, output_of: Inside) -> None:
    guest = run("sleep", "1000", network="none")
    with open(os.devnull, "r+b") as null:
        line = "trap 'touch /tmp/hung-up' HUP; touch /tmp/up; while :; do sleep 0.05; done"
        sessions = []
        for detached in (True, False):
            spec = ExecSpec(("sh", "-c", line.replace("/tmp/", f"/tmp/{detached}-")), detached=detached)
            sessions.append(native.exec(guest.ref, spec, (null.fileno(),) * 3))
    wait_until(lambda: output_of(guest, "ls /tmp").split() == ["False-up", "True-up"], timeout_s=20)
    for session in sessions:
        session.close()
    wait_until(lambda: "False-hung-up" in output_of(guest, "ls /tmp"), timeout_s=20)
    assert "True-hung-up" not in output_of(guest, "ls /tmp")
    assert "while" in output_of(guest, "cat /proc/[0-9]*/cmdline")


# ---------------------------------------------------------------- devices


def test_a_device_is_made_and_may_be_used_as_far_as_said(inside: Inside) -> None:
    line = "stat -c '%t:%T %a' /dev/x; cat /dev/x </dev/null | head -c 1 | wc -c; echo y > /dev/x"
    both = inside(line, devices=("/dev/zero:/dev/x",))
    assert both.splitlines() == ["1:5 666", "1"]
    kmsg = "head -c 0 /dev/kmsg && echo read; (echo x > /dev/kmsg) 2>/dev/null && echo written"
    assert inside(kmsg, devices=("/dev/kmsg:/dev/kmsg:r",), cap_add=("SYSLOG",)) == "read\n"
    assert "written" in inside(kmsg, devices=("/dev/kmsg:w",), cap_add=("SYSLOG",))


def test_a_device_rule_lets_a_node_be_opened_that_it_makes(inside: Inside) -> None:
    line = "mknod /tmp/k c 1 11 && head -c 0 /tmp/k && echo opened"
    assert "opened" not in inside(line, cap_add=("SYSLOG",))
    assert inside(line, device_rules=("c 1:11 r",), cap_add=("SYSLOG",)) == "opened\n"


# ---------------------------------------------------------------- the program


def test_resource_limits_are_the_programs(inside: Inside) -> None:
    text = inside("ulimit -Sn; ulimit -Hn; ulimit -c", ulimits=("nofile=99:199", "core=0"))
    assert text.split() == ["99", "199", "0"]


def test_kernel_parameters_are_its_own(inside: Inside) -> None:
    mine = Path("/proc/sys/net/core/somaxconn").read_text()
    line = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert inside(line, sysctls=("net.core.somaxconn=77", "kernel.msgmax=4444")).split() == ["77", "4444", "0"]
    assert Path("/proc/sys/net/core/somaxconn").read_text() == mine


def test_it_has_further_groups_by_number_and_by_name(inside: Inside) -> None:
    assert set(inside("id -G", groups=("4242", "daemon")).split()) == {"0", "4242", "1"}


def test_an_unknown_group_is_told(run: Run) -> None:
    with pytest.raises(StartFailed, match="nosuchgroup"):
        run("true", groups=("nosuchgroup",), network="none")


def test_the_oom_killer_can_be_told_to_take_it_sooner(inside: Inside) -> None:
    assert inside("cat /proc/self/oom_score_adj", oom_score_adj=345) == "345\n"


def test_an_entry_point_takes_the_place_of_the_images(native: NativeBackend, run: Run) -> None:
    guest = run("one", "two", entrypoint=("echo", "zero"), network="none")
    native.wait(guest.ref, timeout_s=60)
    assert log_of(native, guest) == "zero one two\n"


def test_a_first_process_reaps_passes_signals_on_and_ends_as_the_program(
    native: NativeBackend, run: Run, output_of: Inside
) -> None:
    line = "trap 'exit 5' TERM; (sleep 0.01 & exec true); echo ready; while :; do sleep 0.01; done"
    guest = run("sh", "-c", line, init=True, network="none", read_only=True)
    assert output_of(guest, "tr '\\0' ' ' < /proc/1/cmdline").startswith("/dev/init sh -c")
    wait_until(lambda: log_of(native, guest) == "ready\n", timeout_s=20)
    zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
    wait_until(lambda: output_of(guest, zombies) == "0\n", timeout_s=20)
    assert "Read-only" in output_of(guest, "echo x 2>&1 > /dev/init; (echo x > /dev/init) 2>&1")
    native.stop(guest.ref, R, timeout_s=20)
    assert now(native, guest).exit_code == 5


def test_a_first_process_tells_of_a_program_that_is_not_there(native: NativeBackend, run: Run) -> None:
    guest = run("nosuchprogram", init=True, network="none")
    assert native.wait(guest.ref, timeout_s=60) == 127
    assert "no such program" in log_of(native, guest)


# ---------------------------------------------------------------- what it finds


def test_memory_file_systems_have_the_size_and_flags_asked_for(inside: Inside) -> None:
    line = "grep -E ' (/t|/run|/dev/shm) ' /proc/self/mountinfo; stat -c %a /t"
    text = inside(line, tmpfs=("/t:size=1m,mode=700,exec", "/run"), shm_bytes=2 << 20)
    rows = {row.split()[4]: row for row in text.splitlines()[:-1]}
    assert "size=1024k" in rows["/t"]
    assert "noexec" not in rows["/t"]
    assert "noexec" in rows["/run"]
    assert "nosuid" in rows["/run"]
    assert "size=2048k" in rows["/dev/shm"]
    assert text.split()[-1] == "700"


def test_what_is_mounted_below_a_read_only_volume_cannot_be_written_either(
    native: NativeBackend, run: Run, tmp_path: Path
) -> None:
    line = "touch /data/a 2>/dev/null || echo refused; touch /data/null/b 2>/dev/null || echo refused"
    guest = run("sh", "-c", line, volumes=("/dev:/data:ro",), network="none")
    native.wait(guest.ref, timeout_s=60)
    assert log_of(native, guest) == "refused\nrefused\n"
    text = "touch /data/shm/inn-test-x 2>/dev/null && rm /data/shm/inn-test-x && echo written"
    shm = run("sh", "-c", text, mounts=("type=bind,source=/dev,target=/data,readonly",), network="none")
    native.wait(shm.ref, timeout_s=60)
    assert log_of(native, shm) == ""


def test_a_bind_can_leave_out_what_is_mounted_below(inside: Inside) -> None:
    assert "shm" in inside("ls /data", volumes=("/dev:/data:ro",))
    text = inside("ls /data/pts | wc -l", mounts=("type=bind,source=/dev,target=/data,bind-recursive=disabled",))
    assert text.split() == ["0"]


def test_names_of_hosts_and_name_servers_are_as_asked(inside: Inside) -> None:
    text = inside("cat /etc/hosts /etc/resolv.conf", hosts=("db:10.9.8.7",), dns=("9.9.9.9",))
    assert "10.9.8.7\tdb" in text
    assert [line for line in text.splitlines() if line.startswith("nameserver")] == ["nameserver 9.9.9.9"]


# ---------------------------------------------------------------- namespaces


@pytest.mark.parametrize(
    "name, option", [("pid", "pid_mode"), ("ipc", "ipc_mode"), ("uts", "uts_mode"), ("cgroup", "cgroupns_mode")]
)
def test_a_namespace_can_be_the_hosts(inside: Inside, name: str, option: str) -> None:
    mine = os.readlink(f"/proc/self/ns/{name}")
    assert inside(f"readlink /proc/self/ns/{name}", **{option: "host"}).strip() == mine
    assert inside(f"readlink /proc/self/ns/{name}").strip() != mine


def test_the_hosts_network_has_its_name_and_files_and_no_parameters_of_its_own(inside: Inside) -> None:
    line = "readlink /proc/self/ns/net; hostname; cat /etc/hosts; ls /sys/class/net"
    text = inside(line, network="host")
    assert text.splitlines()[:2] == [os.readlink("/proc/self/ns/net"), os.uname().nodename]
    assert Path("/etc/hosts").read_text().strip() in text
    assert set(text.split()[-len(os.listdir("/sys/class/net")) :]) == set(os.listdir("/sys/class/net"))


def test_a_container_in_the_hosts_pid_namespace_ends_with_all_its_processes(
    native: NativeBackend, run: Run, output_of: Inside
) -> None:
    guest = run("sh", "-c", "sleep 4711 & sleep 4712", pid_mode="host", network="none")
    assert output_of(guest, "cat /proc/1/comm").strip() == Path("/proc/1/comm").read_text().strip()
    pids = [process.pid for process in native.processes(guest.ref)]
    native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), timeout_s=10)


def test_what_a_program_leaves_behind_cannot_keep_its_container_by_writing_on(native: NativeBackend, run: Run) -> None:
    line = "for i in 1 2 3 4 5 6 7 8; do yes & yes >&2 & done; exit 3"
    guest = run("sh", "-c", line, pid_mode="host", network="none")
    assert native.wait(guest.ref, timeout_s=60) == 3
    wait_until(lambda: not native._group(guest.ref.id).exists(), timeout_s=10)


# ---------------------------------------------------------------- refusals


def test_what_is_refused_leaves_nothing(native: NativeBackend, root: Path) -> None:
    native.images()
    before = sorted(str(path) for path in (root / "containers").iterdir())
    bad: list[dict[str, object]] = [
        {"cap_add": ("FLY",)},
        {"devices": ("/dev/nosuch",)},
        {"sysctls": ("kernel.panic=1",)},
        {"hostname": "x", "uts_mode": "host"},
        {"security_opts": ("seccomp=/nonexistent",)},
        {"volumes": ("/nonexistent:/x",)},
        {"ulimits": ("nofile=2:1",)},
    ]
    for options in bad:
        with pytest.raises(InnkeeperError):
            native.create(ContainerSpec("host", ("true",), **options), R)  # type: ignore[arg-type]
    assert sorted(str(path) for path in (root / "containers").iterdir()) == before
    assert list((root / "names").iterdir()) == []
    assert list((root / "leases").iterdir() if (root / "leases").exists() else []) == []


@needs("userns", "idmap")
def test_the_options_hold_in_a_user_namespace_too(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INN_TEST_TOKEN", "in-a-namespace")
    line = """cat /run/secrets/token; echo; cat /proc/1/comm /proc/sys/kernel/msgmax; ulimit -n; id -u
    grep ' /t ' /proc/self/mountinfo | grep -o noexec; stat -c %u /etc/hosts; awk '{print $3}' /proc/self/uid_map"""
    text = inside(
        line,
        userns="auto",
        init=True,
        secrets=(Secret("token", "env:INN_TEST_TOKEN", 0o444),),
        sysctls=("kernel.msgmax=999",),
        ulimits=("nofile=55",),
        tmpfs=("/t",),
        user="daemon",
    )
    assert text.split() == ["in-a-namespace", "init", "999", "55", "1", "noexec", "0", "65536"]
