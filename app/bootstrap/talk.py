"""What set-up says, each thing before it is done."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Tell the user on standard error."""
    sys.stderr.write(f"inn: {line}\n")
    sys.stderr.flush()


class SetUpFailed(Exception):
    """A part of the set-up did not work; the text says what, and why."""
