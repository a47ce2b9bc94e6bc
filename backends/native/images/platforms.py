"""Platforms of images, and which one is for this machine (image-index.md, "platform")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backends.errors import UsageError
from backends.native.images.strict_json import a_text, an_object

_MACHINES = {"x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"),
             "armv5tel": ("arm", "v5"), "i686": ("386", ""), "i386": ("386", "")}  # fmt: skip
"""uname -m to Go's names; others are called alike."""

_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_USUAL_VARIANTS = {"arm": "v7", "arm64": "v8"}
"""What is meant where no variant is said."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Return what "linux/arm64/v8" or "arm64" says. Raises UsageError."""
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(part.replace("-", "").replace(".", "").isalnum() for part in parts):
            raise UsageError(f"{text!r} is no platform", hint="as in: linux/amd64, linux/arm64, linux/arm/v7")
        return cls(parts[0], _ALIASES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else "")

    @classmethod
    def here(cls) -> Platform:
        """Return this machine's."""
        machine = os.uname().machine
        architecture, variant = _MACHINES.get(machine, (machine, ""))
        return cls("linux", architecture, variant)

    @classmethod
    def from_json(cls, value: object, what: str) -> Platform:
        """Return a platform as it stands in indexes and configs. Raises Malformed."""
        raw = an_object(value, what)
        return cls(a_text(raw.get("os"), what), a_text(raw.get("architecture"), what), a_text(raw.get("variant"), what))

    def to_json(self) -> dict[str, Any]:
        """The reverse of from_json."""
        found = {"os": self.os, "architecture": self.architecture}
        return found | ({"variant": self.variant} if self.variant else {})

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def runs(self, other: Platform) -> int | None:
        """Return how well what is made for another platform suits this one, more is better; None: not at all.

        A newer arm runs what is for an older one (v8 in 32 bits: v7, v6, v5).
        """
        if (self.os, self.architecture) != (other.os, other.architecture):
            return None
        ours, theirs = _version(self), _version(other)
        if ours == theirs:
            return 100
        if self.architecture not in _USUAL_VARIANTS:
            return 1 if not other.variant else None  # amd64/v3 is not for just any amd64
        return theirs if theirs < ours else None


def _version(platform: Platform) -> int:
    text = platform.variant or _USUAL_VARIANTS.get(platform.architecture, "")
    digits = text.removeprefix("v").partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else 0


def choose(offered: Sequence[Platform | None], wanted: Platform) -> int | None:
    """Return the number of the platform that suits best, the first of several; None if none does.

    Where nothing is said of a platform, it may be any; it is taken last.
    """
    best: tuple[int, int] | None = None
    for number, platform in enumerate(offered):
        fit = 0 if platform is None or not platform.architecture else wanted.runs(platform)
        if fit is not None and (best is None or fit > best[0]):
            best = (fit, number)
    return best[1] if best else None
