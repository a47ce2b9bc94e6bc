"""What goes wrong with a registry, in one line; what it says itself is other people's text."""

from __future__ import annotations

import json
import re
from typing import Any

from backends.errors import BackendUnavailable, InnkeeperError, LoginNeeded, NotFound, PermissionDenied

_LONGEST = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Broken(BackendUnavailable):
    """A connection failed on the way; it may go well if it is tried again."""


class Unreachable(Broken):
    """Nobody was there to talk to. What has not begun yet is not tried again."""


class Answered(InnkeeperError):
    """A registry answered with a status that means no. Carries it, and the answer's own code ("DENIED")."""

    def __init__(self, message: str, *, status: int, code: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.code = status, code


def refusal(what: str, status: int, reason: str, media_type: str, body: bytes, *, registry: str) -> InnkeeperError:
    """Return the error for an answer with that status; what: "cannot pull busybox"."""
    code, said = _said(media_type, body)
    text = f"{what}: {registry} answered {status} {reason}".rstrip() + (f": {said}" if said else "")
    if status == 401:
        return LoginNeeded(text, registry=registry, hint=f"for credentials: inn login {registry}")
    if status == 403:
        return PermissionDenied(text, hint=f"for credentials: inn login {registry}")
    if status == 404:
        return NotFound(text)
    return Answered(text, status=status, code=code)


def _said(media_type: str, body: bytes) -> tuple[str, str]:
    """Return code and message of the first error in the answer (spec.md, "Error Codes"); empty where it has none."""
    if "json" not in media_type:  # the page of some proxy
        return "", ""
    try:
        errors = json.loads(body)["errors"]
        first: dict[str, Any] = errors[0]
        code, message = str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return printable(code, 40), printable(message or code)


def printable(text: str, longest: int = _LONGEST) -> str:
    """Return other people's text as a short piece of one line."""
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"
