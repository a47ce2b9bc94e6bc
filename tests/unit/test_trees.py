"""Trees are removed however deep they are, and nothing that their links lead to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.kernel.trees import remove_tree


def deep(folder: Path, levels: int) -> None:
    """Make folders in one another, each with a file."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_a_tree_of_thousands_of_levels_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / ".deeper-1").mkdir(parents=True)
    deep(top, 3000)
    deep(top / ".deeper-1", 300)
    remove_tree(top)
    assert not top.exists()


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "inner/link").symlink_to(tmp_path / "kept")
    remove_tree(top)
    assert not top.exists()
    assert (tmp_path / "kept/file").exists()


def test_what_is_not_there_or_a_link_is_an_error_unless_errors_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("none", "link"):
        with pytest.raises(OSError, match=name):
            remove_tree(tmp_path / name)
        remove_tree(tmp_path / name, ignore_errors=True)
    assert tmp_path.exists()
