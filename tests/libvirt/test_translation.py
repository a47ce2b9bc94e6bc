"""libvirt's words become ours: errors, XML, states."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import InnkeeperError, NotFound
from backends.libvirt import failures
from backends.libvirt.api import load
from backends.libvirt.convert import HostFacts, limits_of, note_of, state_of
from backends.libvirt.domain_xml import as_json, read_domain
from backends.libvirt.limit_calls import cpu_map
from backends.libvirt.snapshots import Found, parents_first, read_snapshot
from backends.model import DeviceIo, Snapshot
from tests.tools.needs import needs

DOMAIN = """
<domain type='kvm' id='3'>
  <name>web &amp; more</name>
  <uuid>8cd8890b-eb3f-4936-a33b-aa139df7edfe</uuid>
  <metadata><m:team xmlns:m="urn:example">blue</m:team></metadata>
  <memory unit='MiB'>512</memory>
  <currentMemory unit='KiB'>262144</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <cputune>
    <shares>2048</shares><period>100000</period><quota>25000</quota>
    <vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='1'/>
  </cputune>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><nvram>/x.fd</nvram></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='/images/web.qcow2'/><target dev='vda'/>
      <iotune><total_bytes_sec>1048576</total_bytes_sec><write_iops_sec>20</write_iops_sec></iotune>
    </disk>
    <disk type='block' device='disk'><source dev='/dev/sdb'/><target dev='vdb'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet7'/>
      <bandwidth><inbound average='100'/><outbound average='50'/></bandwidth>
    </interface>
    <serial type='pty'><log file='/var/log/web.log'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@needs("libvirt")
def test_every_error_code_of_the_installed_libvirt_is_in_the_table() -> None:
    unmapped = [name for name in failures.code_names().values() if failures.kind_of(name) is None]

    assert not unmapped


def test_no_error_code_is_in_the_table_twice() -> None:
    names = [name for listed in failures.KINDS.values() for name in listed.split()]

    assert len(names) == len(set(names))
    assert all(issubclass(kind, InnkeeperError) for kind in failures.KINDS)


@needs("libvirt")
def test_a_libvirt_error_keeps_what_was_tried_and_what_libvirt_said() -> None:
    module = load()
    connection = module.open("test:///default")

    with pytest.raises(NotFound) as caught, failures.translated("find the guest nobody"):
        connection.lookupByName("nobody")

    assert str(caught.value) == "cannot find the guest nobody: Domain not found"
    assert isinstance(caught.value.__cause__, module.libvirtError)
    connection.close()


def test_without_libvirt_python_the_backend_says_what_to_install() -> None:
    program = """
import sys; sys.modules["libvirt"] = None
from pathlib import Path
from backends.libvirt.backend import make
from backends.registry import BackendConfig
from backends.errors import BackendUnavailable
backend = make(BackendConfig(Path("/nowhere"), Path("/nowhere/run")))
try:
    backend.open()
except BackendUnavailable as error:
    print(error.message, "|", error.hint)
print([(line.name, line.ok) for line in backend.check()][0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "not installed" in done.stdout
    assert "apt install python3-libvirt" in done.stdout
    assert "('libvirt-python', False)" in done.stdout


def test_a_domains_xml_is_read() -> None:
    info = read_domain(DOMAIN)

    assert (info.name, info.kind, info.vcpus, info.has_nvram, info.has_balloon) == ("web & more", "kvm", 2, True, False)
    assert (info.memory_max_bytes, info.memory_bytes) == (512 * 1024**2, 256 * 1024**2)
    assert [(disk.target, disk.driver, disk.source) for disk in info.disks] == [
        ("vda", "qcow2", "/images/web.qcow2"), ("vdb", "", "/dev/sdb"), ("sda", "", ""),
    ]  # fmt: skip
    assert info.nics[0].target == "vnet7"
    assert info.console_log == "/var/log/web.log"
    assert dict(info.labels) == {"team": "blue"}


def test_limits_are_in_our_units_on_either_version_of_cgroups() -> None:
    info = read_domain(DOMAIN)

    on_v1, on_v2 = limits_of(info, HostFacts(10.24, 2)), limits_of(info, HostFacts(1.0, 2))

    assert (on_v1.cpus, on_v1.cpu_weight, on_v1.cpuset) == (0.5, 200, "1")
    assert on_v2.cpu_weight == 2048
    assert on_v1.memory_bytes == 256 * 1024**2
    assert on_v1.io_read_bytes_per_s is None
    assert on_v1.io_devices == (DeviceIo("vda", 1048576, 1048576, None, 20),)
    assert (on_v1.net_rx_bytes_per_s, on_v1.net_tx_bytes_per_s) == (100 * 1024, 50 * 1024)


def test_what_is_the_default_counts_as_no_limit() -> None:
    text = DOMAIN.replace("2048", "1024").replace("cpuset='1'", "cpuset='0-1'")

    limits = limits_of(read_domain(text), HostFacts(10.24, 2))

    assert (limits.cpu_weight, limits.cpuset) == (None, None)


def test_xml_becomes_json_types() -> None:
    assert as_json("<a x='1'><b>t</b><b/><c y='2'>z</c></a>") == {
        "@x": "1", "b": ["t", ""], "c": {"@y": "2", "#text": "z"},
    }  # fmt: skip


def test_xml_that_does_not_parse_is_our_error() -> None:
    with pytest.raises(InnkeeperError, match="XML"):
        read_domain("<domain>")


@given(st.integers(0, 20), st.integers(0, 20))
def test_every_state_and_reason_has_a_meaning(state: int, reason: int) -> None:
    assert state_of(state)
    assert isinstance(note_of(state, reason), str)


@given(st.sets(st.integers(0, 7), min_size=1))
def test_a_list_of_cpus_is_read_as_the_kernel_writes_it(cpus: set[int]) -> None:
    assert cpu_map(",".join(map(str, sorted(cpus))), 8) == tuple(n in cpus for n in range(8))


@given(st.lists(st.integers(0, 8), max_size=9))
def test_snapshots_come_after_their_parents_whatever_their_ages(parents: list[int]) -> None:
    found = [
        Found(Snapshot(str(n), float(len(parents) - n), str(min(parent, n - 1)) if n else None), False)
        for n, parent in enumerate(parents)
    ]

    names = [item.snapshot.name for item in parents_first(found)]

    assert sorted(names) == sorted(str(n) for n in range(len(parents)))
    assert all(
        one.snapshot.parent is None or names.index(one.snapshot.parent) < names.index(one.snapshot.name)
        for one in found
    )


def test_a_snapshots_xml_tells_its_kind() -> None:
    internal = "<domainsnapshot><name>a</name><state>running</state><creationTime>5</creationTime>{}</domainsnapshot>"

    assert read_snapshot(internal.format("<memory snapshot='internal'/>"), True).snapshot.with_memory
    assert not read_snapshot(internal.format("<memory snapshot='no'/>"), True).snapshot.with_memory
    assert read_snapshot(internal.format("<disks><disk snapshot='external'/></disks>"), False).is_external
