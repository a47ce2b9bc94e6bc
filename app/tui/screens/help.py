"""Help, made from the keys that are really bound."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen

from app.core.commands import COMMANDS
from widgets.guest_column import COLUMNS
from widgets.line import EMPTY, Line, line, wrap
from widgets.line_view import LineView
from widgets.text import fit

_GROUPS = {
    "guest": "Guests",
    "limit": "Guests",
    "snapshot": "Guests",
    "open": "Look into",
    "image": "Images",
    "network": "Networks",
    "template": "Templates",
    "volume": "Volumes",
    "operation": "Operations",
    "form": "Form",
    "view": "View",
    "mark": "Marks",
    "log": "Logs",
    "tab": "Details",
    "step": "Details",
    "tree": "Snapshots",
    "move": "Move",
    "focus": "Move",
    "app": "Program",
}
_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "asterisk": "*",
    "backslash": "\\",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "exclamation_mark": "!",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "minus": "-",
    "plus": "+",
    "equals_sign": "=",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "delete": "Del",
    "enter": "Enter",
    "escape": "Esc",
    "space": "Space",
    "tab": "Tab",
    "up": "Up",
    "down": "Down",
    "home": "Home",
    "end": "End",
    "left": "Left",
    "right": "Right",
    "shift+tab": "Shift-Tab",
    "ctrl+@": "Ctrl-Space",
    "ctrl+right_square_bracket": "Ctrl-]",
}


INDENT = 24


class HelpScreen(ModalScreen[None]):
    """All keys that work on the screen below, then the columns, then the filter."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen LineView { width: 110; max-width: 100%; height: 100%; border: round $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss(None)", "back", show=False, id="help.back"),
    ]

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        self._lines = help_lines(below)

    def compose(self) -> ComposeResult:
        view = LineView()
        view.border_title = "Help (Esc goes back)"
        yield view

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        view = self.query_one(LineView)
        width = view.size.width - 1
        view.show([piece for each in self._lines for piece in wrap(each, max(30, width), INDENT)])


def help_lines(screen: Screen[Any]) -> list[Line]:
    """The live keys of a screen in groups, and what columns and filters mean."""
    groups: dict[str, dict[str, list[str]]] = {}
    for _, binding, enabled, _ in screen.active_bindings.values():
        if enabled and binding.description and (not binding.system or binding.action == "command_palette"):
            family = "app" if binding.system else (binding.id or "").partition(".")[0]
            group = groups.setdefault(_GROUPS.get(family, "More"), {})
            what = "all commands" if binding.action == "command_palette" else _describe(binding)
            group.setdefault(what, []).append(key_name(binding.key))
    lines: list[Line] = []
    for title in dict.fromkeys([*_GROUPS.values(), "More"]):
        if title in groups:
            lines.append(line((title, "head")))
            for text, keys in groups[title].items():
                lines.append(line("  ", (fit(" ".join(keys), INDENT - 2), "strong"), text))
            lines.append(EMPTY)
    lines.append(line(("Columns", "head")))
    lines += [line("  ", (fit(column.title or "bar", INDENT - 2), "strong"), column.meaning) for column in COLUMNS]
    lines += [EMPTY, line(("Filter", "head"))]
    lines += [
        line("  ", (fit(example, INDENT - 2), "strong"), text)
        for example, text in (
            ("web", "name contains it; a regular expression"),
            ("!web", "all but those"),
            ("kind:vm kind:ctr", "kind"),
            ("state:live", "state: live, running, paused, stopped, lost"),
            ("backend:libvirt", "source of guests"),
            ("image:debian", "image"),
            ("cpu>50 mem>=64M", "figures: cpu thr mem limit read write rx tx pids oom"),
            ("kind:ctr cpu>5 !db", "several: all must hold"),
        )
    ]
    lines += [EMPTY, line(("100 % of CPU is one core. State is told by sign and word; colour only adds to it.", "dim"))]
    return lines


def _describe(binding: Binding) -> str:
    names = binding.id or ""
    if names in COMMANDS and not binding.action.count(" "):
        return f"{binding.description}: {COMMANDS[names].help}"
    return binding.description


def key_name(key: str) -> str:
    """A key as it is written for people."""
    if key in _NAMES:
        return _NAMES[key]
    if key.startswith("ctrl+"):
        return "Ctrl-" + key[5:].upper()
    return key.upper() if len(key) > 1 and key[0] == "f" and key[1:].isdigit() else key
