"""The packets to and from CRIU."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.oci.criu_rpc import decode, encode

_NUMBERS = st.integers(1, 100)
_VALUES = st.one_of(st.integers(0, 2**63), st.binary(max_size=300))


def test_a_request_is_as_the_format_has_it() -> None:
    assert encode([(1, 1), (2, [(2, 300), (13, "/r")])]) == bytes.fromhex("08011207") + b"\x10\xac\x02\x6a\x02/r"


@given(st.lists(st.tuples(_NUMBERS, _VALUES), max_size=8))
def test_what_is_written_can_be_read(fields: list[tuple[int, int | bytes]]) -> None:
    expected: dict[int, list[int | bytes]] = {}
    for number, value in fields:
        expected.setdefault(number, []).append(value)
    assert decode(encode(fields)) == expected


@given(st.binary(max_size=60))
def test_no_other_error_than_that_one_comes_of_any_bytes(data: bytes) -> None:
    with suppress(ValueError):
        decode(data)


@pytest.mark.parametrize(
    "data, said",
    [
        (b"\x08", "a number without an end"),
        (b"\x08" + b"\xff" * 11, "a number without an end"),
        (b"\x12\x05ab", "ends behind its message"),
        (b"\x0d\x00\x00\x00\x00", "a field of type 5"),
    ],
)
def test_what_is_cut_off_or_of_another_kind_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode(data)
