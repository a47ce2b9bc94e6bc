"""The demo VM: made of what the host has, booted, and gone without a trace."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from backends.errors import AlreadyExists, InnkeeperError, Unsupported
from backends.libvirt import daemons, initramfs, kvm_probe
from backends.libvirt.bench_vm import bench_vm
from backends.libvirt.demo import demo_folder, make_demo_vm, remove_demo_vm, wait_until_booted
from backends.libvirt.demo_domain import DemoShape
from backends.libvirt.demo_kernel import installed_kernel
from backends.model import GuestState
from tests.libvirt.conftest import Station
from tests.tools.needs import needs
from tests.tools.private_libvirt import BootFiles, PrivateLibvirt

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def state_dir(daemon: PrivateLibvirt) -> Path:
    """A folder that QEMU's user can get to, and that nobody else uses."""
    folder = daemon.base / "demo-state"
    folder.mkdir(exist_ok=True)
    return folder


@needs("root", "libvirt")
def test_the_demo_vm_boots_shows_figures_and_leaves_nothing(
    station: Station, daemon: PrivateLibvirt, state_dir: Path, boot_files: BootFiles
) -> None:
    said: list[str] = []
    vm = make_demo_vm(daemon.uri, state_dir, said.append)
    try:
        wait_until_booted(vm.console_log, 60)
        guest = next(guest for guest in station.backend.guests() if guest.ref.id == vm.uuid)
        assert (guest.name, guest.state) == ("demo-vm", GuestState.RUNNING)
        assert station.backend.why_not("snapshot", guest) is None
        rates = station.measure(guest.ref, 3)
        assert (rates.cpu_pct or 0) > 0
        assert (rates.memory_bytes or 0) > 16 * 1024**2
        assert rates.net_rx_bytes_per_s is not None
        assert said
        assert make_demo_vm(daemon.uri, state_dir, said.append).uuid == vm.uuid
    finally:
        assert remove_demo_vm(daemon.uri, state_dir, said.append)

    assert vm.uuid not in {guest.ref.id for guest in station.backend.guests()}
    assert [path for path in state_dir.rglob("*") if path.is_file()] == []
    assert not demo_folder(state_dir).exists()
    assert not remove_demo_vm(daemon.uri, state_dir, said.append)


@needs("root", "libvirt", "virsh")
def test_a_foreign_vm_of_that_name_is_left_alone(daemon: PrivateLibvirt, state_dir: Path) -> None:
    definition = daemon.base / "foreign.xml"
    built = "<memory>65536</memory><os><type>hvm</type></os>"
    definition.write_text(f"<domain type='qemu'><name>demo-vm</name>{built}</domain>")
    daemon.virsh("define", str(definition))
    try:
        for act in (make_demo_vm, remove_demo_vm):
            with pytest.raises(AlreadyExists, match="not the demo's"):
                act(daemon.uri, state_dir, lambda _: None)
        assert "demo-vm" in daemon.virsh("list", "--all", "--name")
    finally:
        daemon.virsh("undefine", "demo-vm")


@needs("libvirt")
def test_no_daemon_is_started_for_a_uri_that_is_not_the_systems(tmp_path: Path) -> None:
    assert not daemons.answers("qemu+unix:///system?socket=/nowhere/at-all")
    daemons.ensure_daemons("test:///default", tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())


@needs("root")
def test_a_closed_kvm_device_is_opened_to_its_group_and_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0o600)
    before = device.stat()
    said: list[str] = []
    try:
        made = daemons.open_kvm(said.append, str(device))
    except Unsupported as error:
        pytest.fail(str(error))

    if made:  # this host has a group kvm
        assert device.stat().st_mode & 0o777 == 0o660
        assert not daemons.open_kvm(said.append, str(device))
        daemons.give_back(made[0])
    assert (device.stat().st_mode, device.stat().st_gid) == (before.st_mode, before.st_gid)


@needs("busybox")
def test_the_initramfs_is_a_cpio_that_unpacks(tmp_path: Path) -> None:
    module = b"\0depends=base_part\0\0"
    modules = tmp_path / "modules" / "kernel"
    modules.mkdir(parents=True)
    (modules / "virtio-blk.ko").write_bytes(module)
    (modules / "base_part.ko.gz").write_bytes(gzip.compress(b"\0depends=\0base"))

    data = initramfs.build(Path("/usr/bin/busybox"), tmp_path / "modules", "#!/bin/sh\n")

    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["busybox", "cpio", "-idm"], input=gzip.decompress(data), cwd=out, check=True, capture_output=True)
    assert (out / "mod" / "order").read_text().split() == ["base_part", "virtio_blk"]
    assert (out / "mod" / "base_part.ko").read_bytes() == b"\0depends=\0base"
    assert (out / "bin" / "busybox").read_bytes() == Path("/usr/bin/busybox").read_bytes()
    assert os.readlink(out / "bin" / "sh") == "busybox"
    assert os.access(out / "init", os.X_OK)


def test_a_dynamic_busybox_is_refused() -> None:
    initramfs.check_static(Path("/usr/bin/busybox"))

    with pytest.raises(Unsupported, match="dynamically"):
        initramfs.check_static(Path("/bin/ls"))


