"""Writing only changed cells leaves the same picture on a terminal as writing everything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from app.tui.diff import CellDiff
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open

WIDTH, HEIGHT = 24, 4
CONSOLE = Console(color_system="truecolor", force_terminal=True, width=WIDTH, height=HEIGHT)
STYLES = [
    None, Style(), Style(bold=True), Style(reverse=True), Style(color="red"), Style(color="#102030", bgcolor="blue"),
    Style(bgcolor="default", color="default"), Style(underline=True, dim=True),
]  # fmt: skip


class Terminal:
    """A terminal that is written to, with line wrap off as Textual has it."""

    def __init__(self, width: int, height: int) -> None:
        self.screen = pyte.Screen(width, height)
        self.screen.reset_mode(7, private=True)
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> None:
        self._stream.feed(text)

    def cells(self, lines: Iterable[int] = ()) -> list[list[Any]]:
        """Each cell (of these lines, or of all) as one would see it: a style without effect on a blank is none."""
        buffer, columns = self.screen.buffer, range(self.screen.columns)
        return [[_seen(buffer[y][x]) for x in columns] for y in lines or range(self.screen.lines)]

    def touched(self) -> set[int]:
        """Return the lines that were written to since the last call."""
        lines = set(self.screen.dirty)
        self.screen.dirty.clear()
        return lines


def _seen(cell: Any) -> tuple[Any, ...]:
    marks = (cell.underscore, cell.reverse, cell.bg)
    if cell.data == " " and not cell.reverse:
        return (" ", *marks)
    return (cell.data, cell.fg, cell.bold, cell.italics, *marks)


text = st.text(alphabet=st.sampled_from("ab .x日本ｆ─█éあ"), max_size=14)
pieces = st.lists(st.tuples(text, st.sampled_from(STYLES)), max_size=5)
frames = st.lists(st.lists(pieces, min_size=HEIGHT, max_size=HEIGHT), min_size=2, max_size=5)


def layout(strips: list[Strip]) -> LayoutUpdate:
    lines: list[Iterable[Strip]] = [[strip] for strip in strips]
    return LayoutUpdate(lines, Region(0, 0, WIDTH, HEIGHT))


def strip_of(row: list[tuple[str, Style | None]]) -> Strip:
    strip = Strip([Segment(piece, style) for piece, style in row])
    return strip.adjust_cell_length(WIDTH)


@settings(max_examples=300, deadline=None)
@given(frames)
def test_any_sequence_of_frames_looks_the_same(rows_of_frames: list[list[list[tuple[str, Style | None]]]]) -> None:
    plain, changed, diff = Terminal(WIDTH, HEIGHT), Terminal(WIDTH, HEIGHT), CellDiff()
    for rows in rows_of_frames:
        update = layout([strip_of(row) for row in rows])
        plain.write(update.render_segments(CONSOLE))
        changed.write(diff.encode(update, CONSOLE, (WIDTH, HEIGHT)))
        assert changed.cells() == plain.cells()


def test_an_unchanged_frame_writes_nothing() -> None:
    diff = CellDiff()
    update = layout([strip_of([("hello", Style(bold=True))])] * HEIGHT)
    assert diff.encode(update, CONSOLE, (WIDTH, HEIGHT))
    again = layout([strip_of([("hello", Style(bold=True))])] * HEIGHT)
    assert diff.encode(again, CONSOLE, (WIDTH, HEIGHT)) == ""


def test_one_changed_character_writes_little() -> None:
    diff = CellDiff()
    for word in ("aaaa", "aaba"):
        update = layout([strip_of([(word, None)])] * HEIGHT)
        written = diff.encode(update, CONSOLE, (WIDTH, HEIGHT))
    assert len(written) < HEIGHT * 12


def test_after_forgetting_everything_is_written_again() -> None:
    diff = CellDiff()
    update = layout([strip_of([("hello", None)])] * HEIGHT)
    first = diff.encode(update, CONSOLE, (WIDTH, HEIGHT))
    diff.forget()
    assert diff.encode(update, CONSOLE, (WIDTH, HEIGHT)) == first


def test_a_line_that_was_covered_in_its_middle_is_written_again_when_it_comes_back() -> None:
    diff, terminal = CellDiff(), Terminal(WIDTH, HEIGHT)
    whole = layout([strip_of([("a line as long as the screen", None)])] * HEIGHT)
    box = LayoutUpdate([[Strip([Segment("[box]")])]], Region(8, 1, 5, 1))
    for update in (whole, box, whole):
        terminal.write(diff.encode(update, CONSOLE, (WIDTH, HEIGHT)))
    assert "".join(cell[0] for cell in terminal.cells()[1]) == "a line as long as the sc"


chops = st.lists(st.integers(1, WIDTH - 1), unique=True, max_size=3)
spans = st.lists(st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(1, WIDTH)), min_size=1)


@settings(max_examples=300, deadline=None)
@given(frames, chops, spans)
def test_a_part_of_the_screen_is_written_as_far_as_the_toolkit_writes_it(
    rows_of_frames: list[list[list[tuple[str, Style | None]]]], cuts: list[int], parts: list[tuple[int, int, int]]
) -> None:
    plain, changed, diff = Terminal(WIDTH, HEIGHT), Terminal(WIDTH, HEIGHT), CellDiff()
    edges = [0, *sorted(cuts), WIDTH]
    for number, rows in enumerate(rows_of_frames):
        strips = [strip_of(row) for row in rows]
        pieces = [dict(zip(edges, strip.divide(edges[1:]), strict=False)) for strip in strips]
        wanted = sorted((y, min(x1, x2 - 1), x2) for y, x1, x2 in parts)
        update = layout(strips) if number == 0 else ChopsUpdate(pieces, wanted, [edges[1:]] * HEIGHT)
        plain.write(update.render_segments(CONSOLE))
        changed.write(diff.encode(update, CONSOLE, (WIDTH, HEIGHT)))
        assert changed.cells() == plain.cells()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, tuple[int, int]]]:
    """What the app hands to its display, frame by frame, before it is made smaller."""
    from app.tui.application import InnkeeperApp

    frames_seen: list[tuple[Any, tuple[int, int]]] = []
    original = InnkeeperApp._display

    def display(self: InnkeeperApp, screen: Any, renderable: Any) -> None:
        if renderable is not None and screen is self.screen:
            frames_seen.append((renderable, self.size))
        original(self, screen, renderable)

    monkeypatch.setattr(InnkeeperApp, "_display", display)
    return frames_seen


@pytest.mark.timeout(60)
@pytest.mark.parametrize("hostile", [False, True])
async def test_a_session_with_dialogs_and_scrolling_looks_the_same(
    open_screen: Open, recorded: list[tuple[Any, tuple[int, int]]], hostile: bool
) -> None:
    backend = SimulatedBackend(guests=30, hostile=hostile)
    async with open_screen(backend, size=(130, 36)) as driver:
        for key in ("down", "pagedown", "G", "o", "c", "t", "X", "escape", "L", "escape", "enter", "2", "3", "escape",
                    "slash", "a", "escape", "question_mark", "escape", "space", "g", "home"):  # fmt: skip
            await driver.press(key)
        await driver.pilot.pause(0.2)
        console = driver.app.console
        plain, changed, diff = Terminal(130, 36), Terminal(130, 36), CellDiff()
        full = short = 0
        assert len(recorded) > 20
        for number, (update, size) in enumerate(recorded):
            whole, less = update.render_segments(console), diff.encode(update, console, size)
            plain.write(whole)
            changed.write(less)
            full, short = full + len(whole), short + len(less)
            lines = sorted(plain.touched() | changed.touched())
            assert changed.cells(lines) == plain.cells(lines), f"frame {number}"
        assert changed.cells() == plain.cells()
        assert short < full / 2


def test_wide_characters_count_two_cells() -> None:
    assert cell_len("日本") == 4  # what the comparison relies on
