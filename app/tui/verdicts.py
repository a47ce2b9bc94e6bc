"""Which command applies to a guest, and if none does, why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core.commands import COMMANDS
from app.tui.asker import Answer
from app.tui.attached import why_not_attached
from backends.base import Backend
from backends.capabilities import Attaching, Consoling, Executing
from widgets.guest_row import GuestRow
from widgets.text import clean

if TYPE_CHECKING:
    from app.tui.screens.base import BaseScreen

OPENERS: dict[str, tuple[str, str, type[object], str]] = {
    "shell": ("e", "shell", Executing, "exec"),
    "console": ("c", "console", Consoling, "console"),
    "attach": ("c", "terminal", Attaching, "attach"),
}
"""What opens a terminal in a guest: name → key, title, capability, family for Backend.why_not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which command applies to a guest, or why none does."""

    row: GuestRow
    command: str | None
    why: str = ""


def judge(
    screen: BaseScreen, names: Sequence[str], rows: Sequence[GuestRow], reply: Callable[[list[Verdict]], object]
) -> None:
    """Ask each guest's backend which of the commands applies; backends that are not up answer for themselves."""
    verdicts: list[Verdict] = []
    groups: dict[str, list[GuestRow]] = {}
    for row in rows:
        groups.setdefault(row.ref.backend, []).append(row)
    waiting = set(groups)

    def collect(name: str, found: list[Verdict]) -> None:
        verdicts.extend(found)
        waiting.discard(name)
        if not waiting:
            reply(verdicts)

    for name, members in groups.items():
        backend = screen.roster.backend(members[0].ref)
        if backend is None:
            collect(name, [Verdict(row, None, f"{name} does not answer") for row in members])
            continue
        _ask(screen, backend, names, members, collect)


def _ask(
    screen: BaseScreen,
    backend: Backend,
    names: Sequence[str],
    rows: list[GuestRow],
    collect: Callable[[str, list[Verdict]], None],
) -> None:
    def question() -> list[Verdict]:
        return [verdict(backend, names, row) for row in rows]

    def reply(answer: Answer[list[Verdict]]) -> None:
        if answer.error is not None:
            collect(backend.name, [Verdict(row, None, answer.error.message) for row in rows])
        else:
            collect(backend.name, answer.value)

    screen.innkeeper.asker.ask(f"why {backend.name}", f"act {' '.join(names)}", question, reply)


def verdict(backend: Backend, names: Sequence[str], row: GuestRow) -> Verdict:
    """What one guest's backend says of the commands, the first that applies; may block."""
    whys: list[str] = []
    offered = [name for name in names if name not in OPENERS or isinstance(backend, OPENERS[name][2])]
    for name in offered or names[:1]:
        why = _why_not(backend, name, row)
        if why is None:
            return Verdict(row, name)
        whys.append(why)
    return Verdict(row, None, clean("; ".join(dict.fromkeys(whys))))


def _why_not(backend: Backend, name: str, row: GuestRow) -> str | None:
    if name not in OPENERS:
        return COMMANDS[name].why_not(backend, row.guest)
    _, title, capability, family = OPENERS[name]
    if not isinstance(backend, capability):
        return f"{backend.title}: no {title} to open"
    if not row.guest.state.is_live:
        return f"it is {row.guest.state.value}"
    why = backend.why_not(family, row.guest)
    return why_not_attached(backend, row.ref) if why is None and name == "attach" else why


def title_of(name: str) -> str:
    """What a command is called."""
    return COMMANDS[name].title if name in COMMANDS else OPENERS[name][1] if name in OPENERS else name
