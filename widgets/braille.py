"""Areas drawn with braille signs: two values a cell, four levels a row."""

from __future__ import annotations

from collections.abc import Sequence

from widgets.glyphs import GLYPHS

_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
BLANK = " "  # not the empty braille sign: a blank is one byte, and the compositor can erase it
_CELLS = [[chr(0x2800 | left | right) if left or right else BLANK for right in _RIGHT] for left in _LEFT]
_ASCII_LEVELS = " .:|#"


def braille_rows(values: Sequence[float | None], top: float, width: int, height: int) -> list[str]:
    """An area chart of `width` by `height` cells: two values a cell, four levels a row; the newest at the right."""
    wanted = 2 * width
    padded = [None] * (wanted - len(values)) + list(values[-wanted:])
    scale = height * 4 / top
    most = height * 4
    levels = [0 if value is None else max(value > 0, min(most, round(value * scale))) for value in padded]
    rows: list[str] = []
    for y in range(height):
        base = (height - 1 - y) * 4
        steps = [min(4, max(0, level - base)) for level in levels]
        if GLYPHS.is_ascii:
            rows.append("".join([_ASCII_LEVELS[max(steps[i], steps[i + 1])] for i in range(0, wanted, 2)]))
        else:
            rows.append("".join([_CELLS[steps[i]][steps[i + 1]] for i in range(0, wanted, 2)]))
    return rows
