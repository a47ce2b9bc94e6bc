"""The few signs that are not ASCII, and what stands for them on a terminal that has only ASCII."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from backends.model import GuestState

_STATES = {
    GuestState.CREATING: ("◌", "c"),
    GuestState.CREATED: ("○", "o"),
    GuestState.RUNNING: ("●", "*"),
    GuestState.PAUSED: ("‖", "="),
    GuestState.STOPPING: ("◐", "~"),
    GuestState.STOPPED: ("■", "."),
    GuestState.RESTARTING: ("◍", "@"),
    GuestState.LOST: ("✗", "x"),
    GuestState.UNKNOWN: ("?", "?"),
}


@dataclass(slots=True)
class Glyphs:
    """Signs in use. One object, changed in place by `use_ascii`, so that every module may import it."""

    is_ascii: bool = False
    ellipsis: str = "…"
    replacement: str = "\N{REPLACEMENT CHARACTER}"
    cursor: str = "▸"
    mark: str = "✓"
    rule: str = "─"
    upright: str = "│"
    branch: str = "├─"
    last_branch: str = "└─"
    dot: str = "·"
    up: str = "▲"
    down: str = "▼"
    here: str = "◀"
    pending: str = "↻"
    warning: str = "!"
    bar: str = " ▏▎▍▌▋▊▉█"
    """Fill of one cell in eighths."""

    def state(self, state: GuestState) -> str:
        """The sign of a state; the word stands beside it."""
        return _STATES[state][1 if self.is_ascii else 0]


_ASCII = Glyphs(
    is_ascii=True,
    ellipsis="~",
    replacement="?",
    cursor=">",
    mark="+",
    rule="-",
    upright="|",
    branch="|-",
    last_branch="`-",
    dot=".",
    up="^",
    down="v",
    here="<",
    pending="&",
    warning="!",
    bar=" .:-=+*#",
)

GLYPHS = Glyphs()


def use_ascii(wanted: bool = True) -> None:
    """Switch all signs to ASCII, or back."""
    source = _ASCII if wanted else Glyphs()
    for item in fields(Glyphs):
        setattr(GLYPHS, item.name, getattr(source, item.name))


def wants_ascii(environ: Mapping[str, str] | None = None) -> bool:
    """True if the locale says that the terminal does not show UTF-8. An unset locale is taken for UTF-8."""
    env = os.environ if environ is None else environ
    if env.get("INNKEEPER_ASCII"):
        return True
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    return bool(locale) and "utf-8" not in locale.lower().replace("utf8", "utf-8")


def bar(share: float | None, width: int) -> str:
    """A horizontal bar of `width` cells, filled by a share between 0 and 1."""
    if share is None:
        return " " * width
    steps = len(GLYPHS.bar) - 1
    filled = round(max(0.0, min(1.0, share)) * width * steps)
    whole, part = divmod(filled, steps)
    return (GLYPHS.bar[-1] * whole + (GLYPHS.bar[part] if whole < width else "")).ljust(width)
