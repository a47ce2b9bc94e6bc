"""From docker's words to an OCI config.json, and what is refused on the way."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from backends.container import ContainerSpec, Secret
from backends.errors import InnkeeperError, Unsupported, UsageError
from backends.kernel import lsm
from backends.kernel.capability import DEFAULT_CAPABILITIES
from backends.native import spec
from backends.native.images.image import ImageConfig
from backends.native.networks.endpoint import Endpoint
from backends.native.options import devices, names, ports, privileges, rlimits, seccomp_file, volumes
from backends.native.options.of_image import with_image
from backends.native.record import ContainerRecord

IMAGE = ImageConfig(name="busy", id="x", created_s=0, layers=[], command=["/bin/sh"])
HOST_MISSES = next((name for name in ("CAP_SYS_RESOURCE",) if name not in privileges.host_capabilities()), None)


def config(**asked: Any) -> dict[str, Any]:
    found = ContainerSpec("busy", **asked)
    spec.check(found)
    return spec.build("0123456789ab", with_image(found, IMAGE), [], "innkeeper/x", {"/etc/hosts": "/dev/null"}, {})


def options_at(built: dict[str, Any], place: str) -> list[str]:
    return next(mount["options"] for mount in built["mounts"] if mount["destination"] == place)


def bounding(**asked: Any) -> set[str]:
    return set(config(**asked)["process"]["capabilities"]["bounding"])


# ---------------------------------------------------------------- privileges


def test_capabilities_are_reckoned_as_docker_does() -> None:
    default, host = set(DEFAULT_CAPABILITIES), set(privileges.host_capabilities())
    assert bounding() == default
    assert bounding(cap_add=("net_admin",)) == default | {"CAP_NET_ADMIN"}
    assert bounding(cap_drop=("CAP_MKNOD", "chown")) == default - {"CAP_MKNOD", "CAP_CHOWN"}
    assert bounding(cap_drop=("ALL",)) == set()
    assert bounding(cap_drop=("all",), cap_add=("SYS_TIME",)) == {"CAP_SYS_TIME"}
    assert bounding(cap_add=("ALL",), cap_drop=("SYS_ADMIN",)) == host - {"CAP_SYS_ADMIN"}
    assert bounding(privileged=True) == host


@pytest.mark.skipif(HOST_MISSES is None, reason="this host has every capability")
def test_a_capability_that_the_host_lacks_is_refused_by_name_and_left_out_of_all() -> None:
    assert HOST_MISSES is not None
    with pytest.raises(Unsupported, match=HOST_MISSES):
        config(cap_add=(HOST_MISSES,))
    assert HOST_MISSES not in bounding(cap_add=("ALL",))


def test_privileged_lifts_the_filter_the_masks_and_the_device_list() -> None:
    built = config(privileged=True)
    assert "seccomp" not in built["linux"]
    assert (built["linux"]["maskedPaths"], built["linux"]["readonlyPaths"]) == ([], [])
    assert built["linux"]["resources"]["devices"] == [{"allow": True, "type": "a", "access": "rwm"}]
    assert built["process"]["noNewPrivileges"] is False
    assert "ro" not in options_at(built, "/sys") + options_at(built, "/sys/fs/cgroup")


def test_each_security_option_changes_what_it_names() -> None:
    plain = config()
    assert plain["process"]["noNewPrivileges"] is True
    assert config(security_opts=("no-new-privileges=false",))["process"]["noNewPrivileges"] is False
    assert config(security_opts=("no-new-privileges",), privileged=True)["process"]["noNewPrivileges"] is True
    assert "seccomp" not in config(security_opts=("seccomp=unconfined",))["linux"]
    free = config(security_opts=("systempaths=unconfined",))["linux"]
    assert (free["maskedPaths"], free["readonlyPaths"]) == ([], [])
    masked = config(security_opts=("mask=/proc/cpuinfo:/proc/meminfo", "unmask=/proc/s*"))["linux"]
    assert {"/proc/cpuinfo", "/proc/meminfo", "/proc/kcore"} <= set(masked["maskedPaths"])
    assert not {"/proc/scsi", "/proc/sysrq-trigger", "/proc/sys"} & {*masked["maskedPaths"], *masked["readonlyPaths"]}
    assert "apparmorProfile" not in config(security_opts=("apparmor=unconfined", "label:disable"))["process"]


@pytest.mark.skipif(lsm.has_apparmor(), reason="this kernel has AppArmor")
def test_an_apparmor_profile_by_name_is_refused_where_the_kernel_has_none() -> None:
    with pytest.raises(Unsupported, match="AppArmor"):
        config(security_opts=("apparmor=mine",))


def test_a_filter_of_dockers_format_is_reduced_to_what_holds_here(tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": f"SCMP_ARCH_{os.uname().machine.upper()}", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"name": "write", "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["old"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
            {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        ],
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    found = config(security_opts=(f"seccomp={path}",))["linux"]["seccomp"]
    assert [rule["names"] for rule in found["syscalls"]] == [["read"], ["write"], ["clone"]]
    assert found["architectures"][1] == "SCMP_ARCH_X86"
    assert "archMap" not in found
    with_admin = seccomp_file.read(str(path), ["CAP_SYS_ADMIN"])["syscalls"]
    assert [rule["names"] for rule in with_admin] == [["read"], ["write"], ["mount"]]


# ---------------------------------------------------------------- devices, limits, kernel parameters


def test_a_device_keeps_its_numbers_and_may_have_another_path_and_fewer_rights() -> None:
    built = config(devices=("/dev/null:/dev/nothing:r",))["linux"]
    [node] = built["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/nothing", "c", 1, 3)
    assert built["resources"]["devices"][-1] == {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}
    assert built["resources"]["devices"][0] == {"allow": False, "access": "rwm"}


def test_a_device_is_found_through_symlinks_and_in_folders(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    [(node, access)] = devices.parse_device(f"{tmp_path}/link:rw")
    assert (node["path"], node["minor"], access) == (f"{tmp_path}/link", 5, "rw")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UsageError, match="in /dev"):
        devices.parse_device(str(folder))
    found = {node["path"] for node, _ in devices.parse_device("/dev:/dev/other:r")}
    assert {"/dev/other/null", "/dev/other/zero"} <= found


def test_a_device_rule_is_added_as_it_is() -> None:
    rule = config(device_rules=("c 10:* rw",))["linux"]["resources"]["devices"][-1]
    assert rule == {"allow": True, "type": "c", "major": 10, "access": "rw"}


def test_resource_limits_are_named_as_the_specification_does() -> None:
    assert rlimits.rlimits(["nofile=64:128", "core=0", "nofile=32"]) == [
        {"type": "RLIMIT_NOFILE", "soft": 32, "hard": 32},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]


def test_a_resource_limit_that_cannot_be_raised_is_refused() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if "CAP_SYS_RESOURCE" in privileges.host_capabilities() and os.geteuid() == 0:
        pytest.skip("this host can raise limits")
    with pytest.raises(Unsupported, match=str(most)):
        rlimits.rlimits([f"nofile={most + 1}"])


def test_low_ports_and_ping_are_for_every_user_of_a_network_of_its_own() -> None:
    assert config()["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"
    assert config(network="host")["linux"]["sysctl"] == {}
    given = config(sysctls=("net.core.somaxconn=99", "kernel.shmmax=4096"))["linux"]["sysctl"]
    assert (given["net.core.somaxconn"], given["kernel.shmmax"]) == ("99", "4096")


# ---------------------------------------------------------------- mounts


def test_a_volume_says_how_it_is_mounted(tmp_path: Path) -> None:
    assert volumes.parse_volume(f"{tmp_path}:/data")["options"] == ["rbind", "rprivate", "rw"]
    read_only = volumes.parse_volume(f"{tmp_path}:/data:ro,z,noexec")["options"]
    assert {"ro", "noexec"} <= set(read_only)
    assert "z" not in read_only
    text = f"type=bind,source={tmp_path},target=/with:colon,readonly,bind-nonrecursive"
    mount = volumes.parse_mount(text)
    assert mount["destination"] == "/with:colon"
    assert mount["options"][:3] == ["bind", "rprivate", "ro"]


def test_a_volume_with_a_name_says_whose_it_is() -> None:
    mount = volumes.parse_volume("box.1:/data/:ro,nocopy,z,noexec")
    assert (mount["volume"], mount["nocopy"], mount["destination"]) == ("box.1", True, "/data")
    assert mount["options"] == ["bind", "rprivate", "ro", "noexec"]
    mount = volumes.parse_mount("type=volume,src=box,dst=/data,volume-nocopy=false,readonly=0,volume-driver=local")
    assert (mount["volume"], mount["nocopy"], mount["options"]) == ("box", False, ["bind", "rprivate", "rw"])
    own = volumes.parse_mount("dst=/data,readonly")
    assert (own["volume"], own["source"], own["options"][-1]) == ("", "", "ro")


def test_memory_file_systems_are_noexec_unless_told(tmp_path: Path) -> None:
    assert volumes.parse_tmpfs("/t")["options"] == ["noexec", "nosuid", "nodev"]
    assert volumes.parse_tmpfs("/t:exec,size=1m,mode=700,size=2M")["options"] == [
        "nosuid", "nodev", "exec", "mode=700", "size=2m",
    ]  # fmt: skip
    mount = volumes.parse_mount("type=tmpfs,target=/t,tmpfs-size=1048576,tmpfs-mode=1770")
    assert mount["options"] == ["noexec", "nosuid", "nodev", "size=1048576", "mode=1770"]


def test_outer_folders_are_mounted_first_and_in_place_of_ours(tmp_path: Path) -> None:
    places = [mount["destination"] for mount in config(tmpfs=("/a/b", "/a", "/dev/shm", "/etc/hosts"))["mounts"]]
    assert places[-4:] == ["/a", "/a/b", "/dev/shm", "/etc/hosts"]
    assert (places.count("/dev/shm"), places.count("/etc/hosts")) == (1, 1)


def test_the_size_of_shared_memory_is_as_asked() -> None:
    assert "size=65536k" in options_at(config(), "/dev/shm")
    assert "size=1024k" in options_at(config(shm_bytes=1 << 20), "/dev/shm")


# ---------------------------------------------------------------- namespaces and names


def test_shared_namespaces_are_left_out() -> None:
    def types(**asked: Any) -> list[str]:
        return [entry["type"] for entry in config(**asked)["linux"]["namespaces"]]

    assert types() == ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    host = {"pid_mode": "host", "ipc_mode": "host", "uts_mode": "host", "cgroupns_mode": "host", "network": "host"}
    assert types(**host) == ["mount"]


def test_a_container_with_the_hosts_network_has_its_name_and_one_with_its_uts_sets_none() -> None:
    assert config()["hostname"] == "0123456789ab"
    assert config(network="host")["hostname"] == os.uname().nodename
    assert config(network="host", hostname="own")["hostname"] == "own"
    assert "hostname" not in config(uts_mode="host")


def test_hosts_and_name_servers_come_after_the_usual_ones() -> None:
    asked = ContainerSpec("busy", hosts=("db:10.0.0.7", "up:host-gateway", "six=::1"), dns=("9.9.9.9",))
    text = names.hosts_file(asked, "box", [Endpoint("bridge", "inn0", "10.1.0.2", 24, "10.1.0.1")])
    assert text.splitlines()[-4:] == ["10.1.0.2\tbox", "10.0.0.7\tdb", "10.1.0.1\tup", "::1\tsix"]
    record = ContainerRecord("0123456789ab", "busy", "busy", 0.0, [], "none", dns=["9.9.9.9"])
    assert names.resolv_conf(record).splitlines()[-1] == "nameserver 9.9.9.9"


def test_ports_have_an_address_a_protocol_and_ranges() -> None:
    assert ports.parse_port("8080:80") == [ports.Port(8080, 80)]
    assert ports.parse_port("[::1]:53:53/udp") == [ports.Port(53, 53, "udp", "::1")]
    assert [port.guest for port in ports.parse_port("127.0.0.1:8000-8002:80-82")] == [80, 81, 82]
    with pytest.raises(Unsupported, match="at most"):
        ports.check(("[::1]:1000-1300:1000-1300",))
    assert len(ports.parse_ports(["127.0.0.1:80:80", "127.0.0.2:80:80", "80:80/udp"])) == 3


@pytest.mark.parametrize(
    "asked",
    [
        {"network": "../moon"},
        {"mac": "moon"},
        {"mac": "02:00:00:00:00:01", "network": "none"},
        {"dns_search": ("a b",)},
        {"dns_options": ("ndots: 2",)},
        {"dns_search": ("a",), "network": "container:x"},
        {"expose": ("8080:80",)},
        {"expose": ("moon",)},
        {"userns": "some"},
        {"pid_mode": "container:x"},
        {"hostname": "-x"},
        {"hostname": "x", "uts_mode": "host"},
        {"privileged": True, "userns": "auto"},
        {"userns": "auto", "pid_mode": "host"},
        {"userns": "auto", "driver": "runc"},
        {"shm_bytes": 1 << 20, "ipc_mode": "host"},
        {"shm_bytes": 1},
        {"publish": ("80:80",), "network": "host"},
        {"publish": ("80:80",), "network": "none"},
        {"publish": ("80:80", "127.0.0.1:80:81")},
        {"publish": ("0",)},
        {"publish": ("0:80",)},
        {"publish": ("1-3:80-81",)},
        {"publish": ("1.2.3:80:80",)},
        {"publish": ("80:80/icmp",)},
        {"cap_add": ("FLY",)},
        {"cap_drop": ("",)},
        {"security_opts": ("nonsense",)},
        {"security_opts": ("seccomp=/nonexistent.json",)},
        {"security_opts": ("no-new-privileges=maybe",)},
        {"security_opts": ("label=colour:red",)},
        {"devices": ("/etc/passwd",)},
        {"devices": ("/dev/nosuch",)},
        {"devices": ("/dev/null:/dev/x:rx",)},
        {"devices": ("null",)},
        {"device_rules": ("c 1 rwm",)},
        {"ulimits": ("nofile",)},
        {"ulimits": ("files=3",)},
        {"ulimits": ("nofile=3:2",)},
        {"ulimits": ("nofile=-2",)},
        {"sysctls": ("kernel.panic=1",)},
        {"sysctls": ("net.ipv4.ip_forward",)},
        {"sysctls": ("net.ipv4.ip_forward=1",), "network": "host"},
        {"sysctls": ("kernel.shmmax=1",), "ipc_mode": "host"},
        {"sysctls": ("kernel.hostname=x",)},
        {"sysctls": ("net/../kernel/panic=1",)},
        {"tmpfs": ("relative",)},
        {"tmpfs": ("/t:size=much",)},
        {"tmpfs": ("/t:secret",)},
        {"tmpfs": ("/proc/x",)},
        {"tmpfs": ("/",)},
        {"tmpfs": ("/a", "/a/")},
        {"volumes": ("/nonexistent:/x",)},
        {"volumes": ("/tmp:/x:purple",)},
        {"volumes": ("no/name:/x",)},
        {"volumes": ("-named:/x",)},
        {"volumes": ("named:x",)},
        {"volumes": ("named:/",)},
        {"volumes": ("named:/x:rshared",)},
        {"volumes": (":/x",)},
        {"volumes": ("named:/x", "other:/x/")},
        {"mounts": ("type=volume,source=/a,target=/b",)},
        {"mounts": ("type=volume,source=a",)},
        {"mounts": ("type=volume,source=a,target=/b,volume-opt=size=1",)},
        {"mounts": ("type=volume,source=a,target=/b,volume-driver=nfs",)},
        {"mounts": ("type=volume,source=a,target=/b,volume-nocopy=perhaps",)},
        {"mounts": ("type=bind,source=/tmp",)},
        {"mounts": ("type=bind,target=/x",)},
        {"mounts": ("type=tmpfs,target=/x,tmpfs-colour=red",)},
        {"hosts": ("nameonly",)},
        {"hosts": ("a:not-an-address",)},
        {"dns": ("nowhere",)},
        {"oom_score_adj": 1001},
        {"annotations": {"io.innkeeper.limits": "x"}},
        {"secrets": (Secret("a/b", "file:/x"),)},
        {"secrets": (Secret("a", "file:/x"), Secret("a", "file:/y"))},
        {"entrypoint": ()},
        {"args": ("a\0b",)},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_one_line(asked: dict[str, Any]) -> None:
    with pytest.raises(InnkeeperError) as caught:
        config(**asked)
    assert caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["[]", "{", '{"defaultAction": 3}', '{"defaultAction": "A", "syscalls": [1]}', "\0"])
def test_a_file_that_is_no_filter_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="seccomp profile"):
        seccomp_file.read(str(path), [])


def test_sharing_a_mount_that_takes_no_part_is_refused(tmp_path: Path) -> None:
    if volumes._mount_of(str(tmp_path))[1]:
        pytest.skip("the mount of the temporary folder is shared")
    with pytest.raises(UsageError, match="not a shared mount"):
        volumes.parse_volume(f"{tmp_path}:/x:rshared")
