"""Sends only the cells that changed.

Textual sends every dirty region whole, each piece of text with its full colour sequence. `CellDiff` remembers what
is on the terminal, cell by cell, compares, and writes the changed runs alone. It replaces one step of Textual's
private API: what `App._display` asks of a compositor update (`render_segments`). A test holds it against the plain one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

BRIDGE = 5
"""Equal cells between two changed ones that are written again, because a cursor move costs more."""

ERASE = 10
"""Trailing blanks from which on "erase to the end of the line" is shorter."""

Cell = tuple[str, "Style | None"]
"""A character with what combines with it, and its style; "" is the right half of a wide character."""

UNKNOWN: Cell = ("\0", None)
BLANK = " "


class CellDiff:
    """What is on the terminal now, and the shortest way from there to the next frame."""

    def __init__(self) -> None:
        self._width = 0
        self._rows: list[list[Cell]] = []
        self._strips: list[dict[int, Strip]] = []
        self._system = ColorSystem.TRUECOLOR
        self._codes: dict[Style | None, str] = {}

    def forget(self) -> None:
        """Something else wrote to the terminal: the next frame is written whole."""
        self._rows = []

    def wrap(self, update: object, size: tuple[int, int]) -> object:
        """Return an update that writes only what changed; anything else is passed through and forgotten about."""
        if isinstance(update, CompositorUpdate):
            return _Changed(self, update, size)
        if update is not None:
            self.forget()
        return update

    def encode(self, update: CompositorUpdate, console: Console, size: tuple[int, int]) -> str:
        """Return what brings the terminal to the update."""
        width, height = size
        if width != self._width or height != len(self._rows):
            self._width = width
            self._rows = [[UNKNOWN] * width for _ in range(height)]
            self._strips = [{} for _ in range(height)]
        if console._color_system is not self._system:
            self._system = console._color_system or ColorSystem.TRUECOLOR
            self._codes.clear()
        if isinstance(update, LayoutUpdate):
            return self._write(_layout_pieces(update))
        if isinstance(update, ChopsUpdate):
            return self._write(_chop_pieces(update))
        self.forget()
        return update.render_segments(console)

    # ---- comparing

    def _write(self, pieces: Iterable[tuple[int, int, Strip]]) -> str:
        runs: list[tuple[int, int, list[Cell]]] = []
        for y, x, strip in pieces:
            if y >= len(self._rows) or self._strips[y].get(x) is strip:
                continue
            self._strips[y][x] = strip
            runs.extend((y, at, cells) for at, cells in self._changed(y, x, strip))
        return self._encode_runs(runs) if runs else ""

    def _changed(self, y: int, x: int, strip: Strip) -> Iterable[tuple[int, list[Cell]]]:
        row, new = self._rows[y], cells_of(strip)
        new = new[: max(0, self._width - x)]
        old = row[x : x + len(new)]
        if old == new:
            return
        row[x : x + len(new)] = new
        strips = self._strips[y]
        for at in [at for at, cut in strips.items() if at < x + len(new) and x < at + cut.cell_length and at != x]:
            del strips[at]  # another cut of this line was written over
        yield from ((x + start, new[start:end]) for start, end in _runs(old, new))

    # ---- writing

    def _encode_runs(self, runs: Sequence[tuple[int, int, list[Cell]]]) -> str:
        out: list[str] = []
        state = ""
        at: tuple[int, int] | None = None
        for y, x, cells in runs:
            if at is not None and at[0] == y and x > at[1]:
                out.append(f"\x1b[{x - at[1]}C" if x - at[1] > 1 else "\x1b[C")
            elif at != (y, x):
                out.append(f"\x1b[{y + 1};{x + 1}H")
            tail = self._erasable(x, cells)
            for style, group in groupby(cells[: len(cells) - tail], key=itemgetter(1)):
                code = self._code(style)
                if code != state:
                    out.append(f"\x1b[0;{code}m" if code else "\x1b[m")
                    state = code
                out.extend([text for text, _ in group])
            if tail:
                if state:
                    out.append("\x1b[m")
                    state = ""
                out.append("\x1b[K")
            end = x + len(cells) - tail
            at = (y, end) if end < self._width else None  # in the last column terminals differ on where the cursor is
        if state:
            out.append("\x1b[m")
        return "".join(out)

    def _erasable(self, x: int, cells: list[Cell]) -> int:
        """Number of plain blanks at the end of the line."""
        if x + len(cells) != self._width:
            return 0
        count = 0
        for text, style in reversed(cells):
            if text != BLANK or self._code(style):
                break
            count += 1
        return count if count >= ERASE else 0

    def _code(self, style: Style | None) -> str:
        if style is None:
            return ""
        code = self._codes.get(style)
        if code is None:
            if len(self._codes) > 4096:
                self._codes.clear()
            code = self._codes[style] = _sgr(style, self._system)
        return code


class _Changed(CompositorUpdate):
    """Stands for an update; Textual asks it for its bytes when it writes."""

    def __init__(self, diff: CellDiff, update: CompositorUpdate, size: tuple[int, int]) -> None:
        self._diff, self._update, self._size = diff, update, size

    def render_segments(self, console: Console) -> str:
        return self._diff.encode(self._update, console, self._size)


def cells_of(strip: Strip) -> list[Cell]:
    """The strip as one entry a cell."""
    out: list[Cell] = []
    for text, style, control in strip:
        if control:
            continue
        if text.isascii():
            out.extend([(character, style) for character in text])
            continue
        for character in text:
            wide = cell_len(character)
            if wide == 0:
                if out:
                    base, of = out[-1]
                    out[-1] = (base + character, of)
            else:
                out.append((character, style))
                if wide == 2:
                    out.append(("", style))
    return out


def _runs(old: list[Cell], new: list[Cell]) -> Iterable[tuple[int, int]]:
    """Start and end of what differs; short equal stretches between are taken along."""
    count, x = len(new), 0
    while x < count:
        if old[x] == new[x]:
            x += 1
            continue
        start = x
        end = x = x + 1
        while x < count and x - end < BRIDGE:
            if old[x] != new[x]:
                end = x + 1
            x += 1
        while start > 0 and new[start][0] == "":
            start -= 1  # never begin within a wide character
        while end < count and (new[end][0] == "" or old[end][0] == ""):
            end += 1  # nor leave half of one, old or new, behind
        yield start, end
        x = max(x, end)


def _layout_pieces(update: LayoutUpdate) -> Iterable[tuple[int, int, Strip]]:
    for y, strips in enumerate(update.strips, update.region.y):
        x = update.region.x
        for strip in strips:
            yield y, x, strip
            x += strip.cell_length


def _chop_pieces(update: ChopsUpdate) -> Iterable[tuple[int, int, Strip]]:
    """What reaches into a span, up to the end of the span: what is beyond it may be newer than its own turn."""
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < x2 and end > x1:
                yield y, x, strip if end <= x2 else strip.crop(0, x2 - x)


def _sgr(style: Style, system: ColorSystem) -> str:
    """The parameters that give the style from a reset state; default colours need none."""
    codes = style._make_ansi_codes(system)
    return ";".join(code for code in codes.split(";") if code not in ("39", "49")) if _is_plain(codes) else codes


def _is_plain(codes: str) -> bool:
    """True if no extended colour is in it, whose numbers could be taken for others."""
    return "38;" not in codes and "48;" not in codes
