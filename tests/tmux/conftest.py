"""The program over simulated guests, in windows of tmux."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tmux.real import Containers
from tests.tools.window import Window

Open = Callable[..., Window]


@pytest.fixture
def open_window(tmp_path: Path) -> Iterator[Open]:
    """Return what opens a window and runs the program in it over simulated guests."""
    windows: list[Window] = []

    def opened(
        size: tuple[int, int] = (100, 30), *options: str, guests: int = 12, exported: dict[str, str] | None = None
    ) -> Window:
        window = Window(size)
        windows.append(window)
        for name, value in (exported or {}).items():
            window.type(f"export {name}={value}\n")
        simulated = ("--backend", "simulated", "--option", f"simulated.guests={guests}")
        window.run("--root", str(tmp_path), *simulated, *options)
        window.see("STATE")
        window.see("● running")
        return window

    yield opened
    for window in windows:
        window.close()


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
