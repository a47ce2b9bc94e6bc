"""What `process` of a config.json makes of a program: user, capabilities, limits, scheduling, clocks."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kernel import capability, lsm
from tests.tools.bundles import Bundle
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    """A bundle of busybox; containers and files of it are removed afterwards."""
    made = Bundle.make(Path(tempfile.mkdtemp(prefix="inn-test-")))
    yield made
    made.remove()


def sets_of(status: str) -> dict[str, list[str]]:
    """The capability sets in /proc/PID/status, by their names there."""
    rows = (line.split(":") for line in status.splitlines() if line.startswith("Cap"))
    return {name: capability.names_of(int(value, 16)) for name, value in rows}


def test_a_program_has_the_five_sets_that_were_asked_for(bundle: Bundle) -> None:
    bundle.process["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = sets_of(bundle.sh("cat /proc/self/status").out)
    assert found["CapBnd"] == ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"]
    assert found["CapInh"] == found["CapAmb"] == found["CapPrm"] == found["CapEff"] == ["CAP_CHOWN"]


def test_ambient_capabilities_need_to_be_inheritable(bundle: Bundle) -> None:
    bundle.process["capabilities"]["ambient"] = ["CAP_KILL"]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = sets_of(bundle.sh("cat /proc/self/status").out)
    assert found["CapAmb"] == found["CapEff"] == []


def test_without_capabilities_the_program_has_none(bundle: Bundle) -> None:
    del bundle.process["capabilities"]
    assert not any(sets_of(bundle.sh("cat /proc/self/status").out).values())


def test_capabilities_that_nobody_here_has_are_told_and_passed_over(bundle: Bundle) -> None:
    bundle.process["capabilities"]["bounding"] = ["CAP_KILL", "CAP_FUTURE"]
    answer = bundle.sh("cat /proc/self/status")
    assert answer.code == 0
    assert sets_of(answer.out)["CapBnd"] == ["CAP_KILL"]
    assert "CAP_FUTURE" in answer.err


def test_a_user_has_his_groups_and_his_umask(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 7], "umask": 0o27}
    answer = bundle.sh("id -G; umask; echo $HOME; grep NoNewPrivs /proc/self/status")
    assert answer.out.split() == ["1000", "5", "7", "0027", "/home/guest", "NoNewPrivs:", "1"]


@pytest.mark.parametrize("has_users", [False, pytest.param(True, marks=needs("userns"))])
def test_a_program_may_stay_in_the_groups_of_who_calls(bundle: Bundle, has_users: bool) -> None:
    bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    if has_users:
        bundle.linux["namespaces"].append({"type": "user"})
        for name in ("uidMappings", "gidMappings"):
            bundle.linux[name] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    before = os.getgroups()
    os.setgroups([3, 70000])
    try:
        answer = bundle.sh("grep Groups: /proc/self/status")
        del bundle.config["annotations"]
        none = bundle.sh("grep Groups: /proc/self/status")
    finally:
        os.setgroups(before)
    assert answer.out.split()[1:] == ["3", "65534" if has_users else "70000"], answer
    assert none.out.split()[1:] == []


def test_a_user_may_open_his_standard_streams_again(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.config["mounts"][1]["options"] = ["mode=755"]
    assert bundle.sh("echo again > /dev/stdout").out == "again\n"


def test_limits_are_set_before_the_right_to_raise_them_goes(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    assert bundle.sh("ulimit -n; ulimit -Hn; ulimit -c").out.split() == ["100", "200", "0"]


def test_a_limit_that_cannot_be_raised_is_an_error_in_runcs_words(bundle: Bundle) -> None:
    if "CAP_SYS_RESOURCE" not in capability.missing(("CAP_SYS_RESOURCE",)):
        pytest.skip("this host may raise every limit")
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**40}]
    answer = bundle.sh("true")
    assert answer.code != 0
    assert "error setting rlimit type 7: operation not permitted" in answer.err


def test_the_oom_score_is_what_was_asked_for(bundle: Bundle) -> None:
    bundle.process["oomScoreAdj"] = 321
    assert bundle.sh("cat /proc/self/oom_score_adj").out == "321\n"


def test_the_scheduling_policy_and_niceness_are_set(bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    fields = bundle.sh("cat /proc/self/stat; ionice -p $$").out
    stat = fields.splitlines()[0].rpartition(")")[2].split()
    assert stat[16] == "7", "niceness, field 19"
    assert stat[38] == "3", "SCHED_BATCH, field 41"
    assert "idle" in fields


def test_a_32_bit_personality_shows_in_uname(bundle: Bundle) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("its name for 32 bits is known for x86-64")
    if subprocess.run(["setarch", "linux32", "uname", "-m"], capture_output=True).stdout != b"i686\n":
        pytest.skip("this kernel tells the same machine to all")
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert bundle.sh("uname -m").out == "i686\n"


def test_a_working_directory_is_made_and_one_outside_the_root_refused(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/srv/new"
    assert bundle.sh("pwd").out == "/srv/new\n"
    bundle.process["cwd"] = "/proc/self/fd/7"
    assert bundle.sh("pwd").code != 0


def test_a_working_directory_that_only_the_user_may_enter_is_entered(bundle: Bundle) -> None:
    folder = bundle.folder / "rootfs" / "private"
    folder.mkdir(mode=0o700)
    os.chown(folder, 1000, 1000)
    bundle.process.update({"cwd": "/private", "user": {"uid": 1000, "gid": 1000}})
    assert bundle.sh("pwd").out == "/private\n"


def test_a_user_namespace_maps_users_and_raises_limits_from_outside(bundle: Bundle) -> None:
    maps = [{"containerID": 0, "hostID": 200000, "size": 1000}]
    bundle.linux["namespaces"].append({"type": "user"})
    bundle.linux.update({"uidMappings": maps, "gidMappings": maps})
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]
    for folder in (bundle.folder, *bundle.folder.rglob("*")):
        os.chown(folder, 200000, 200000, follow_symlinks=False)
    answer = bundle.sh("cat /proc/self/uid_map /proc/self/setgroups; id -u; ulimit -Hn")
    assert answer.out.split() == ["0", "200000", "1000", "allow", "0", "128"], answer.err


def test_a_user_that_is_not_mapped_is_named(bundle: Bundle) -> None:
    maps = [{"containerID": 0, "hostID": 200000, "size": 10}]
    bundle.linux["namespaces"].append({"type": "user"})
    bundle.linux.update({"uidMappings": maps, "gidMappings": maps})
    bundle.process["user"] = {"uid": 50, "gid": 0}
    for folder in (bundle.folder, *bundle.folder.rglob("*")):
        os.chown(folder, 200000, 200000, follow_symlinks=False)
    answer = bundle.sh("true")
    assert answer.code != 0
    assert "cannot setuid to unmapped uid 50 in user namespace" in answer.err


def test_clocks_of_a_time_namespace_are_moved(bundle: Bundle) -> None:
    if not os.path.exists("/proc/self/timens_offsets"):
        pytest.skip("the kernel has no time namespaces")
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1000}, "boottime": {"secs": 86400, "nanosecs": 5}}
    before = float(Path("/proc/uptime").read_text().split()[0])
    answer = bundle.sh("cat /proc/self/timens_offsets; cut -d' ' -f1 /proc/uptime")
    words = answer.out.split()
    assert words[:6] == ["monotonic", "1000", "0", "boottime", "86400", "5"], answer.err
    assert 86400 <= float(words[6]) - before < 86500


def test_kernel_parameters_of_its_own_namespaces_are_set(bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "net/ipv4/conf/lo/forwarding": "1"}
    names = "net/ipv4/ip_forward kernel/msgmax net/ipv4/conf/lo/forwarding"
    answer = bundle.sh(f"cd /proc/sys && cat {names}")
    assert answer.out.split() == ["1", "12345", "1"], answer.err
    assert Path("/proc/sys/kernel/msgmax").read_text() != "12345\n"


@pytest.mark.parametrize("name,label", [("apparmorProfile", "inn-none"), ("selinuxLabel", "a:b:c:s0")])
def test_a_label_that_this_kernel_has_no_use_for_is_told_of(bundle: Bundle, name: str, label: str) -> None:
    if lsm.has_apparmor() or lsm.has_selinux():
        pytest.skip("this kernel has labels")
    bundle.process[name] = label
    answer = bundle.sh("true")
    assert answer.code == 0
    assert f"ignoring process.{name} {label!r}: this kernel has no " in answer.err


def test_a_memory_policy_is_set_or_refused(bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_INTERLEAVE", "nodes": "0"}
    answer = bundle.sh("cut -d' ' -f2 /proc/self/numa_maps | sort -u")
    if os.path.exists("/proc/self/numa_maps"):
        assert answer.out.startswith("interleave"), answer.err
    else:
        assert "the kernel has no NUMA" in answer.err


@needs("userns")
def test_devices_in_a_user_namespace_are_as_asked_for_though_the_host_has_none(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name] = [{"containerID": 0, "hostID": 200000, "size": 1000}]
    bundle.linux["devices"] = [
        {"path": "/dev/sub/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o604, "uid": 3, "gid": 4},
        {"path": "/dev/nothing", "type": "c", "major": 1, "minor": 3},
    ]
    root = bundle.folder / "rootfs"
    for path in (bundle.folder, root):
        path.chmod(0o755)
    for path in (root, root / "dev", root / "proc"):
        os.chown(path, 200000, 200000)

    answer = bundle.sh(
        "cd /dev; stat -c '%n %t:%T %a %u:%g' sub/kmsg nothing; echo x > nothing && cat nothing; "
        "grep -cE ' /dev/(null|nothing|sub/kmsg) .*nosuid,noexec' /proc/self/mountinfo"
    )

    assert answer.out.splitlines() == ["sub/kmsg 1:b 604 3:4", "nothing 1:3 666 0:0", "3"], answer
