"""Questions to the person at the other end of stdin."""

from __future__ import annotations

import sys

from app.cli.clean import clean


def asked(question: str) -> str:
    """Write a question to stderr and return the line that comes, without blanks around it; "" at the end of stdin."""
    sys.stderr.write(clean(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def agreed(question: str) -> bool:
    """Ask what is to be answered with yes or no; all but yes is no."""
    return asked(f"{question} [y/N] ").lower() in ("y", "yes")
