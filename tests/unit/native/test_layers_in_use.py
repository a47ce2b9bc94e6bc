"""Which layers a collection of garbage has to leave alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.errors import Damaged
from backends.native.layers_in_use import layers_in_use


def write(path: Path, content: object) -> None:
    """Write a file of JSON with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_an_empty_state_folder_needs_no_layers(tmp_path: Path) -> None:
    assert layers_in_use(tmp_path) == set()


def test_containers_their_snapshots_templates_and_changes_cut_short_need_theirs(tmp_path: Path) -> None:
    container = tmp_path / "containers" / "1"
    write(container / "container.json", {"layers": ["/l/a", "/l/base"], "snapshot": "one"})
    write(container / "snapshots" / "one" / "snapshot.json", {"layers": ["/l/b", "/l/base"]})
    write(container / "snapshots" / "old" / "snapshot.json", {"parent": None})
    write(container / "pending.json", {"record": {"layers": ["/l/c"]}, "taken": {"layers": ["/l/d"]}})
    write(tmp_path / "containers" / ".2" / "container.json", {"layers": ["/l/e"]})
    write(tmp_path / "templates" / "t" / "template.json", {"layers": ["/l/f"]})

    assert layers_in_use(tmp_path) == {f"/l/{name}" for name in ("a", "b", "c", "d", "e", "f", "base")}


@pytest.mark.parametrize("content", ["{", "[]", '{"layers": 3}'])
def test_a_list_that_cannot_be_read_is_an_error_and_not_an_empty_one(tmp_path: Path, content: str) -> None:
    write(tmp_path / "containers" / "1" / "container.json", content)

    with pytest.raises(Damaged, match=r"container\.json"):
        layers_in_use(tmp_path)
