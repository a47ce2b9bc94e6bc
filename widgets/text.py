"""Other people's text made harmless: no control character of it reaches the terminal."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len

from widgets.glyphs import GLYPHS

TAB = "    "


def clean(text: str) -> str:
    """Return the text with every control, escape and direction character made visible or replaced.

    C0 becomes ^X (as cat -v shows it), C1 and format characters (bidi controls, zero-width joiners, tags)
    become the replacement character, line ends a space. On a terminal without UTF-8 all but ASCII is replaced.
    """
    if text.isprintable() and (not GLYPHS.is_ascii or text.isascii()):
        return text
    return "".join([_visible(character, GLYPHS.is_ascii) for character in text])


def clean_bytes(data: bytes) -> str:
    """The same for raw output; what is not UTF-8 becomes the replacement character."""
    return clean(data.decode("utf-8", "replace"))


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return clean text of exactly `width` cells: cut with an ellipsis or padded."""
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        return _cut(text, width)
    return " " * (width - length) + text if right else text + " " * (width - length)


def fit_ends(text: str, width: int) -> str:
    """Return clean text of exactly `width` cells; what is too much is left out before its last half, not at its end."""
    length = cell_len(text)
    if length <= width or width < 8:
        return fit(text, width)
    tail, used = "", 0
    for character in reversed(text):
        wide = cell_len(character)
        if used + wide > (width - 1) * 2 // 3:
            break
        tail, used = character + tail, used + wide
    return _cut(text, width - used) + tail


def counted(number: int, noun: str) -> str:
    """Return "1 image" or "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cut(text: str, width: int) -> str:
    if width <= 0:
        return ""
    kept: list[str] = []
    used = 0
    for character in text:
        wide = cell_len(character)
        if used + wide > width - 1:
            break
        kept.append(character)
        used += wide
    return "".join(kept) + GLYPHS.ellipsis + " " * (width - 1 - used)


@lru_cache(maxsize=2048)
def _visible(character: str, is_ascii: bool) -> str:
    code = ord(character)
    if character == "\t":
        return TAB
    if character in "\n\r\u2028\u2029":
        return " "
    if code < 0x20:
        return "^" + chr(code + 0x40)
    if code == 0x7F:
        return "^?"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") or 0xFE00 <= code <= 0xFE0F:
        return GLYPHS.replacement
    if unicodedata.category(character) == "Zs":
        return " "
    if is_ascii and code > 0x7E:
        return GLYPHS.replacement
    return character
