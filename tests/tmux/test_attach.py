"""The terminal that a container was run with, opened from the screen. Real containers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import Cleaning, Closing
from backends.capabilities import Creating, Lifecycle, Removing
from backends.container import ContainerSpec
from backends.model import GuestState
from backends.registry import BackendConfig, make
from backends.trace import Recorder
from tests.tools.needs import needs
from tests.tools.window import Window

pytestmark = [needs("root", "tmux"), pytest.mark.timeout(60)]


class Containers:
    """A native backend of the test's own and the terminal in front of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backend = make("native", BackendConfig(root, root / "run"))
        self.window = Window((100, 24))

    def run(self, name: str, *, terminal: bool) -> None:
        """Run a shell."""
        assert isinstance(self.backend, Creating)
        assert isinstance(self.backend, Lifecycle)
        spec = ContainerSpec("host", ("sh",), name=name, terminal=terminal, stdin=True)
        self.backend.start(self.backend.create(spec, Recorder("test")).ref, Recorder("test"))

    def state(self, name: str) -> GuestState:
        """What it does now."""
        return next(guest.state for guest in self.backend.guests() if guest.name == name)

    def remove(self) -> None:
        """Leave nothing."""
        self.window.close()
        assert isinstance(self.backend, Removing)
        assert isinstance(self.backend, Cleaning)
        assert isinstance(self.backend, Closing)
        for guest in self.backend.guests():
            self.backend.remove(guest.ref, Recorder("test"), force=True)
        self.backend.clean(Recorder("test"))
        self.backend.shutdown()
        self.backend.close()


@pytest.fixture
def containers() -> Iterator[Containers]:
    """Real containers, removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="inn-test-"))
    made = Containers(root)
    made.backend.open()
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(root)


def test_c_opens_the_containers_own_terminal_and_detaching_leaves_it_running(containers: Containers) -> None:
    containers.run("own", terminal=True)
    window = containers.window
    window.run("--root", str(containers.root), "--backend", "native")
    window.until(lambda: "● running" in window.line_with(" own "))

    window.press("c")
    window.see("[terminal of own; Ctrl-] comes back to Innkeeper]")
    window.type("echo sum $((20 + 3)); stty size\n")
    window.see("sum 23")
    window.see("24 100")
    window.press("C-]")
    window.see("terminal of own: detached")
    assert containers.state("own") is GuestState.RUNNING

    window.press("c")
    window.see("sum 23")  # what was printed last is shown again
    window.type("exit\n")
    window.see("terminal of own: ended")
    window.until(lambda: "stopped" in window.line_with(" own "))
    window.press("q")
    window.see("left with 0")


def test_a_container_without_a_terminal_says_so(containers: Containers) -> None:
    containers.run("piped", terminal=False)
    window = containers.window
    window.run("--root", str(containers.root), "--backend", "native")
    window.until(lambda: "● running" in window.line_with(" piped "))
    window.press("c")
    window.see("not piped: it was not run with a terminal")
