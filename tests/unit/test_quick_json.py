"""JSON without `json`: the same texts, the same values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import quick_json
from backends.kernel.mountinfo import unescaped
from backends.kernel.number_list import numbers_of
from backends.oci import config as configs
from backends.oci.errors import ConfigInvalid

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_it_writes_and_reads_what_json_does(value: Any) -> None:
    assert quick_json.dumps(value) == json.dumps(value, separators=(",", ":"))
    assert quick_json.dumps(value, sort_keys=True) == json.dumps(value, separators=(",", ":"), sort_keys=True)
    assert quick_json.loads(json.dumps(value)) == value
    assert quick_json.dumps(value, "\t") == json.dumps(value, indent="\t")


@given(st.text())
def test_what_is_no_json_is_refused_by_both(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"(?s).+"):
            quick_json.loads(text)
    else:
        assert repr(quick_json.loads(text)) == repr(wanted)


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError, match="set is no JSON type"):
        quick_json.dumps({"a": {1}})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="Circular"):
        quick_json.dumps(endless)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": }', b"\xff", b"{} {}"])
def test_a_configuration_that_is_no_json_says_where(text: bytes) -> None:
    with pytest.raises(ConfigInvalid, match=r"column|codec|char"):
        configs.parse(text)


@pytest.mark.parametrize(
    "text, wanted",
    [("/a", "/a"), ("/a\\040b", "/a b"), ("\\134040", "\\040"), ("\\", "\\"), ("\\9x", "\\9x"), ("a\\01", "a\\01")],
)
def test_octal_escapes_of_mountinfo_are_undone(text: str, wanted: str) -> None:
    assert unescaped(text) == wanted


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1--2", "1-2-3", "2-1", "65537", "12345678", "\u0661"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|range|supported"):
        numbers_of(text)


@pytest.mark.parametrize("version", ["1.2", "1.2.x", "1..2", "1.2.3-", "1.2.3-a_b", "1.2.3.4", "-1.2.3", ""])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ConfigInvalid, match="ociVersion"):
        configs.check({"ociVersion": version, "process": {}, "root": {"path": "r"}})


@pytest.mark.parametrize("version", ["1.0.2", "1.2.0-rc.1", "1.1.0+dev", "1.0.0-rc5-dev"])
def test_a_version_may_say_more_than_its_numbers(version: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^process"):
        configs.check({"ociVersion": version, "process": {}, "root": {"path": "r"}})
