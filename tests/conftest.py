"""What all tests share: the needs of a test (tests/tools/needs.py)."""

from __future__ import annotations

from tests.tools.needs import pytest_runtest_setup, pytest_terminal_summary

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]
