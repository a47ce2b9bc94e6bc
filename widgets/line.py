"""Lines as data: what a line-API widget shows, before it becomes cells."""

from __future__ import annotations

from typing import Literal, get_args

from rich.cells import cell_len

from widgets.text import clean

Role = Literal[
    "",
    "dim",
    "strong",
    "head",
    "title",
    "good",
    "warn",
    "bad",
    "accent",
    "cpu",
    "memory",
    "io",
    "net",
    "limit",
    "hit",
]
"""What a piece of text is; the style sheet gives each role its look. "" is plain."""

ROLES: tuple[Role, ...] = get_args(Role)

Span = tuple[str, Role]
Line = tuple[Span, ...]

EMPTY: Line = ()


def line(*pieces: str | Span) -> Line:
    """Make a line of spans and plain strings, all made harmless."""
    return tuple([(clean(piece), "") if isinstance(piece, str) else (clean(piece[0]), piece[1]) for piece in pieces])


def text_of(spans: Line) -> str:
    """The line without its roles."""
    return "".join([text for text, _ in spans])


def width_of(spans: Line) -> int:
    """The line's width in cells."""
    return sum([cell_len(text) for text, _ in spans])


def slice_cells(spans: Line, start: int, width: int) -> Line:
    """The part of a line that begins at a cell and is at most so many cells wide."""
    out: list[Span] = []
    skip, left = start, width
    for text, role in spans:
        if left <= 0:
            break
        if text.isascii():
            piece = text[skip : skip + left]
            skip = max(0, skip - len(text))
            left -= len(piece)
        else:
            piece, skip, left = _slice_wide(text, skip, left)
        if piece:
            out.append((piece, role))
    return tuple(out)


def _slice_wide(text: str, skip: int, left: int) -> tuple[str, int, int]:
    kept: list[str] = []
    for character in text:
        wide = cell_len(character)
        if skip > 0:
            skip -= wide
            if skip < 0 and left > 0:  # half of a wide character is left over: a blank stands for it
                kept.append(" ")
                left -= 1
                skip = 0
        elif wide > left:
            left = 0 if wide else left
            break
        else:
            kept.append(character)
            left -= wide
    return "".join(kept), skip, left


def wrap(spans: Line, width: int, indent: int = 0) -> list[Line]:
    """Break a line into pieces of at most `width` cells, the later ones indented."""
    total = width_of(spans)
    if total <= width:
        return [spans]
    pieces: list[Line] = []
    at, room = 0, width
    while at < total:
        piece = slice_cells(spans, at, room)
        if at + room < total:
            piece = _to_last_blank(piece)
        # A wide character that does not fit makes a piece shorter than its room.
        at += max(1, width_of(piece))
        pieces.append(((" " * indent, ""), *piece) if pieces else piece)
        room = max(1, width - indent)
    return pieces


def _to_last_blank(piece: Line) -> Line:
    """The piece up to its last blank, if that is in its second half."""
    text = text_of(piece)
    at = text.rfind(" ") + 1
    return slice_cells(piece, 0, cell_len(text[:at])) if at > len(text) // 2 else piece
