"""`inn network`, and networks of `inn run`, as a user types them."""

from __future__ import annotations

import json
import time

import pytest

from app.cli.network_filters import listed, pruned
from backends.network import Network, NetworkMember
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


NETWORKS = (
    Network("bridge", "bridge", is_default=True, members=(NetworkMember("shop-1"),)),
    Network("web", "a1", created_s=time.time() - 7200, labels={"a": "b"}),
    Network("db", "b2", created_s=time.time(), labels={"a": "", "c": ""}),
    Network("plain", "c3", created_s=time.time() - 7200, members=(NetworkMember("shop-1"),)),
    Network("host", "host", "host", is_default=True),
)


@pytest.mark.parametrize(
    "filters, names",
    [
        ((), "bridge web db plain host"),
        (("type=custom",), "web db plain"),
        (("type=builtin",), "bridge host"),
        (("label=a",), "web db"),
        (("label=a", "label=c"), "db"),
        (("label=a=b",), "web"),
        (("name=we", "name=pla"), "web plain"),
        (("name=web", "type=builtin"), ""),
        (("dangling=true",), "web db"),
        (("dangling=false", "driver=bridge"), "bridge plain"),
        (("id=b2",), "db"),
        (("scope=local", "driver=host"), "host"),
    ],
)
def test_the_list_is_filtered_as_docker_does(filters: tuple[str, ...], names: str) -> None:
    assert [each.name for each in NETWORKS if listed(filters)(each)] == names.split()


@pytest.mark.parametrize(
    "filters, names",
    [
        (("label=a",), "web db"),
        (("label=a", "label!=c"), "web"),
        (("until=1h",), "web plain"),
        (("until=1h", "label!=a"), "plain"),
        (("until=2001-01-01",), ""),
    ],
)
def test_prune_has_filters_of_its_own_which_all_hold(filters: tuple[str, ...], names: str) -> None:
    made = [each for each in NETWORKS if not each.is_default]
    assert [each.name for each in made if pruned(filters)(each)] == names.split()


def test_networks_are_shown_by_filter_and_as_one_object_a_line(inn: Inn) -> None:
    names = inn("network", "list", "-q", "-f", "type=custom").out.split()
    assert set(names) < set(inn("network", "ls", "-q").out.split())
    lines = inn("network", "ls", "--format", "json", "-f", f"name={names[0]}").json_lines
    assert [each["name"] for each in lines] == names[:1]
    assert {each["name"] for each in inn("network", "ls", "--json", "--filter", "driver=host").json} == {"host"}


def test_removing_with_force_takes_one_that_is_not_there_for_removed(inn: Inn) -> None:
    assert inn("network", "rm", "-f", "moon").code == 0
    assert inn("network", "prune", "-f", "--filter", "label=moon").out == ""
    busy = inn("network", "remove", "-f", "moon", inn("network", "ls", "-q", "-f", "dangling=false").out.split()[0])
    assert busy.code != 0
    assert busy.out == ""


@pytest.mark.parametrize(
    "words",
    [
        ["network", "create", "--subnet", "moon", "x"],
        ["network", "inspect", "moon"],
        ["network", "rm", "moon"],
        ["network"],
        ["network", "ls", "-f", "moon=1"],
        ["network", "prune", "--filter", "name=web"],
    ],
)
def test_what_makes_no_sense_is_one_line(inn: Inn, words: list[str]) -> None:
    done = inn(*words)
    assert done.code != 0
    assert "Traceback" not in done.err
