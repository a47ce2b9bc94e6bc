"""Resource limits of a container's program (getrlimit(2)), in docker's words."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from typing import Any

from backends.errors import Unsupported, UsageError
from backends.kernel import linux
from backends.kernel.capability import mask_of

_INFINITY = 2**64 - 1
"""RLIM_INFINITY, which the OCI specification has as an unsigned number."""

_NAMES = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def rlimits(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Turn "nofile=1024[:2048]" and the like into `process.rlimits`. Raises UsageError, Unsupported."""
    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or name not in _NAMES:
            raise UsageError(f"ulimit {text!r} is not NAME=SOFT[:HARD]", hint=f"NAME is one of {', '.join(_NAMES)}")
        soft_text, colon, hard_text = values.partition(":")
        soft = _number(text, soft_text)
        hard = _number(text, hard_text) if colon else soft
        if soft > hard:
            raise UsageError(f"ulimit {text!r}: the soft limit is above the hard one")
        _check_can_be_set(text, name, hard)
        found[name] = {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
    return list(found.values())


def check_oom_score(score: int | None) -> None:
    """Raise UsageError or Unsupported for what a process cannot be given."""
    if score is None:
        return
    if not -1000 <= score <= 1000:
        raise UsageError(f"oom_score_adj {score} is not between -1000 and 1000")
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        own = int(file.read())
    if score < own and not _may_raise():
        raise Unsupported(f"oom_score_adj {score}: without CAP_SYS_RESOURCE this host gives nothing below {own}")


def _may_raise() -> bool:
    return os.geteuid() == 0 and bool(linux.capget().permitted & mask_of(("CAP_SYS_RESOURCE",)))


def _number(text: str, value: str) -> int:
    if value in ("-1", "unlimited"):
        return _INFINITY
    if not (value.isascii() and value.isdigit() and len(value) <= 20) or int(value) > _INFINITY:
        raise UsageError(f"ulimit {text!r}: {value!r} is no number")
    return int(value)


def _check_can_be_set(text: str, name: str, hard: int) -> None:
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if number is None:
        return
    most = resource.getrlimit(number)[1]
    allowed = _INFINITY if most == resource.RLIM_INFINITY else most
    if hard > allowed and not _may_raise():
        raise Unsupported(
            f"ulimit {text!r}: this host gives at most {allowed}, and has no CAP_SYS_RESOURCE to raise it"
        )
