"""What all tests share: the needs of a test (tests/tools/needs.py), and signals as a terminal's user has them."""

from __future__ import annotations

import signal

from tests.tools.needs import pytest_runtest_setup, pytest_terminal_summary

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]

# A job in the background has SIGINT ignored, and so would have every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