def test_the_newest_installed_kernel_with_modules_is_taken_a_cloud_one_first(tmp_path: Path) -> None:
    boot, modules = tmp_path / "boot", tmp_path / "modules"
    for name in ("6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-2-cloud-amd64", "6.1.0-30-cloud-amd64"):
        (boot / f"vmlinuz-{name}").parent.mkdir(exist_ok=True)
        (boot / f"vmlinuz-{name}").touch()
        if name != "6.1.0-30-cloud-amd64":
            (modules / name).mkdir(parents=True)

    assert installed_kernel(boot, modules) == (boot / "vmlinuz-6.1.0-2-cloud-amd64", modules / "6.1.0-2-cloud-amd64")
    (boot / "vmlinuz-6.1.0-2-cloud-amd64").unlink()
    assert installed_kernel(boot, modules) == (boot / "vmlinuz-6.1.0-10-amd64", modules / "6.1.0-10-amd64")
    assert installed_kernel(tmp_path / "none", modules) is None


@needs("qemu-system-x86_64")
def test_the_boot_sector_runs_to_its_end_under_emulation() -> None:
    probe = kvm_probe.run_boot_sector("qemu-system-x86_64", "tcg")

    assert probe.works, probe.found


def test_kvm_is_tried_once_for_each_boot_and_qemu(tmp_path: Path) -> None:
    count = tmp_path / "count"
    qemu = script(tmp_path, f'[ "$1" = --version ] && echo "QEMU 1" && exit; echo x >> {count}; echo IK; exit 33')
    device = tmp_path / "kvm"
    device.touch()

    first = kvm_probe.probe_kvm(tmp_path, device=str(device), qemu=qemu)
    second = kvm_probe.probe_kvm(tmp_path, device=str(device), qemu=qemu)

    assert first.works
    assert first == second
    assert count.read_text() == "x\n"
    cache = tmp_path / "libvirt" / "kvm-probe.json"
    cache.write_text(json.dumps({**json.loads(cache.read_text()), "key": "another boot"}))
    kvm_probe.probe_kvm(tmp_path, device=str(device), qemu=qemu)
    assert count.read_text() == "x\nx\n"


def test_a_guest_that_hangs_under_kvm_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "LIMIT_S", 0.2)

    probe = kvm_probe.run_boot_sector(script(tmp_path, "exec sleep 60"), "kvm")

    assert not probe.works
    assert "hangs" in probe.found


def test_a_host_without_kvm_says_so(tmp_path: Path) -> None:
    assert kvm_probe.probe_kvm(tmp_path, device=str(tmp_path / "none")).found == "there is no /dev/kvm"


def script(folder: Path, text: str) -> str:
    """Return the path of a program that stands for QEMU."""
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_demo_vm_without_a_network_has_no_card(tmp_path: Path) -> None:
    from backends.libvirt.demo_domain import domain_xml
    from backends.libvirt.domain_xml import read_domain

    assert read_domain(domain_xml("a", "qemu", tmp_path, DemoShape(has_network=False))).nics == ()
    assert read_domain(domain_xml("a", "qemu", tmp_path, DemoShape(bridge="br0"))).nics[0].source == "br0"


@needs("root", "libvirt", "virsh")
def test_two_state_folders_have_a_demo_vm_each_and_remove_only_their_own(
    daemon: PrivateLibvirt, state_dir: Path, boot_files: BootFiles
) -> None:
    other_dir = daemon.base / "other-state"
    other_dir.mkdir()
    said: list[str] = []
    first = make_demo_vm(daemon.uri, state_dir, said.append)
    try:
        second = make_demo_vm(daemon.uri, other_dir, said.append)
        assert second.name.startswith("demo-vm-")
        assert second.uuid != first.uuid
        assert remove_demo_vm(daemon.uri, other_dir, said.append)
        assert not remove_demo_vm(daemon.uri, other_dir, said.append)
        assert first.name in daemon.virsh("list", "--name").split()
        assert first.folder.exists()
    finally:
        remove_demo_vm(daemon.uri, other_dir, said.append)
        assert remove_demo_vm(daemon.uri, state_dir, said.append)


@needs("root", "libvirt", "busybox", "virsh")
def test_a_vm_that_is_measured_runs_the_hosts_programs_and_is_gone_afterwards(
    daemon: PrivateLibvirt, state_dir: Path
) -> None:
    with bench_vm(daemon.uri, state_dir, state_dir / "run", ("dd",), lambda said: None) as vm:
        copied = vm.run(f"{shutil.which('dd')} if=/dev/zero of={vm.disk_path} bs=1M count=4", timeout_s=30)
        with pytest.raises(InnkeeperError, match="no such program"):
            vm.run("echo no such program; exit 3", timeout_s=30)
        during = subprocess.run(["virsh", "-c", daemon.uri, "list", "--name"], capture_output=True, text=True)

    after = subprocess.run(["virsh", "-c", daemon.uri, "list", "--all", "--name"], capture_output=True, text=True)
    assert "4194304 bytes" in copied
    assert vm.start_s > 0
    assert "innkeeper-bench-" in during.stdout
    assert "innkeeper-bench-" not in after.stdout
    assert not list(state_dir.glob("innkeeper-bench-*"))
