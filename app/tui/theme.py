"""Themes: the terminal's own 16 colours by default, so that it reads on light and on dark; two fixed ones to choose."""

from __future__ import annotations

import os
from collections.abc import Mapping

from textual.theme import Theme

_ANSI = {
    "ansi-background": "ansi_default",
    "ansi-foreground": "ansi_default",
    "block-cursor-foreground": "ansi_default",
    "block-cursor-background": "ansi_default",
    "block-cursor-text-style": "reverse",
    "input-cursor-background": "ansi_default",
    "input-cursor-foreground": "ansi_default",
    "input-cursor-text-style": "reverse",
    "input-selection-background": "ansi_bright_blue",
    "input-selection-foreground": "ansi_black",
    "border": "ansi_blue",
    "border-blurred": "ansi_bright_black",
    "scrollbar": "ansi_bright_black",
    "scrollbar-hover": "ansi_bright_black",
    "scrollbar-active": "ansi_bright_black",
    "scrollbar-background": "ansi_default",
    "scrollbar-background-hover": "ansi_default",
    "scrollbar-background-active": "ansi_default",
    "scrollbar-corner-color": "ansi_default",
}


def _terminal(name: str, *, dark: bool) -> Theme:
    # Yellow cannot be read on white, blue hardly on black: the background decides between the few that are left.
    return Theme(
        name=name,
        ansi=True,
        dark=dark,
        primary="ansi_bright_blue" if dark else "ansi_blue",
        secondary="ansi_cyan" if dark else "ansi_blue",
        warning="ansi_yellow" if dark else "ansi_magenta",
        error="ansi_bright_red" if dark else "ansi_red",
        success="ansi_green",
        accent="ansi_magenta",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        variables=_ANSI,
    )


THEMES = (
    _terminal("terminal", dark=True),
    _terminal("terminal-light", dark=False),
    Theme(
        name="dark",
        dark=True,
        primary="#7aa2f7",
        secondary="#56c2d6",
        warning="#e0af68",
        error="#f7768e",
        success="#73c991",
        accent="#bb9af7",
        foreground="#d5d9e6",
        background="#14161d",
        surface="#1b1e28",
        panel="#222633",
        boost="#222633",
    ),
    Theme(
        name="light",
        dark=False,
        primary="#1f4fbf",
        secondary="#00687a",
        warning="#8a5a00",
        error="#b3002d",
        success="#1a6b2f",
        accent="#6b2fa0",
        foreground="#1b1d24",
        background="#fbfbf8",
        surface="#f1f1ec",
        panel="#e6e6df",
        boost="#e6e6df",
    ),
)


def choose(environ: Mapping[str, str] | None = None) -> str:
    """Name the theme to begin with: INNKEEPER_THEME, else what COLORFGBG says of the background."""
    env = os.environ if environ is None else environ
    wanted = env.get("INNKEEPER_THEME", "")
    if wanted in {theme.name for theme in THEMES}:
        return wanted
    background = env.get("COLORFGBG", "").rpartition(";")[2]
    return "terminal-light" if background in ("7", "15") else "terminal"
