"""The backends that must keep the contract. To add one: a factory that yields a Subject, and a line in SUBJECTS."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backends.base import Backend
from backends.capabilities import Creating, Lifecycle, Removing
from backends.errors import InnkeeperError, NotFound
from backends.metrics import Sample
from backends.model import Guest, GuestRef, Limits
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.host_image import host_image_in
from tests.tools.needs import needs
from tests.tools.oci_images import make_layout
from tests.tools.odd_registry import serving_oddly
from tests.tools.waiting import wait_until


@dataclass
class Subject:
    """One backend, open, and a way to make guests in it. Those it made are removed after each test."""

    backend: Backend
    make_guest: Callable[[str], GuestRef]
    """Makes a guest of that name that is not live, whatever its technology."""

    forget_guest: Callable[[GuestRef], None]
    """Removes it, live or not, if it is still there."""

    made: list[GuestRef] = field(default_factory=list)
    remote_image: str = ""
    """An image that can be pulled; empty where there is no registry."""

    def pullable(self) -> str:
        """Return the name of an image that can be pulled, or skip the test."""
        if not self.remote_image:
            pytest.skip("there is no registry to pull from")
        return self.remote_image

    def guest(self, name: str | None = None) -> Guest:
        """Return a new guest that is not live."""
        ref = self.make_guest(name or f"contract-{uuid.uuid4().hex[:8]}")
        self.made.append(ref)
        return self.look(ref)

    def live(self, name: str | None = None) -> Guest:
        """Return a new guest that runs."""
        guest = self.guest(name)
        self.having(Lifecycle).start(guest.ref, recorder())
        return self.look(guest.ref)

    def look(self, ref: GuestRef) -> Guest:
        """Return the guest as it is listed now."""
        return next(guest for guest in self.backend.guests() if guest.ref == ref)

    def having(self, capability: type[Any], verb: str = "", guest: Guest | None = None) -> Any:
        """Return the backend if it has the capability (for this guest), else skip the test with the reason."""
        if not isinstance(self.backend, capability):
            pytest.skip(f"{self.backend.title} has no {capability.__name__}")
        why = self.backend.why_not(verb, guest) if guest is not None else None
        if why:
            pytest.skip(f"{self.backend.title} cannot {verb}: {why}")
        return self.backend

    def sample(self, ref: GuestRef) -> Sample:
        """Return a live guest's counters, waiting for the first pass that has them."""
        wait_until(lambda: ref in self.backend.sample(), what=f"a sample of {ref}")
        return self.backend.sample()[ref]

    def state_becomes(self, ref: GuestRef, state: str) -> None:
        """Wait until the guest is listed in a state."""
        wait_until(lambda: self.look(ref).state == state, what=f"{ref} {state}; it is {self.look(ref).state}")

    def clear(self) -> None:
        """Remove what was made."""
        for ref in self.made:
            self.forget_guest(ref)
        self.made.clear()


def recorder() -> Recorder:
    """Return a recorder for one verb."""
    return Recorder("test")


def remove_by_force(backend: Backend, ref: GuestRef) -> None:
    """Remove a guest if it is still there."""
    assert isinstance(backend, Removing)
    try:
        backend.remove(ref, recorder(), force=True)
    except NotFound:
        return


def creates(backend: Backend, spec: Callable[[str], Any]) -> Callable[[str], GuestRef]:
    """Return a maker of containers for a backend."""
    assert isinstance(backend, Creating)
    creating: Creating = backend
    return lambda name: creating.create(spec(name), recorder()).ref


@contextmanager
def simulated(folder: Path) -> Iterator[Subject]:
    """In memory."""
    from backends.container import ContainerSpec
    from backends.simulated.backend import SimulatedBackend

    backend = SimulatedBackend(guests=5)
    backend.open()
    make = creates(backend, lambda name: ContainerSpec("base", ("sleep", "inf"), name=name, limits=Limits()))
    yield Subject(backend, make, lambda ref: remove_by_force(backend, ref), remote_image="registry.example/tool:1")
    backend.close()


@contextmanager
def pulling_from(folder: Path) -> Iterator[str]:
    """Run a registry that the settings allow to speak plain HTTP, and yield the name of an image that it has."""
    layout = make_layout(folder / "oci", [{"etc/one": b"1" * 5000}, {"etc/two": b"2"}])
    settings = folder / "registries.conf"
    with serving_oddly(layout) as registry, pytest.MonkeyPatch.context() as patch:
        settings.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(settings))
        yield f"{registry.address}/tool:1"


@contextmanager
def native(folder: Path) -> Iterator[Subject]:
    """Real containers on this machine's own kernel, with state of their own."""
    from backends.container import ContainerSpec
    from backends.native.backend import make as make_native

    with host_image_in(folder):
        backend = make_native(BackendConfig(folder, folder / "run"))
        backend.open()
        script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        make = creates(backend, lambda name: ContainerSpec("host", ("sh", "-c", script), name=name, network="none"))
        subject = Subject(backend, make, lambda ref: remove_by_force(backend, ref))
        try:
            with pulling_from(folder / "registry") as subject.remote_image:
                yield subject
        finally:
            subject.clear()
            for guest in backend.guests():
                remove_by_force(backend, guest.ref)
            backend.shutdown()
            backend.clean(recorder())
            backend.close()


@contextmanager
def libvirt_test_driver(folder: Path) -> Iterator[Subject]:
    """libvirt's own driver for tests: real API, no real VMs. What it lacks, the libvirt lane tests with real ones."""
    import libvirt

    from backends.libvirt.backend import make as make_libvirt

    uri = "test:///default"
    backend = make_libvirt(BackendConfig(folder, folder / "run", {"uri": uri}))
    backend.open()
    beside = libvirt.open(uri)

    def make(name: str) -> GuestRef:
        built = "<memory>262144</memory><vcpu>2</vcpu><os><type>hvm</type></os>"
        xml = f"<domain type='test'><name>{name}</name>{built}</domain>"
        return GuestRef(backend.name, beside.defineXML(xml).UUIDString())

    def forget(ref: GuestRef) -> None:
        try:
            domain = beside.lookupByUUIDString(ref.id)
        except libvirt.libvirtError:
            return
        if domain.isActive():
            domain.destroy()
        if domain.isPersistent():
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)

    try:
        yield Subject(backend, make, forget)
    finally:
        backend.close()
        beside.close()


SUBJECTS = (
    pytest.param(simulated, id="simulated"),
    pytest.param(native, id="native", marks=needs("root", "cgroup.cpu", "cgroup.memory", "cgroup.freeze")),
    pytest.param(libvirt_test_driver, id="libvirt-test", marks=needs("libvirt")),
)


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Every backend in turn, open."""
    with request.param(tmp_path) as made:
        yield made
        made.clear()


def settable(subject: Subject, guest: Guest) -> dict[str, str]:
    """Return what limit_fields says, skipping the test where the backend has no limits."""
    fields = subject.having(_limiting(), "limit", guest).limit_fields(guest)
    assert isinstance(fields, dict) or hasattr(fields, "keys")
    return dict(fields)


def _limiting() -> type[Any]:
    from backends.capabilities import Limiting

    return Limiting


def raises_only_ours(act: Callable[[], object]) -> InnkeeperError | None:
    """Do it and return the error, which must be one of ours."""
    try:
        act()
    except InnkeeperError as error:
        return error
    return None
