"""Questions to the user over a screen; nothing happens when he goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from textual.app import App

from widgets.line import Line


def ask_text(
    app: App[Any],
    label: str,
    done: Callable[[str], object],
    *,
    value: str = "",
    hint: str = "",
    check: Callable[[str], str] | None = None,
    is_secret: bool = False,
    back: Callable[[], object] | None = None,
) -> None:
    """Ask for a line of text and call `done` with it, or `back`; without a check it may be anything but empty."""
    from widgets.prompt import Prompt

    def answered(text: str | None) -> None:
        if text is not None:
            done(text if is_secret else text.strip())
        elif back is not None:
            back()

    needed = check or (lambda text: "" if text.strip() else "something is needed")
    app.push_screen(Prompt(label, value, hint=hint, check=needed, is_secret=is_secret), answered)


def confirm(app: App[Any], question: str, details: Sequence[Line], verb: str, done: Callable[[], object]) -> None:
    """Ask before something is lost."""
    from widgets.confirm import Confirm

    def answered(agreed: bool | None) -> None:
        if agreed:
            done()

    app.push_screen(Confirm(question, details, verb=verb), answered)


def pick(app: App[Any], title: str, lines: Sequence[Line], done: Callable[[int], object]) -> None:
    """Have one of the lines chosen and call `done` with its number."""
    from app.tui.screens.pick import Pick

    def picked(index: int | None) -> None:
        if index is not None:
            done(index)

    app.push_screen(Pick(title, lines), picked)
