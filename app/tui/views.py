"""The views: guests, images, networks, operations, templates, volumes. Each is one key away from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding

from app.core.commands import COMMANDS, Command
from widgets.line import Line, Span

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp
    from app.tui.screens.asset import AssetScreen

VIEWS = ("guests", "images", "networks", "operations", "templates", "volumes")
"""In the order of their keys: 1, 2, 3, 4, 5, 6."""

VIEW_HINT = (f"1-{len(VIEWS)}", "views")
"""For the line of keys."""

VIEW_BINDINGS = [
    Binding(str(number), f"view('{name}')", f"show the {name}", show=False, id=f"view.{name}")
    for number, name in enumerate(VIEWS, 1)
]


def view_names(here: str, length: int) -> Line:
    """Their keys and names; of those that are not `here` so many letters."""
    spans: list[Span] = []
    for number, name in enumerate(VIEWS, 1):
        is_here = name == here
        title = name.capitalize() if is_here else name.capitalize()[:length]
        end = " " if is_here or length >= len(name) else ""
        spans += [(f" {number}", "dim"), (f" {title}{end}", "hit" if is_here else "")]
    return tuple(spans)


def commands_of(noun: str) -> list[Command]:
    """The commands on one sort of thing, in the order in which they are declared."""
    return [command for command in COMMANDS.values() if command.noun == noun]


def command_bindings(noun: str) -> list[Binding]:
    """Their keys."""
    return [
        Binding(command.key, f"do('{command.name}')", _short(command), show=False, id=command.name)
        for command in commands_of(noun)
        if command.key
    ]


def command_hints(noun: str, *first: str) -> list[tuple[str, str]]:
    """Their keys, for the line of keys; `first` are the verbs that come first."""
    found = [command for command in commands_of(noun) if command.key]
    order = {f"{noun}.{verb}": place for place, verb in enumerate(first)}
    found.sort(key=lambda command: order.get(command.name, len(order)))
    return [(command.key.partition(",")[0], _short(command)) for command in found]


def _short(command: Command) -> str:
    """What it is called where the noun is clear: "pull"."""
    words = command.title.lower().split()
    return words[0]


def open_view(app: InnkeeperApp, name: str) -> None:
    """Show a view over the guests."""
    from app.tui.screens.asset import AssetScreen

    here = app.screen
    if name == "guests":
        if isinstance(here, AssetScreen):
            here.dismiss(None)
        return
    screen = _make(app, name)
    if isinstance(here, AssetScreen):
        if here.view_name != name:
            app.switch_screen(screen)
    else:
        app.push_screen(screen)


def _make(app: InnkeeperApp, name: str) -> AssetScreen[object]:
    """Make the screen; its code is loaded when first looked at."""
    if name == "images":
        from app.tui.screens.images import ImageScreen

        return ImageScreen(app.roster)  # type: ignore[return-value]
    if name == "networks":
        from app.tui.screens.networks import NetworkScreen

        return NetworkScreen(app.roster)  # type: ignore[return-value]
    if name == "templates":
        from app.tui.screens.templates import TemplateScreen

        return TemplateScreen(app.roster)  # type: ignore[return-value]
    if name == "volumes":
        from app.tui.screens.volumes import VolumeScreen

        return VolumeScreen(app.roster)  # type: ignore[return-value]
    from app.tui.screens.operations import OperationScreen

    return OperationScreen(app.roster)  # type: ignore[return-value]
