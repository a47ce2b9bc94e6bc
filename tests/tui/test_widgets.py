"""Figures, text, filters, order, charts and trees, without a screen."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from backends.metrics import Rates
from backends.model import Guest, GuestKind, GuestRef, GuestState, Limits, LogLine, Snapshot
from widgets import units
from widgets.braille import braille_rows
from widgets.glyphs import GLYPHS, bar, use_ascii, wants_ascii
from widgets.guest_card import card_lines, uses
from widgets.guest_column import COLUMNS
from widgets.guest_filter import parse_filter
from widgets.guest_layout import lay_out
from widgets.guest_order import HOLD_S, Order
from widgets.guest_row import GuestRow
from widgets.history_chart import nice, scale_top
from widgets.line import line, slice_cells, text_of, width_of, wrap
from widgets.log_view import LogView
from widgets.snapshot_tree import arrange
from widgets.text import clean, clean_bytes, fit, fit_ends

MIB = 1024**2


def row(name: str, *, kind: GuestKind = GuestKind.CONTAINER, state: GuestState = GuestState.RUNNING,
        limits: Limits | None = None, group: str = "", **figures: float) -> GuestRow:  # fmt: skip
    guest = Guest(GuestRef("native", name * 4), name, kind, state, image="debian", limits=limits or Limits())
    return GuestRow(guest, name, rates=Rates(**figures), group=group)  # type: ignore[arg-type]


@given(st.floats(min_value=0, max_value=1e18))
def test_sizes_and_percents_have_at_most_five_cells(value: float) -> None:
    assert len(units.size(value)) <= 5
    if value < 99999:
        assert len(units.percent(value)) <= 5


@pytest.mark.parametrize("value, text", [
    (0, "0"), (999, "999"), (1000, "0.98K"), (1024, "1.00K"), (10 * 1024, "10.0K"), (1023 * 1024, "1.00M"),
    (5 * MIB, "5.00M"), (None, "-"),
])  # fmt: skip
def test_sizes_are_told_with_three_digits(value: float | None, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize("seconds, text", [(0, "0s"), (59, "59s"), (61, "1m01"), (3700, "1h01"), (90000, "1d01h"),
                                           (86400 * 200, "200d")])  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@given(st.text())
def test_clean_text_can_be_printed_whatever_it_was(text: str) -> None:
    assert clean(text).isprintable()


@given(st.binary(max_size=200))
def test_clean_bytes_can_be_printed_whatever_they_were(data: bytes) -> None:
    assert clean_bytes(data).isprintable()


@pytest.mark.parametrize("hostile, shown", [
    ("\x1b[31mred", "^[[31mred"), ("a\x9bb", "a\N{REPLACEMENT CHARACTER}b"), ("a\nb", "a b"), ("a\tb", "a    b"),
    ("x\u202ey", "x\N{REPLACEMENT CHARACTER}y"), ("\x7f", "^?"), ("日本", "日本"),
])  # fmt: skip
def test_hostile_characters_become_visible(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


@given(st.text(), st.integers(min_value=1, max_value=30))
def test_fitted_text_has_exactly_the_width(text: str, width: int) -> None:
    assert cell_len(fit(clean(text), width)) == width
    assert cell_len(fit_ends(clean(text), width)) == width


def test_names_that_begin_alike_are_told_apart_by_their_ends() -> None:
    names = [f"registry.example:5000/some/team/app:{number}" for number in range(100)]
    shown = {fit_ends(name, 24) for name in names}
    assert len(shown) == len(names)
    assert all(text.startswith("regist") for text in shown)
    assert fit_ends("app:1", 8) == "app:1   "


@given(st.text(), st.integers(min_value=2, max_value=20))
def test_a_wrapped_line_loses_nothing_and_no_piece_is_too_wide(text: str, width: int) -> None:
    made = line(text)
    pieces = wrap(made, width)
    assert all(width_of(piece) <= width for piece in pieces)
    if text.isascii():
        assert "".join(text_of(piece) for piece in pieces) == text_of(made)


def test_a_wide_character_that_is_cut_in_half_becomes_a_blank() -> None:
    assert text_of(slice_cells(line("日本"), 1, 3)) == " 本"


def test_ascii_mode_uses_nothing_else() -> None:
    use_ascii()
    try:
        shown = clean("日é") + bar(0.4, 5) + GLYPHS.state(GuestState.RUNNING) + fit("long text", 4)
        assert shown.isascii()
        assert "".join(braille_rows([1, 2, 3], 3, 4, 2)).isascii()
    finally:
        use_ascii(False)


@pytest.mark.parametrize("env, ascii_only", [
    ({}, False), ({"LANG": "C"}, True), ({"LANG": "de_DE.UTF-8"}, False), ({"LANG": "en_US.utf8"}, False),
    ({"LANG": "C.UTF-8", "LC_ALL": "POSIX"}, True), ({"LC_CTYPE": "de_DE.ISO-8859-1"}, True),
])  # fmt: skip
def test_the_locale_decides_whether_only_ascii_is_shown(env: dict[str, str], ascii_only: bool) -> None:
    assert wants_ascii(env) is ascii_only


ROWS = [
    row("web-1", cpu_pct=80.0, memory_bytes=100 * MIB), row("web-2", cpu_pct=1.0, memory_bytes=10 * MIB),
    row("Win", kind=GuestKind.VM, cpu_pct=20.0), row("db", state=GuestState.STOPPED),
]  # fmt: skip


@pytest.mark.parametrize("text, names", [
    ("", "web-1 web-2 Win db"), ("web", "web-1 web-2"), ("!web", "Win db"), ("win", "Win"), ("Web", ""),
    ("kind:vm", "Win"), ("kind:ctr", "web-1 web-2 db"), ("state:live", "web-1 web-2 Win"), ("state:stop", "db"),
    ("cpu>50", "web-1"), ("mem>=64M", "web-1"), ("cpu<50", "web-2 Win"), ("web !2", "web-1"), ("^w.*1$", "web-1"),
    ("backend:native kind:vm", "Win"), ("!cpu>50", "web-2 Win db"), ("image:debian", "web-1 web-2 Win db"),
])  # fmt: skip
def test_filters_mean_what_they_say(text: str, names: str) -> None:
    chosen = parse_filter(text)
    assert " ".join(each.name for each in ROWS if chosen(each)) == names


@given(st.text(max_size=30))
def test_any_text_is_a_filter(text: str) -> None:
    chosen = parse_filter(text)
    for each in ROWS:
        chosen(each)


def test_an_order_by_a_moving_figure_is_held_and_then_follows() -> None:
    order = Order()
    order.change(sort="cpu_pct", grouped=False)
    first = [row("a", cpu_pct=10.0), row("b", cpu_pct=20.0)]
    order.smoother.add(first)
    assert [each.name for each in order.arrange(first, 0.0)] == ["b", "a"]
    second = [row("a", cpu_pct=100.0), row("b", cpu_pct=20.0)]
    order.smoother.add(second)
    assert [each.name for each in order.arrange(second, HOLD_S / 2)] == ["b", "a"]
    assert [each.name for each in order.arrange(second, HOLD_S)] == ["a", "b"]


def test_a_single_peak_does_not_turn_the_order_round() -> None:
    order = Order()
    order.change(sort="cpu_pct", grouped=False)
    for _ in range(5):
        order.smoother.add([row("a", cpu_pct=10.0), row("b", cpu_pct=50.0)])
    peak = [row("a", cpu_pct=90.0), row("b", cpu_pct=50.0)]
    order.smoother.add(peak)
    assert [each.name for each in order.arrange(peak, 100.0)] == ["b", "a"]


def test_guests_without_a_figure_come_last_in_both_directions() -> None:
    order = Order()
    order.change(sort="memory_bytes", grouped=False)
    order.smoother.add(ROWS)
    assert [each.name for each in order.arrange(ROWS, 0.0)][:2] == ["web-1", "web-2"]
    order.change(reverse=True)
    assert [each.name for each in order.arrange(ROWS, 0.0)][:2] == ["web-2", "web-1"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 160, 200, 300])
def test_columns_fit_the_terminal(width: int) -> None:
    layout = lay_out(width, name_width=40)
    assert sum(each + 1 for _, each in layout.columns) + 1 <= max(width, 34)


def test_every_column_can_be_drawn_for_a_guest_without_figures() -> None:
    for column in COLUMNS:
        assert sum(cell_len(text) for text, _ in column.cell(row("x", state=GuestState.STOPPED), 9)) == 9


def test_a_limit_that_bites_is_told_with_its_evidence() -> None:
    held = row("a", limits=Limits(cpus=0.5, memory_bytes=64 * MIB), cpu_pct=50.0, cpu_throttled_pct=80.0,
               memory_bytes=64 * MIB, memory_limit_bytes=64 * MIB, memory_pct=100.0, oom_kills=2)  # fmt: skip
    told = {use.name: use for use in uses(held)}
    assert told["cpus"].share == 1.0
    assert "80.0 % of periods" in told["cpus"].bite
    assert told["memory_bytes"].bite == "2 killed: out of memory"


@given(st.floats(min_value=0.001, max_value=1e15), st.sampled_from([1000, 1024]))
def test_the_scale_ends_at_or_above_the_highest_value(value: float, base: int) -> None:
    assert value <= nice(value, base) * 1.0001
    assert nice(value, base) <= max(1.0, value * 3)


def test_a_limit_is_always_on_the_scale_but_what_is_only_there_need_not_be() -> None:
    assert scale_top(3.0, 100.0) == 100.0
    assert scale_top(3.0, 800.0, is_hard=False) < 800.0


def test_an_area_chart_stands_on_the_right_and_fills_from_below() -> None:
    top, bottom = braille_rows([1.0, 2.0, 4.0, 4.0], 4.0, 4, 2)
    assert bottom == "  ⣰⣿".replace("⣰", bottom[2])
    assert bottom[3] == "⣿"
    assert top[:3] == "   "
    assert top[3] == "⣿"


def _snapshot(name: str, parent: str | None, created_s: float) -> Snapshot:
    return Snapshot(name, created_s, parent)


def test_snapshots_are_arranged_parents_first() -> None:
    found = arrange([_snapshot("c", "b", 3), _snapshot("a", None, 1), _snapshot("d", "a", 4), _snapshot("b", "a", 2)])
    assert [snapshot.name for snapshot, _ in found] == ["a", "b", "c", "d"]
    assert [lead for _, lead in found] == ["", "├─ ", "│ └─ ", "└─ "]


def test_snapshots_with_lost_or_circular_parents_are_all_shown() -> None:
    found = arrange([_snapshot("a", "gone", 1), _snapshot("b", "c", 2), _snapshot("c", "b", 3)])
    assert {snapshot.name for snapshot, _ in found} == {"a", "b", "c"}


def test_pieces_of_a_log_line_are_joined_and_an_overwritten_line_shows_its_end() -> None:
    log = LogView()
    joined = [each for piece in (LogLine(1.0, "stdout", b"hel"), LogLine(2.0, "stdout", b"lo\n10%\r99%\n"))
              for each in log._join(piece)]  # fmt: skip
    assert [(each.time_s, each.text) for each in joined] == [(1.0, "hello"), (2.0, "99%")]


def test_no_widget_text_uses_colour_alone_for_a_state() -> None:
    signs = {GLYPHS.state(state) for state in GuestState}
    assert len(signs) == len(GuestState)
    assert all(re.fullmatch(r"\S", sign) for sign in signs)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"health": "unhealthy"}, "unhealthy"),
        ({"health": "healthy"}, "running"),
        ({"state": GuestState.STOPPED, "exit_code": 137, "oom_kills": 1}, "OOM-killed"),
        ({"state": GuestState.STOPPED, "exit_code": 0, "oom_kills": 1}, "stopped"),
        ({"state": GuestState.RESTARTING, "exit_code": 7}, "restarting"),
    ],
)
def test_what_is_wrong_with_a_guest_is_told_where_there_is_no_room_for_a_note(change: Any, word: str) -> None:
    troubled = row("web")
    troubled = replace(troubled, guest=replace(troubled.guest, **change))
    layout = lay_out(80)
    assert "note" not in {column.name for column, _ in layout.columns}
    state, width = layout.columns[0]
    assert "".join(text for text, _ in state.cell(troubled, width)).split()[1:] == [word]


def test_the_card_tells_published_ports() -> None:
    plain = row("web")
    published = replace(plain, guest=replace(plain.guest, ports=("8080->80/tcp", "9000->9000/tcp", "9001->9001/tcp")))
    text = "\n".join("".join(part for part, _ in each) for each in card_lines(published))
    assert "8080->80/tcp, 9000-9001->9000-9001/tcp" in text
