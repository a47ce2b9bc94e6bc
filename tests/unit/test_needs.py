"""A skip of what a run must have is a failure."""

from __future__ import annotations

import pytest

from tests.tools import needs


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INNKEEPER_EXPECT", raising=False)
    monkeypatch.delenv("CI", raising=False)


class Item:
    """What pytest_runtest_setup asks of a test."""

    def __init__(self, *marks: pytest.MarkDecorator) -> None:
        self._marks = [mark.mark for mark in marks]

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [mark for mark in self._marks if mark.name == name]


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without any moonbeam."""
    monkeypatch.setitem(needs._CHECKS, "moonbeam", lambda rest: f"no {rest or 'moon'}" if rest != "there" else "")
    needs.why_missing.cache_clear()


def run_setup(*facilities: str) -> None:
    needs.pytest_runtest_setup(Item(needs.needs(*facilities)))  # type: ignore[arg-type]


@pytest.mark.usefixtures("lacking")
def test_what_is_missing_skips_with_its_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"needs moonbeam\.blue: no blue"):
        run_setup("moonbeam.there", "moonbeam.blue")


@pytest.mark.usefixtures("lacking")
@pytest.mark.parametrize("expected", ["moonbeam", "moonbeam.blue", "tmux, moonbeam.blue"])
def test_what_is_missing_but_expected_fails(expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNKEEPER_EXPECT", expected)

    with pytest.raises(pytest.fail.Exception, match=r"must have moonbeam\.blue: no blue"):
        run_setup("moonbeam.blue")


@pytest.mark.usefixtures("lacking")
def test_what_is_there_runs() -> None:
    run_setup("moonbeam.there")


def test_a_facility_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        run_setup("unicorn")


def test_in_ci_the_common_facilities_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not needs.is_expected("root")
    monkeypatch.setenv("CI", "true")

    assert needs.is_expected("root")
    assert needs.is_expected("cgroup.memory")
    assert not needs.is_expected("cgroup2.memory")


def test_what_a_lane_expects_wins_over_the_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("INNKEEPER_EXPECT", "cgroup2")

    assert needs.is_expected("cgroup2.memory")
    assert not needs.is_expected("cgroup.memory")
    assert not needs.is_expected("root")
