"""The terminal that a container was run with, opened from the screen. Real containers."""

from __future__ import annotations

import pytest

from backends.model import GuestState
from tests.tmux.real import Containers
from tests.tools.needs import needs

pytestmark = [needs("root", "tmux"), pytest.mark.timeout(60)]


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
