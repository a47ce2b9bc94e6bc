"""Real containers in a state folder of a test's own, and a terminal in front of them."""

from __future__ import annotations

from pathlib import Path

from backends.assets import Images
from backends.base import Cleaning, Closing
from backends.capabilities import Creating, Lifecycle, Removing
from backends.container import ContainerSpec
from backends.model import Guest, GuestState
from backends.registry import BackendConfig, make
from backends.trace import Recorder
from tests.tools.window import Window


class Containers:
    """A native backend of the test's own and the terminal in front of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backend = make("native", BackendConfig(root, root / "run"))
        self.window = Window((100, 24))

    def open_screen(self, seen: str) -> None:
        """Start the program and wait until a text is on its screen."""
        self.window.run("--root", str(self.root), "--backend", "native")
        self.window.see(seen)

    def run(self, name: str, *, terminal: bool) -> None:
        """Run a shell."""
        assert isinstance(self.backend, Creating)
        assert isinstance(self.backend, Lifecycle)
        spec = ContainerSpec("host", ("sh",), name=name, terminal=terminal, stdin=True)
        self.backend.start(self.backend.create(spec, Recorder("test")).ref, Recorder("test"))

    def state(self, name: str) -> GuestState:
        """What it does now."""
        return self.guest(name).state

    def guest(self, name: str) -> Guest:
        """What the backend knows of it now."""
        return next(guest for guest in self.backend.guests() if guest.name == name)

    def images(self) -> set[str]:
        """The names of all images."""
        assert isinstance(self.backend, Images)
        return {image.name for image in self.backend.images()}

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
