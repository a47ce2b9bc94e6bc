"""Docker's rules for what a copy makes of files, folders and links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core import copying
from backends.errors import InnkeeperError, NotFound, UsageError
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(60)]
R = Recorder("test")


class Web:
    """A container that sleeps, and the host beside it."""

    def __init__(self, native: NativeBackend, guest: Guest, output_of: Callable[[Guest, str], str]) -> None:
        self.native, self.guest, self._output_of = native, guest, output_of

    def inside(self, line: str) -> str:
        return self._output_of(self.guest, line)

    def into(self, source: str | Path, path: str, **options: bool) -> None:
        copying.into_guest(self.native, self.guest.ref, R, str(source), path, **options)

    def out(self, path: str, target: str | Path, **options: bool) -> None:
        copying.out_of_guest(self.native, self.guest.ref, path, str(target), **options)


@pytest.fixture
def web(native: NativeBackend, run: Callable[..., Guest], output_of: Callable[[Guest, str], str]) -> Web:
    return Web(native, run("sleep", "1000", network="none"), output_of)


def test_a_file_goes_in_under_its_own_or_another_name(web: Web, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text("content")
    for target in ("/root", "/root/other", "/root/other", "root/third"):
        web.into(source, target)
    assert web.inside("cat /root/file /root/other /root/third") == "content" * 3
    for target in ("/no/such/place", "/root/new/", "/root/other/below"):
        with pytest.raises(NotFound):
            web.into(source, target)
    with pytest.raises(NotFound):
        web.into(tmp_path / "nosuch", "/root")


def test_a_folder_goes_in_by_dockers_rules(web: Web, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "file").write_text("x")
    for source, target, place in (
        (str(tree), "/root", "/root/tree/below/file"),
        (str(tree), "/root/new", "/root/new/below/file"),
        (str(tree), "/root/new", "/root/new/tree/below/file"),
        (f"{tree}/", "/root/slash", "/root/slash/below/file"),
        (f"{tree}/.", "/root", "/root/below/file"),
        (f"{tree}/.", "/root/fresh", "/root/fresh/below/file"),
    ):
        web.into(source, target)
        assert web.inside(f"cat {place}") == "x"
    web.inside("touch /root/file")
    with pytest.raises(UsageError, match="is a file"):
        web.into(tree, "/root/file")
    web.inside("rm /root/file; mkdir /root/file")
    with pytest.raises(InnkeeperError, match="in the place of the folder"):
        web.into(tree / "below" / "file", "/root")


def test_what_the_target_links_to_is_written(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    web.inside("mkdir /root/d; echo old > /root/d/real; ln -s d/real /root/link; ln -s d /root/dir")
    web.into(tmp_path / "file", "/root/link")
    web.into(tmp_path / "file", "/root/dir")
    assert web.inside("cat /root/d/real /root/d/file; readlink /root/link") == "newnewd/real\n"


def test_a_link_goes_in_as_a_link_or_as_what_it_leads_to(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    web.into(tmp_path / "link", "/root/plain")
    web.into(tmp_path / "link", "/root/followed", follow=True)
    assert web.inside("readlink /root/plain; cat /root/followed") == "file\nx"


def test_files_and_folders_come_out_by_the_same_rules(web: Web, tmp_path: Path) -> None:
    web.inside("mkdir -p /root/t/below; echo x > /root/t/below/file; ln -s file /root/t/below/link; chown 7 /root/t/*")
    (tmp_path / "there").mkdir()
    web.out("/root/t", tmp_path / "there")
    web.out("/root/t", tmp_path / "new")
    web.out("/root/t/.", tmp_path / "there")
    web.out("/root/t/below/file", tmp_path / "name")
    web.out("/root/t/below/link", tmp_path / "followed", follow=True)
    web.out("/root/t/below/link", tmp_path / "link")
    web.out("/root/t", tmp_path / "owned", keeps_owner=True)
    for place in ("there/t/below/file", "new/below/file", "there/below/file", "name", "followed"):
        assert (tmp_path / place).read_text() == "x\n"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new" / "below").stat().st_uid == os.geteuid()
    assert (tmp_path / "owned" / "below").stat().st_uid == 7
    with pytest.raises(NotFound):
        web.out("/root/nosuch", tmp_path)
    with pytest.raises(NotFound):
        web.out("/root/t/below/file", f"{tmp_path}/absent/")
    with pytest.raises(UsageError):
        web.out("/root/t", tmp_path / "name")


def test_what_comes_out_is_not_written_through_links_that_are_there(web: Web, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "there" / "t").mkdir(parents=True)
    (tmp_path / "there" / "t" / "below").symlink_to(outside)
    web.inside("mkdir -p /root/t/below; echo x > /root/t/below/file")
    with pytest.raises(InnkeeperError):
        web.out("/root/t", tmp_path / "there")
    assert list(outside.iterdir()) == []
