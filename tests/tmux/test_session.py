"""A person at work in tmux: looks, moves, filters, stops a guest, leaves."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.tmux.conftest import Open
from tests.tools.waiting import wait_until
from tests.tools.window import Window


def program_of(window: Window) -> psutil.Process:
    found = psutil.Process(window.pane_pid).children(recursive=True)
    return next(process for process in found if "innkeeper.py" in " ".join(process.cmdline()))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [(80, 24), (200, 50)], ids=["80x24", "200x50"])
def test_a_whole_session(open_window: Open, size: tuple[int, int]) -> None:
    window = open_window(size)
    assert "SIMULATED" in window.lines[0]
    window.see("web-1")

    window.press("g")
    window.until(lambda: window.line_with("▸"))
    first = window.line_with("▸")
    window.press("j")
    window.until(lambda: window.line_with("▸").split()[2:4] != first.split()[2:4])

    window.press("/")
    window.type("web-1")
    window.press("Enter")
    window.until(lambda: "web-1" in window.line_with("▸") and "cache" not in window.text)

    window.press("X")
    window.see("Kill web-1?")
    window.press("n")
    window.until(lambda: "Kill web-1?" not in window.text)
    assert "running" in window.line_with("▸")
    window.press("X")
    window.see("Kill web-1?")
    window.press("y")
    window.until(lambda: "stopped" in window.line_with("▸"))

    window.press("Escape")
    window.see("cache")
    window.press("q")
    window.see("left with 0")
    window.see("prompt>")
    window.type("stty -a | tr ' ' '\\n' | grep -x -e echo -e icanon -e isig\n")
    window.until(lambda: all(word in window.lines for word in ("echo", "icanon", "isig")))


@pytest.mark.timeout(60)
def test_the_window_may_change_its_size(open_window: Open) -> None:
    window = open_window((120, 40))
    window.see("Net receive")
    window.tmux("resize-window", "-t", "inn", "-x", "70", "-y", "15")
    window.until(lambda: "Net receive" not in window.text and "q quit" in window.text)
    window.tmux("resize-window", "-t", "inn", "-x", "200", "-y", "50")
    window.until(lambda: "Net receive" in window.text and "PIDS" in window.text)
    assert "web-1" in window.text


@pytest.mark.timeout(60)
def test_a_shell_that_exports_its_size_does_not_fix_the_size_of_the_screen(open_window: Open) -> None:
    window = open_window((120, 40), exported={"COLUMNS": "80", "LINES": "24"})
    window.see("Net receive")
    assert any(len(line) > 80 for line in window.lines)


@pytest.mark.timeout(60)
def test_limits_are_changed_from_the_panel(open_window: Open) -> None:
    window = open_window((100, 30))
    window.press("g", "L")
    window.see("Limits of build-7")
    window.press("=")
    window.see("CPU:")
    window.press("C-u")
    window.type("0.05")
    window.press("Enter")
    window.see("in force")
    window.until(lambda: "held back" in window.line_with("│  CPU  "))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_terminal_that_can_be_used(open_window: Open, number: signal.Signals) -> None:
    window = open_window()
    os.kill(program_of(window).pid, number)
    window.see(f"left with {128 + number}")
    window.type("echo still $((20 + 3)) here\n")
    window.see("still 23 here")
    assert "Traceback" not in window.text


@pytest.mark.timeout(60)
def test_killing_the_window_ends_the_program(open_window: Open) -> None:
    window = open_window()
    program = program_of(window)
    window.tmux("kill-session", "-t", "inn")
    wait_until(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.timeout(60)
def test_ctrl_z_and_fg(open_window: Open) -> None:
    window = open_window()
    window.press("C-z")
    window.see("Stopped")
    window.type("fg\n")
    window.see("web-1")
    window.see("q quit")
    window.press("q")
    window.see("prompt>")
