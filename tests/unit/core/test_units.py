"""Sizes, rates and durations: what is written can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import units
from backends.errors import UsageError


@pytest.mark.parametrize(
    "text, size_bytes",
    [
        ("64M", 64 * 1024**2), ("1.5G", 3 * 1024**3 // 2), ("10KiB", 10240), ("4096", 4096), ("2t", 2 * 1024**4),
        ("1 GB", 1024**3), ("0", 0), ("100b", 100), (".5k", 512), ("9007199254740993", 9007199254740993),
    ],
)  # fmt: skip
def test_sizes_count_in_1024(text: str, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1e3", "64 MM", "1..5G", "12X", "٣", "1,5G", "inf", "nan"])
def test_what_is_no_size_is_refused_with_what_was_given(text: str) -> None:
    with pytest.raises(UsageError, match="is no size: expected") as caught:
        units.parse_size(text)

    assert repr(text) in caught.value.message


@given(st.integers(0, 2**62))
def test_a_size_that_was_formatted_is_read_back(size_bytes: int) -> None:
    assert units.parse_size(units.format_size(size_bytes)) == size_bytes
    assert units.parse_rate(units.format_rate(size_bytes)) == size_bytes


@pytest.mark.parametrize("size_bytes, text", [(64 * 1024**2, "64M"), (3 * 1024**3 // 2, "1.5G"), (1000, "1000")])
def test_sizes_are_formatted_as_short_as_they_can_be(size_bytes: int, text: str) -> None:
    assert units.format_size(size_bytes) == text


@pytest.mark.parametrize(
    "text, seconds", [("90", 90), ("1.5s", 1.5), ("2m", 120), ("500ms", 0.5), ("1h", 3600), ("1d", 86400), ("0", 0)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1 minute", "1m30s", "nan", "9" * 400])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration"):
        units.parse_duration(text)


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_duration_that_was_formatted_is_read_back(seconds: float) -> None:
    written = units.format_duration(seconds)
    if "e" not in written:
        assert units.parse_duration(written) == pytest.approx(seconds)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_cpu_list_that_was_formatted_is_read_back(numbers: set[int]) -> None:
    assert units.cpu_numbers(units.format_cpu_list(frozenset(numbers))) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1,,2", "0-99999999"])
def test_what_is_no_cpu_list_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no list of CPUs"):
        units.parse_cpu_list(text)
