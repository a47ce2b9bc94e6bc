"""libvirtd is stopped and started again under the open screen."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.libvirt.conftest import NewVm
from tests.tools.needs import needs
from tests.tools.private_libvirt import PrivateLibvirt
from tests.tools.window import Window

pytestmark = [needs("root", "libvirt", "virsh", "tmux"), pytest.mark.timeout(240)]


@pytest.fixture
def window() -> Iterator[Window]:
    """A terminal at its smallest usual size: only what stands in the first columns can be relied upon."""
    opened = Window((80, 24))
    yield opened
    opened.close()


def cursor_moves(window: Window, key: str) -> None:
    """Press a key; the cursor must leave its line."""
    before = window.line_with("▸")[12:26]
    window.press(key)
    window.until(lambda: window.line_with("▸") and window.line_with("▸")[12:26] != before)


def test_vms_grey_out_with_their_age_and_come_back_and_keys_answer_all_the_while(
    window: Window, new_vm: NewVm, daemon: PrivateLibvirt, tmp_path: Path
) -> None:
    machine = new_vm()
    daemon.virsh("start", machine.name)
    short = machine.name[:12]
    window.run("--root", str(tmp_path), "--backend", "libvirt", "--backend", "simulated",
               "--option", "simulated.guests=4", "--libvirt-uri", daemon.uri)  # fmt: skip
    window.until(lambda: "● running" in window.line_with(short), 30)
    figures = window.line_with("web-1")

    daemon.kill(signal.SIGTERM)
    try:
        window.until(lambda: re.search(r"\? \d+s ago", window.line_with(short)), 30)
        assert "running" not in window.line_with(short)
        window.see("✗ libvirt lost")
        age = window.line_with(short)[:13]
        for key in ("G", "g", "j", "k"):
            cursor_moves(window, key)
        window.press("t")
        window.until(lambda: "simulated guests" not in window.text)
        window.press("/")
        window.type("web-1")
        window.press("Enter")
        window.until(lambda: short not in window.text and "web-1" in window.text)
        window.press("Escape")
        window.until(lambda: short in window.text)
        window.press("t")
        window.see("simulated guests")
        window.until(lambda: window.line_with("web-1") != figures)  # the other guests stay live
        window.until(lambda: window.line_with(short)[:13] != age)  # and the age goes on
    finally:
        daemon.start()

    window.until(lambda: "● running" in window.line_with(short), 60)
    assert "libvirt lost" not in window.lines[0]
    cursor_moves(window, "G")
    window.press("q")
    window.see("left with 0")
