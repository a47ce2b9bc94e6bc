"""A native backend with a state folder of its own, of which nothing is left afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backends.container import ContainerSpec, ExecSpec
from backends.errors import InnkeeperError
from backends.model import Guest, Limits
from backends.native.backend import NativeBackend, make
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.host_image import host_image_in

Run = Callable[..., Guest]


@contextmanager
def state_folder() -> Iterator[Path]:
    """Yield a state folder, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="inn-test-"))
    with host_image_in(folder):
        yield folder
    shutil.rmtree(folder)


@contextmanager
def opened(root: Path) -> Iterator[NativeBackend]:
    """Yield an open native backend; its containers, cgroups, links and helper processes are removed afterwards."""
    backend = make(BackendConfig(root, root / "run"))
    backend.open()
    yield backend
    remove_all(backend)
    backend.clean(Recorder("test"))
    backend.shutdown()
    backend.close()


def remove_all(backend: NativeBackend) -> None:
    """Remove all containers there are."""
    for guest in backend.guests():
        with suppress(InnkeeperError):
            backend.remove(guest.ref, Recorder("test"), force=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Path, NativeBackend]]:
    """A state folder and its open backend, for tests of one file that leave nothing but containers behind."""
    with state_folder() as folder, opened(folder) as backend:
        yield folder, backend


@pytest.fixture
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A state folder, removed afterwards."""
    if request.node.get_closest_marker("shared_state"):
        yield request.getfixturevalue("shared")[0]
        return
    with state_folder() as folder:
        yield folder


@pytest.fixture
def native(request: pytest.FixtureRequest, root: Path) -> Iterator[NativeBackend]:
    """An open native backend, of which nothing is left afterwards; to start a spawner for each test takes time."""
    if request.node.get_closest_marker("shared_state"):
        backend: NativeBackend = request.getfixturevalue("shared")[1]
        yield backend
        remove_all(backend)
        return
    with opened(root) as backend:
        yield backend


@pytest.fixture
def run(native: NativeBackend) -> Run:
    """Create and start a container of the host image: run("sh", "-c", …, memory_bytes=…)."""

    def start(*args: str, name: str | None = None, image: str = "host", **options: object) -> Guest:
        fields = set(ContainerSpec.__dataclass_fields__)
        limits = {key: options.pop(key) for key in list(options) if key not in fields}
        spec = ContainerSpec(image, args, name=name, limits=Limits().with_changes(limits), **options)  # type: ignore[arg-type]
        guest = native.create(spec, Recorder("test"))
        native.start(guest.ref, Recorder("test"))
        return guest

    return start


@pytest.fixture
def output_of(native: NativeBackend) -> Callable[[Guest, str], str]:
    """Run a shell line in a live container and return what it printed."""

    def capture(guest: Guest, line: str, **options: object) -> str:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as pipe, open(os.devnull, "rb") as null:
            spec = ExecSpec(("sh", "-c", line), **options)  # type: ignore[arg-type]
            session = native.exec(guest.ref, spec, (null.fileno(), writing, writing))
            os.close(writing)
            text = pipe.read().decode("utf-8", "replace")
        session.wait()
        session.close()
        return text

    return capture
