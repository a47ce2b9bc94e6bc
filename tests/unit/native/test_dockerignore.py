"""`.dockerignore`: what it hides, and that nonsense in it neither hangs nor hides by mistake."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import UsageError
from backends.native.build.ignore import Ignore, _pattern, _slowly


@pytest.mark.parametrize(
    "file, hidden, seen",
    [
        ("*.log", ["a.log"], ["b/a.log", "a.logs"]),
        ("**/*.log", ["a.log", "b/c/a.log"], ["log"]),
        ("node_modules", ["node_modules", "node_modules/x/y"], ["a/node_modules"]),
        ("/a/b/", ["a/b", "a/b/c"], ["a", "b"]),
        ("# no\n\n  x  \n", ["x"], ["# no"]),
        ("*\n!keep\n!dir/**/in", ["a", "dir", "dir/x"], ["keep", "keep/all", "dir/in", "dir/x/in"]),
        ("!a\na", ["a"], []),
        ("a\n!a/b\na/b/c", ["a", "a/b/c"], ["a/b", "a/b/d"]),
        ("a?c\n[xy]z\n[^0-9]", ["abc", "xz", "q"], ["0", "az", "0/b"]),
        ("foo**bar", ["foobar", "foo/x/bar"], ["foo"]),
        ("./a/../b", ["b"], ["a"]),
        ("\\*", ["*"], ["a"]),
        ("**", ["a", "a/b"], []),
    ],
)
def test_patterns_hide_what_they_name(file: str, hidden: list[str], seen: list[str]) -> None:
    ignore = Ignore.parse(file.encode())
    assert [path for path in hidden if not ignore.ignores(path)] == []
    assert [path for path in seen if ignore.ignores(path)] == []


@pytest.mark.parametrize("file", ["[", "a\n[a", "x\\", "!", "[z-a]"])
def test_nonsense_is_refused_with_its_line(file: str) -> None:
    with pytest.raises(UsageError, match="line"):
        Ignore.parse(file.encode())


def test_a_pattern_of_many_stars_takes_no_longer_than_its_path() -> None:
    ignore = Ignore.parse(("*a" * 200 + "b").encode())
    assert not ignore.ignores("a" * 1000)


@given(st.text("ab/*?.", max_size=12), st.text("ab/.", max_size=12))
@settings(max_examples=300, deadline=None)
def test_both_matchers_agree(text: str, path: str) -> None:
    pattern = _pattern("x" + text) if "**" not in text else None
    if pattern is not None and pattern.expression is not None:
        assert (pattern.expression.fullmatch(path) is not None) == _slowly(pattern.tokens, path)
