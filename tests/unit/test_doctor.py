"""`inn doctor`: it tells the truth about this host, whatever host that is."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from app.core import doctor
from app.core.checks import kernel, session
from app.core.checks.machine import check_machine
from app.core.settings import Settings, settings_for
from backends.base import CheckResult
from backends.kernel import probe
from backends.oci import criu


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that open no backend."""
    return Settings(paths=settings_for(root=tmp_path).paths, backends=())


def test_every_area_of_the_host_is_looked_at(settings: Settings) -> None:
    results = doctor.collect(settings)

    areas = list(dict.fromkeys(result.area for result in results))
    assert areas == ["kernel", "cgroup", "privileges", "machine", "python", "terminal"]


def test_what_does_not_work_says_why(settings: Settings) -> None:
    results = doctor.collect(settings)

    assert [result for result in results if result.ok is False and not result.why] == []


def test_each_check_has_a_name_of_its_own_within_its_area(settings: Settings) -> None:
    results = [(result.area, result.name) for result in doctor.collect(settings) if result.name != "limits"]

    assert len(results) == len(set(results))


def test_a_check_that_hangs_is_told_and_holds_up_no_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def hang() -> list[CheckResult]:
        gate.wait(15)
        return []

    fine = CheckResult("quick", "one", True, "works")
    monkeypatch.setattr(doctor, "checks_for", lambda _: [("slow", hang), ("quick", lambda: [fine])])

    results = doctor.collect(settings, patience_s=0.2)
    gate.set()

    assert [(result.area, result.ok) for result in results] == [("slow", False), ("quick", True)]
    assert results[0].found == "no answer in time"


def test_a_check_that_breaks_is_told_with_its_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[CheckResult]:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(doctor, "checks_for", lambda _: [("odd", broken)])

    (result,) = doctor.collect(settings)

    assert result.ok is False
    assert result.why == "RuntimeError: out of luck"


def test_the_checks_leave_nothing_in_the_state_folder(settings: Settings, tmp_path: Path) -> None:
    doctor.collect(settings)

    assert list(tmp_path.iterdir()) == []


def test_an_act_that_works_in_a_child_is_reported_as_such() -> None:
    assert probe.in_child(lambda: None) == (0, "")


def test_an_act_that_the_kernel_refuses_is_reported_with_its_error() -> None:
    def refuse() -> None:
        raise OSError(errno.EPERM, "no", "/some/where")

    assert probe.in_child(refuse) == (errno.EPERM, "/some/where")


def _wait_for(descriptor: int) -> None:
    os.read(descriptor, 1)


def test_an_act_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIME_LIMIT_S", 1)
    reader, writer = os.pipe()

    number, _ = probe.in_child(lambda: _wait_for(reader))
    os.close(reader)
    os.close(writer)

    assert number == -1


def test_probes_find_the_namespaces_that_the_kernel_lists(tmp_path: Path) -> None:
    trials = probe.run_probes(tmp_path)

    assert set(probe.NAMESPACES) <= trials.keys()
    assert {"overlay", "seccomp", "nftables"} <= trials.keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may unshare these")
def test_root_can_unshare_what_the_kernel_has(tmp_path: Path) -> None:
    trials = probe.run_probes(tmp_path)

    refused = {name for name in ("mnt", "pid", "net", "ipc", "uts") if not trials[name].ok}
    assert refused == set()


def test_a_host_without_kvm_says_how_to_get_it(tmp_path: Path) -> None:
    (result,) = check_machine(tmp_path / "kvm")

    assert result.ok is None
    assert "nested" in result.mend


def test_a_device_that_opens_is_enough_for_the_machine_check(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()

    (result,) = check_machine(tmp_path / "kvm")

    assert result.ok is True


def test_missing_capabilities_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_effective", lambda _: 0x1FFFFFFFFFF & ~(1 << 12))

    capabilities = session.check_privileges()[1]

    assert capabilities.ok is False
    assert "CAP_NET_ADMIN" in capabilities.found or os.geteuid() != 0


def test_a_missing_library_says_what_is_off_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    libvirt = next(result for result in session.check_packages() if result.name == "libvirt")

    assert libvirt.ok is False
    assert "virtual machines" in libvirt.why
    assert "libvirt-dev" in libvirt.mend


def test_criu_needs_root_before_it_needs_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criu, "version", lambda: "3.17.1")
    monkeypatch.setattr(criu, "why_not", lambda: "CRIU needs root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert kernel._criu().mend == "Run as root: sudo ./inn"
