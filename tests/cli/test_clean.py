"""Other people's text: nothing of it commands the terminal, wherever it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.clean import Cleaner, clean
from app.cli.figures import bytes_text, time_text
from app.cli.logs import Stamps
from app.cli.output import cell_width, table_lines
from backends.model import LogLine

TEXT = st.text(
    st.one_of(st.sampled_from("\x1b[]P_^X\\;0123mHJK\x07\x9b\x9c\x9d\x90\r\n\t\x00\x08\u202eab"), st.characters()),
    max_size=60,
)


@given(TEXT)
def test_a_cleaned_name_has_no_control_character_and_no_line_break(text: str) -> None:
    assert not [character for character in clean(text) if character < " " or "\x7f" <= character <= "\x9f"]


@given(st.lists(TEXT, max_size=6))
def test_a_cleaned_stream_has_no_control_character_but_tab_and_newline(pieces: list[str]) -> None:
    cleaner = Cleaner()

    shown = "".join(cleaner.feed(piece) for piece in pieces)

    assert not [c for c in shown if (c < " " and c not in "\t\n") or "\x7f" <= c <= "\x9f"]


@given(TEXT, st.integers(0, 60))
def test_where_a_stream_is_cut_changes_nothing(text: str, cut: int) -> None:
    whole, pieces = Cleaner(), Cleaner()

    shown = pieces.feed(text[:cut]) + pieces.feed(text[cut:]) + pieces.feed("end\n")

    assert shown == whole.feed(text) + whole.feed("end\n")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP+q544e\x1b\\x", "x"),
        ("a\x9b2Jb", "ab"),
        ("two\nlines", "two lines"),
        ("bell\x07", "bell?"),
        ("evil\u202etxt.exe", "evil?txt.exe"),
        ("Grüße 漢字 🦊", "Grüße 漢字 🦊"),
    ],
)
def test_sequences_go_and_text_stays(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_an_unfinished_sequence_does_not_swallow_the_next_line() -> None:
    cleaner = Cleaner()

    assert cleaner.feed("\x1b]0;never ended\nnext\n") == "\nnext\n"


def test_progress_bars_become_lines() -> None:
    cleaner = Cleaner()

    assert cleaner.feed("10%\r20%\r") + cleaner.feed("\ndone\r\n") == "10%\n20%\ndone\n"


def test_times_stand_before_each_line_also_where_lines_come_in_pieces() -> None:
    stamps = Stamps()
    pieces = [b"one\ntwo ", b"still two\n", b"\n", b"four\n"]

    stamped = b"".join(stamps.stamp(LogLine(0.0, "stdout", data)) for data in pieces)

    mark = b"1970-01-01T00:00:00.000Z "
    assert stamped == mark + b"one\n" + mark + b"two still two\n" + mark + b"\n" + mark + b"four\n"


def test_streams_have_their_own_lines() -> None:
    stamps = Stamps()
    stamps.stamp(LogLine(0.0, "stdout", b"half "))

    assert stamps.stamp(LogLine(0.0, "stderr", b"whole\n")).endswith(b"Z whole\n")


def test_columns_line_up_with_wide_characters() -> None:
    lines = table_lines(("NAME", "N"), [("漢字", "1"), ("abcd", "22")], right=["N"])

    assert lines == ["NAME   N", "漢字   1", "abcd  22"]
    assert len({cell_width(line) for line in lines}) == 1


@pytest.mark.parametrize(
    "value, text",
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (64 * 1024**2, "64 MiB"), (None, "–")],
)
def test_sizes_are_told_in_1024s(value: float | None, text: str) -> None:
    assert bytes_text(value) == text


def test_times_are_utc_with_milliseconds() -> None:
    assert time_text(1e9 + 0.25) == "2001-09-09T01:46:40.250Z"
    assert time_text(None) is None
