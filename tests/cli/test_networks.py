"""`inn network`, and networks of `inn run`, as a user types them."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Inn

pytestmark = pytest.mark.timeout(60)


def test_networks_are_listed_and_shown(inn: Inn) -> None:
    names = inn("network", "ls", "-q").out.split()
    assert names
    assert names[0] in inn("network", "ls").out
    shown = json.loads(inn("network", "inspect", names[0]).out)
    assert shown["name"] == names[0]
    assert {each["name"] for each in inn("network", "ls", "--json").json} == set(names)
    assert len(inn("network", "create", "--subnet", "10.99.7.0/24", "--label", "a=b", "web").out.split()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["network", "create", "--subnet", "moon", "x"],
        ["network", "inspect", "moon"],
        ["network", "rm", "moon"],
        ["network"],
    ],
)
def test_what_makes_no_sense_is_one_line(inn: Inn, words: list[str]) -> None:
    done = inn(*words)
    assert done.code != 0
    assert "Traceback" not in done.err
