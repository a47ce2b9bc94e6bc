"""`inn volume`, and named volumes of `inn run`, as a user types them."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Inn

pytestmark = pytest.mark.timeout(60)


def test_volumes_are_listed_and_shown(inn: Inn) -> None:
    names = inn("volume", "ls", "-q").out.split()

    table = inn("volume", "ls").out
    assert all(name in table for name in names)
    assert "SIZE" not in table
    assert "SIZE" in inn("volume", "ls", "--size").out
    assert [each["name"] for each in inn("volume", "ls", "--json").json] == names
    shown = inn("volume", "inspect", names[0]).json
    assert shown["size_bytes"] is None
    assert {"name", "places", "live"} == set(shown["guests"][0])
    assert inn("volume", "inspect", "--size", names[0]).json["size_bytes"] > 0
    assert len(inn("volume", "inspect", *names[:2]).json) == 2


def test_volumes_are_filtered(inn: Inn) -> None:
    unused = inn("volume", "ls", "-q", "-f", "dangling=true").out.split()
    used = inn("volume", "ls", "-q", "-f", "dangling=false").out.split()

    assert unused == ["old-backups"]
    assert sorted(used + unused) == inn("volume", "ls", "-q").out.split()
    assert inn("volume", "ls", "-q", "-f", "label=kind=backup", "-f", "name=back").out.split() == unused
    assert inn("volume", "ls", "-q", "-f", "label=kind=moon").out == ""


def test_a_volume_is_made_pruned_and_removed(inn: Inn) -> None:
    assert inn("volume", "create", "--label", "a=b", "shop").out == "shop\n"
    assert inn("volume", "create").out.strip()
    assert inn("volume", "prune", "--dry-run").out == "old-backups\n"
    assert inn("volume", "prune", "-f").out == "old-backups\n"
    assert inn("volume", "rm", "old-backups").out == "old-backups\n"
    assert (inn("volume", "rm", "-f", "moon").code, inn("volume", "rm", "-f", "moon").err) == (0, "")


@pytest.mark.parametrize(
    "answer, gone", [(b"y\n", "old-backups\n"), (b"yes", "old-backups\n"), (b"n\n", ""), (b"", "")]
)
def test_pruning_volumes_asks_first_and_names_them(inn: Inn, answer: bytes, gone: str) -> None:
    done = inn("volume", "prune", stdin=answer)

    assert "Remove, with their files: old-backups? [y/N]" in done.err
    assert (done.out, done.code) == (gone, 0 if gone else 1)


@pytest.mark.parametrize(
    "words, said",
    [
        (["volume", "inspect", "moon"], "there is no volume"),
        (["volume", "rm", "moon"], "there is no volume"),
        (["volume", "rm", "data"], "use it"),
        (["volume", "create", "data"], "already a volume"),
        (["volume", "create", "a/b"], "no name of a volume"),
        (["volume", "ls", "-f", "moon=1"], "makes no sense"),
        (["volume"], "required"),
    ],
)
def test_what_makes_no_sense_is_one_line(inn: Inn, words: list[str], said: str) -> None:
    done = inn(*words)

    assert done.code != 0
    assert said in done.err
    assert "Traceback" not in done.err


def test_names_of_volumes_complete(inn: Inn) -> None:
    assert "data\t" in inn("__complete", "--", "volume", "rm", "da").out
    assert "data:/\t" in inn("__complete", "--", "run", "-v", "da").out
