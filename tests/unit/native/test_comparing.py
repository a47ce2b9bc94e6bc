"""Stacks of layers compared as an overlay shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.native.comparing import differences
from tests.tools.needs import needs


def layer(folder: Path, name: str, **files: str) -> str:
    """Make a layer: names with "__" for "/"; contents "WHITEOUT", "OPAQUE" (a folder), or text."""
    top = folder / name
    top.mkdir()
    for key, content in files.items():
        path = top / key.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == "WHITEOUT":
            os.mknod(path, 0o600 | 0o020000, 0)
        elif content == "OPAQUE":
            path.mkdir(exist_ok=True)
            os.setxattr(path, "trusted.overlay.opaque", b"y")
        else:
            path.write_text(content)
    return str(top)


def told(before: list[str], after: list[str]) -> list[str]:
    """Return the differences as "A /path"."""
    return [f"{change.kind} {change.path}" for change in differences(before, after)]


def test_equal_stacks_do_not_differ(tmp_path: Path) -> None:
    base = layer(tmp_path, "base", a="1", d__b="2")
    assert told([base], [base]) == []
    assert told([layer(tmp_path, "empty"), base], [base]) == []


def test_added_changed_and_their_folders_are_told(tmp_path: Path) -> None:
    base = layer(tmp_path, "base", a="1", d__b="2", d__c="3")
    top = layer(tmp_path, "top", d__b="changed", d__new__x="4")
    assert told([base], [top, base]) == ["C /d", "C /d/b", "A /d/new", "A /d/new/x"]
    assert told([top, base], [base]) == ["C /d", "C /d/b", "D /d/new"]
    (change,) = (each for each in differences([base], [top, base]) if each.path == "/d/b")
    assert change.size_bytes == len("changed")


@needs("root")
def test_whiteouts_and_opaque_folders_hide_what_is_below(tmp_path: Path) -> None:
    base = layer(tmp_path, "base", a="1", d__b="2", d__c="3", e__f="4")
    gone = layer(tmp_path, "gone", a="WHITEOUT", d="OPAQUE", d__new="5", e="WHITEOUT")
    assert told([base], [gone, base]) == ["D /a", "C /d", "D /d/b", "D /d/c", "A /d/new", "D /e"]
    back = layer(tmp_path, "back", e__g="6", a="1")
    assert told([gone, base], [back, gone, base]) == ["A /a", "A /e", "A /e/g"]
    assert "D /e/f" in told([base], [back, gone, base])


@needs("root")
def test_a_file_in_the_place_of_a_folder_is_a_change(tmp_path: Path) -> None:
    base = layer(tmp_path, "base", d__b="2")
    top = layer(tmp_path, "top", d="file")
    assert told([base], [top, base]) == ["C /d"]
    assert told([top, base], [base]) == ["C /d", "A /d/b"]


def test_symlinks_in_layers_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    base = layer(tmp_path, "base", d__b="2")
    top = tmp_path / "top"
    top.mkdir()
    (top / "d").symlink_to(tmp_path / "outside")
    assert told([base], [str(top), base]) == ["C /d"]


@pytest.mark.parametrize("mode", [0o600, 0o755])
def test_a_mode_that_differs_is_a_change(tmp_path: Path, mode: int) -> None:
    base = layer(tmp_path, "base", a="1")
    top = layer(tmp_path, "top", a="1")
    found = os.stat(f"{base}/a")
    os.utime(f"{top}/a", ns=(found.st_atime_ns, found.st_mtime_ns))
    assert told([base], [top, base]) == []
    os.chmod(f"{top}/a", mode)
    assert told([base], [top, base]) == ["C /a"]
