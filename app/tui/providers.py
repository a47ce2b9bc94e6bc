"""What the command palette offers: every command for the chosen guests, every view, every theme."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.screen import Screen

from app.core.commands import COMMANDS
from app.tui.screens.base import BaseScreen
from app.tui.screens.help import key_name
from app.tui.theme import THEMES
from app.tui.verdicts import OPENERS

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp


def system_commands(app: InnkeeperApp, screen: Screen[Any]) -> Iterator[SystemCommand]:
    """All that can be done from this screen, by name."""
    if isinstance(screen, BaseScreen):
        for name, command in COMMANDS.items():
            if command.needs_guest and not name.startswith("snapshot.re"):
                key = f" ({key_name(command.key.partition(',')[0])})" if command.key else ""
                yield SystemCommand(f"{command.title}{key}", command.help, partial(screen.actions.act, [name]))
        for name, (key, title, _, _) in OPENERS.items():
            yield SystemCommand(
                f"Open a {title} ({key})",
                "Hand the terminal to it; Ctrl-] comes back.",
                partial(screen.actions.act, [name]),
            )
        yield from _bound(screen)
    yield SystemCommand("Help (?)", "All keys that work here.", app.action_help)
    for theme in THEMES:
        change = partial(setattr, app, "theme", theme.name)
        yield SystemCommand(f"Theme: {theme.name}", "Colours of the screen.", change)
    yield SystemCommand("Redraw (Ctrl-L)", "Draw the screen anew.", app.action_redraw)
    yield SystemCommand("Quit (q)", "Leave; guests run on.", partial(app.exit, 0))


def _bound(screen: BaseScreen) -> Iterator[SystemCommand]:
    """The keys of views, from the bindings themselves."""
    for node, binding, enabled, _ in screen.active_bindings.values():
        family = (binding.id or "").partition(".")[0]
        if enabled and family in ("view", "open", "tab", "log", "mark") and not binding.action.startswith("act("):
            yield SystemCommand(
                f"{binding.description.capitalize()} ({key_name(binding.key)})",
                "",
                _runner(screen, node, binding.action),
            )


def _runner(screen: BaseScreen, node: Any, action: str) -> Callable[[], Any]:
    return partial(screen.app.run_action, action, node)
