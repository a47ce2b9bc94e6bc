"""A real libvirtd of our own for the whole lane, guests that boot in it, and the backend over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.events import Event
from backends.libvirt.backend import LibvirtBackend, make
from backends.libvirt.demo_domain import DemoShape
from backends.metrics import Rates, Sample, rates
from backends.model import Guest, GuestRef
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.private_libvirt import BootFiles, Machine, PrivateLibvirt
from tests.tools.waiting import wait_until

NewVm = Callable[..., Machine]


@pytest.fixture(scope="session")
def daemon() -> Iterator[PrivateLibvirt]:
    """A libvirtd that answers."""
    private = PrivateLibvirt()
    try:
        private.start()
        yield private
    finally:
        private.remove()


@pytest.fixture(scope="session")
def boot_files(daemon: PrivateLibvirt) -> BootFiles:
    """What guests boot from."""
    return BootFiles(daemon.base / "boot")


@pytest.fixture
def new_vm(daemon: PrivateLibvirt, boot_files: BootFiles) -> Iterator[NewVm]:
    """A maker of guests, not started."""
    made: list[Machine] = []

    def new(disk_format: str = "qcow2", **shape: object) -> Machine:
        wanted = DemoShape(**{"vcpus": 1, "memory_mib": 192, "load": "none", **shape})  # type: ignore[arg-type]
        machine = Machine(daemon, boot_files, wanted, disk_format)
        made.append(machine)
        return machine

    yield new
    for machine in made:
        machine.forget()


class Station:
    """The backend over the private libvirtd, and what it told."""

    def __init__(self, backend: LibvirtBackend) -> None:
        self.backend = backend
        self.events: list[Event] = []
        self.recorder = Recorder("test")

    def ref(self, machine: Machine) -> GuestRef:
        """Return a guest's reference."""
        return GuestRef("libvirt", machine.uuid)

    def look(self, machine: Machine) -> Guest:
        """Return the guest as it is listed now."""
        return next(guest for guest in self.backend.guests() if guest.ref.id == machine.uuid)

    def start(self, machine: Machine, *, wait: bool = True) -> GuestRef:
        """Start a guest, and wait until it is up."""
        self.look(machine)
        self.backend.start(self.ref(machine), self.recorder)
        if wait:
            machine.wait_until_up()
        return self.ref(machine)

    def measure(self, ref: GuestRef, window_s: float = 1.5) -> Rates:
        """Return what a guest does in a window."""
        before = wait_until(lambda: self.backend.sample().get(ref), what=f"a sample of {ref}")
        after = wait_until(lambda: self._later(ref, before.time_s + window_s), window_s + 10)
        return rates(before, after)

    def _later(self, ref: GuestRef, time_s: float) -> Sample | None:
        sample = self.backend.sample().get(ref)
        return sample if sample is not None and sample.time_s >= time_s else None


@pytest.fixture
def station(daemon: PrivateLibvirt, tmp_path: Path) -> Iterator[Station]:
    """The backend, open."""
    made = Station(make(BackendConfig(tmp_path, tmp_path / "run", {"uri": daemon.uri})))
    made.backend.open(made.events.append)
    yield made
    made.backend.close()
