"""Maps of user namespaces and the ranges lent for them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import InnkeeperError, UsageError
from backends.kernel.userns import Range, all_subordinates, subordinates
from backends.native import userns
from backends.native.userns import Caller, Leases, auto_maps, keep_maps, maps_for, plain_maps

ROOT, PLAIN = Caller(0, 0, "root"), Caller(1000, 100, "anna")


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files in the place of /etc/subuid and /etc/subgid."""
    for name in ("SUBUID", "SUBGID"):
        path = tmp_path / name
        path.write_text("anna:100000:65536\nberta:524288:65536\n")
        monkeypatch.setattr(userns, name, str(path))
    return tmp_path


def test_auto_maps_nobody_of_the_host() -> None:
    maps = auto_maps(Range(700000, 65536))
    assert maps.uids == maps.gids == [{"containerID": 0, "hostID": 700000, "size": 65536}]


def test_keep_maps_the_caller_to_himself_and_the_rest_around_him() -> None:
    assert keep_maps(PLAIN, Range(700000, 65536)).uids == [
        {"containerID": 0, "hostID": 700000, "size": 1000},
        {"containerID": 1000, "hostID": 1000, "size": 1},
        {"containerID": 1001, "hostID": 701000, "size": 64536},
    ]


def test_keep_is_not_for_root() -> None:
    with pytest.raises(UsageError, match="--userns keep is for plain users"):
        keep_maps(ROOT, Range(700000, 65536))


def test_a_plain_users_root_is_himself() -> None:
    maps = plain_maps(PLAIN, [Range(100000, 10)], [])
    assert maps.uids == [
        {"containerID": 0, "hostID": 1000, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 10},
    ]
    assert maps.gids == [{"containerID": 0, "hostID": 100, "size": 1}]


@given(st.integers(1, 2**31), st.integers(0, 2**31), st.integers(1, 2**20))
def test_no_map_of_keep_overlaps(own: int, first: int, count: int) -> None:
    entries = keep_maps(Caller(own, own), Range(first + 2**31, count)).uids
    ends = 0
    for entry in sorted(entries, key=lambda entry: entry["containerID"]):
        assert entry["containerID"] >= ends
        ends = entry["containerID"] + entry["size"]
    assert sum(entry["size"] for entry in entries) == count + 1


def test_ranges_never_overlap_and_come_back(tmp_path: Path, tables: Path) -> None:
    leases = Leases(tmp_path, ROOT)
    taken = [leases.take(f"c{number}") for number in range(5)]
    assert taken[1] == leases.take("c1"), "the same container has the same range"
    firsts = sorted(lease.first for lease in taken)
    assert all(after - before >= userns.SIZE for before, after in itertools.pairwise(firsts))
    assert firsts[0] >= 524288 + 65536, "clear of berta's"
    leases.release("c1")
    assert leases.take("new") == taken[1]


def test_what_belongs_to_no_container_is_given_back(tmp_path: Path, tables: Path) -> None:
    leases = Leases(tmp_path, ROOT)
    leases.take("a")
    leases.take("b")
    leases.keep_only({"b"})
    assert set(leases.all()) == {"b"}


def test_roots_containers_use_what_the_files_set_aside_for_them(tmp_path: Path, tables: Path) -> None:
    for name in ("SUBUID", "SUBGID"):
        (tables / name).write_text("containers:2000000:131072\n")
    leases = Leases(tmp_path, ROOT)
    assert leases.take("a") == Range(2000000, 65536)
    assert leases.take("b") == Range(2065536, 65536)
    with pytest.raises(InnkeeperError, match="no range of 65536 subordinate ids is left"):
        leases.take("c")


def test_a_plain_users_ranges_come_from_his_own_for_several_containers(tmp_path: Path, tables: Path) -> None:
    leases = Leases(tmp_path, PLAIN)
    taken = [leases.take(f"c{number}") for number in range(16)]
    assert taken[0] == Range(100000, 4096)
    assert taken[15].first + taken[15].count == 165536
    with pytest.raises(InnkeeperError):
        leases.take("c16")


def test_only_ids_that_are_both_users_and_groups_are_lent(tmp_path: Path, tables: Path) -> None:
    (tables / "SUBGID").write_text("anna:100000:2048\n")
    assert Leases(tmp_path, PLAIN).pool() == [Range(100000, 2048)]


def test_root_without_a_user_namespace_takes_no_range(tmp_path: Path, tables: Path) -> None:
    leases = Leases(tmp_path, ROOT)
    assert maps_for("host", ROOT, leases, "a") is None
    maps = maps_for("host", PLAIN, leases, "a")
    assert maps is not None
    assert maps.uids[0] == {"containerID": 0, "hostID": 1000, "size": 1}
    assert leases.all() == {}


@pytest.mark.parametrize(
    "line", ["", "#", "anna", "anna:x:1", "anna:1", "anna:5:0", "anna:4294967295:5", ":1:1", "a:b:c:d"]
)
def test_lines_that_say_nothing_are_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"{line}\n1000:5:10\n")
    assert all_subordinates(str(path)) == [("1000", Range(5, 10))]
    assert subordinates(str(path), "anna", 1000) == [Range(5, 10)]
    assert subordinates(str(tmp_path / "none"), "anna", 1000) == []
