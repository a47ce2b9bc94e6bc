"""Layers become folders exactly as the specification of images says, on top of those below."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import InnkeeperError
from backends.native.layers.store import Layers
from backends.trace import Recorder
from tests.tools.needs import needs

pytestmark = [needs("root", "overlay"), pytest.mark.timeout(60)]
TAR = "application/vnd.oci.image.layer.v1.tar"
R = Recorder("test")
Add = Callable[..., str]


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry with any fields."""
    made = tarfile.TarInfo(name)
    made.size, made.mode = len(data), 0o644
    for key, value in fields.items():
        setattr(made, key, value)
    return made, data


def folder(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, **({"mode": 0o755, "type": tarfile.DIRTYPE} | fields))  # type: ignore[arg-type]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=target)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


@pytest.fixture
def add(layers: Layers) -> Add:
    """Make a layer of entries, on top of another one; returns its chain id."""

    def make(*entries: tuple[tarfile.TarInfo, bytes], below: str = "") -> str:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for member, data in entries:
                archive.addfile(member, io.BytesIO(data) if data else None)
        diff_id = "sha256:" + hashlib.sha256(buffer.getvalue()).hexdigest()
        return layers.add(diff_id, below, io.BytesIO(buffer.getvalue()), TAR, R)

    return make


@pytest.fixture
def merged(layers: Layers, tmp_path: Path) -> Callable[[str], list[str]]:
    """List all paths that a container of a layer sees, from a mount namespace that is gone afterwards."""

    def paths(chain_id: str) -> list[str]:
        stack = layers.stack(chain_id)
        (tmp_path / "empty").mkdir(exist_ok=True)
        lower = ":".join(stack if len(stack) > 1 else [*stack, str(tmp_path / "empty")])
        line = f"mount -t overlay overlay -o lowerdir={lower} /mnt && cd /mnt && find . -mindepth 1 | sort"
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", line], capture_output=True, text=True, check=True
        )
        return [path[2:] for path in done.stdout.split()]

    return paths


def test_whiteouts_take_away_what_is_below_wherever_they_stand(add: Add, merged: Callable[[str], list[str]]) -> None:
    base = add(folder("d"), entry("d/a", b"a"), entry("d/b", b"b"), entry("c", b"c"), folder("e"), entry("e/f", b"f"))
    top = add(entry("d/.wh.a"), folder("d"), entry(".wh.c"), entry(".wh.e"), entry("new", b"n"), below=base)

    assert merged(top) == ["d", "d/b", "new"]


def test_an_opaque_folder_hides_what_is_below_and_not_what_comes_with_it(
    add: Add, merged: Callable[[str], list[str]]
) -> None:
    base = add(folder("d"), entry("d/a", b"a"), folder("d/deep"), entry("d/deep/b", b"b"))
    after = add(folder("d"), entry("d/new", b"n"), entry("d/.wh..wh..opq"), below=base)
    before = add(entry("d/.wh..wh..opq"), folder("d"), entry("d/other", b"n"), below=base)

    assert merged(after) == ["d", "d/new"]
    assert merged(before) == ["d", "d/other"]


def test_what_is_taken_away_and_made_anew_in_one_layer_is_new(add: Add, merged: Callable[[str], list[str]]) -> None:
    base = add(folder("d"), entry("d/old", b"o"), entry("f", b"f"))
    top = add(entry(".wh.d"), folder("d"), entry("d/new", b"n"), entry(".wh.f"), entry("f", b"g"), below=base)

    assert merged(top) == ["d", "d/new", "f"]


def test_files_folders_and_links_replace_one_another(
    add: Add, merged: Callable[[str], list[str]], layers: Layers
) -> None:
    base = add(entry("file", b"f"), folder("folder"), entry("folder/inner", b"i"), link("link", "folder"))
    top = add(folder("file"), entry("file/now", b"n"), entry("folder", b"f"), folder("link"), below=base)

    assert merged(top) == ["file", "file/now", "folder", "link"]


def test_what_comes_twice_is_the_later_one_and_nothing_is_written_through_a_link(add: Add, layers: Layers) -> None:
    made = add(entry("a", b"first"), entry("b", b"whole"), link("a", "b"), entry("a", b"second"))

    assert (layers.folder(made) / "a").read_text() == "second"
    assert (layers.folder(made) / "b").read_text() == "whole"


def test_a_hard_link_to_a_file_of_a_lower_layer_is_one_file_with_two_names(add: Add, layers: Layers) -> None:
    base = add(folder("etc", mode=0o750, uid=5), entry("etc/a", b"content", mode=0o640, uid=7, gid=8, mtime=1000))
    middle = add(entry("other", b"o"), below=base)
    top = add(link("b", "etc/a", tarfile.LNKTYPE), below=middle)

    here = layers.folder(top)
    found = (here / "b").stat()
    assert (here / "b").read_text() == "content"
    assert found.st_ino == (here / "etc/a").stat().st_ino
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o640, 7, 8, 1000)
    assert ((here / "etc").stat().st_mode & 0o7777, (here / "etc").stat().st_uid) == (0o750, 5)


@pytest.mark.parametrize("target", ["gone", "/etc/passwd", "../../etc/passwd", "out/passwd"])
def test_a_hard_link_to_what_no_layer_has_is_refused_and_leaves_nothing(
    add: Add, layers: Layers, tmp_path: Path, target: str
) -> None:
    base = add(link("out", "/etc"), entry("gone", b"x"))
    middle = add(entry(".wh.gone"), below=base)
    with pytest.raises(InnkeeperError, match="cannot unpack"):
        add(link("b", target, tarfile.LNKTYPE), below=middle)
    assert layers.all() == [base, middle] or layers.all() == [middle, base]
    assert not list((tmp_path / "layers").glob(".*"))


def test_folders_that_a_layer_does_not_name_are_as_below_or_roots(add: Add, layers: Layers) -> None:
    base = add(folder("srv", mode=0o700, uid=9))
    top = add(entry("srv/x/y", b"y"), below=base)

    assert ((layers.folder(top) / "srv").stat().st_mode & 0o7777, (layers.folder(top) / "srv").stat().st_uid) == (
        0o700,
        9,
    )
    assert (layers.folder(top) / "srv/x").stat().st_mode & 0o7777 == 0o755


def test_owners_modes_times_and_attributes_are_kept(add: Add, layers: Layers) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    pax = {
        "mtime": "1234567890.123456789",
        "SCHILY.xattr.user.note": "n",
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
    }
    made = add(
        entry("p", b"x", mode=0o4755, uid=3_000_000, gid=12, pax_headers=pax),
        entry("fifo", type=tarfile.FIFOTYPE), entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )  # fmt: skip

    path = layers.folder(made) / "p"
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o4755, 3_000_000, 12)
    assert found.st_mtime_ns == 1234567890_123456789
    assert os.getxattr(path, "security.capability") == capability
    assert set(os.listxattr(path)) <= {"user.note", "security.capability"}
    assert stat.S_ISFIFO((layers.folder(made) / "fifo").stat().st_mode)
    assert (layers.folder(made) / "null").stat().st_rdev == os.makedev(1, 3)


def test_a_layer_with_another_digest_or_cut_short_leaves_nothing(layers: Layers, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member, data = entry("a", b"x" * 5000)
        archive.addfile(member, io.BytesIO(data))
    for content in (buffer.getvalue(), buffer.getvalue()[:3000]):
        with pytest.raises(InnkeeperError):
            layers.add("sha256:" + "0" * 64, "", io.BytesIO(content), TAR, R)
    assert layers.all() == []
    assert os.listdir(tmp_path / "layers") == []


def test_a_file_larger_than_the_disk_is_refused_before_it_fills_it(layers: Layers) -> None:
    header = tarfile.TarInfo("bomb")
    header.size = 1 << 50
    with pytest.raises(InnkeeperError, match="space"):
        layers.add("sha256:" + "0" * 64, "", io.BytesIO(header.tobuf() + b"x" * 100_000), TAR, R)


def test_files_in_a_folder_that_is_a_link_below_go_where_it_leads(
    add: Add, merged: Callable[[str], list[str]], layers: Layers
) -> None:
    base = add(folder("usr"), folder("usr/bin"), link("bin", "usr/bin"), link("abs", "/usr"), link("out", "../../usr"))
    top = add(entry("bin/a", b"a"), entry("abs/bin/b", b"b"), entry("out/c", b"c"), below=base)

    assert merged(top) == ["abs", "bin", "out", "usr", "usr/bin", "usr/bin/a", "usr/bin/b", "usr/c"]
    assert sorted(os.listdir(layers.folder(top))) == ["usr"]


def test_a_file_in_a_folder_that_a_middle_layer_took_away_cannot_be_linked_to(add: Add) -> None:
    base = add(folder("d"), entry("d/f", b"f"))
    middle = add(entry(".wh.d"), below=base)
    with pytest.raises(InnkeeperError, match="cannot be linked to"):
        add(link("b", "d/f", tarfile.LNKTYPE), below=middle)


def test_a_folder_taken_away_and_named_by_a_file_in_it_is_new_before_and_after(
    add: Add, merged: Callable[[str], list[str]]
) -> None:
    base = add(folder("d"), entry("d/old", b"o"), folder("d/e"), entry("d/e/old", b"o"))
    before = add(entry(".wh.d"), entry("d/e/new", b"n"), below=base)
    after = add(entry("d/e/new", b"n"), entry(".wh.d"), below=base)

    assert merged(before) == merged(after) == ["d", "d/e", "d/e/new"]


def test_a_whiteout_through_a_link_takes_nothing_away_outside(
    add: Add, merged: Callable[[str], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("k")
    base = add(link("out", str(tmp_path / "outside")), folder("d"), entry("d/f", b"f"), link("in", "d"))
    top = add(entry("out/.wh.kept"), entry("out/.wh..wh..opq"), entry("in/.wh.f"), below=base)

    assert (tmp_path / "outside" / "kept").read_text() == "k"
    assert merged(top) == ["d", "in", "out"]


def test_what_the_root_folder_is_below_it_stays_where_a_layer_does_not_say(add: Add, layers: Layers) -> None:
    base = add(folder(".", mode=0o711, uid=3, mtime=5000), entry("a", b"a"))
    top = add(entry("b", b"b"), below=base)

    for made in (base, top):
        found = layers.folder(made).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime) == (0o711, 3, 5000)


def test_folders_that_only_lead_to_what_is_new_keep_their_times(add: Add, layers: Layers) -> None:
    base = add(folder("d", mtime=5000), entry("d/old", b"o"))
    top = add(entry("d/new", b"n"), entry("d/.wh.old"), below=base)

    assert (layers.folder(top) / "d").stat().st_mtime == 5000


@pytest.mark.parametrize("form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"])
def test_sparse_files_stay_sparse(layers: Layers, tmp_path: Path, form: str) -> None:
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "sparse").open("wb") as file:
        for position in range(0, 60 << 20, 1 << 20):
            file.seek(position)
            file.write(b"x" * 5000)
        file.truncate(64 << 20)
    line = ["tar", "--sparse", *f"--format={form}".split(), "-C", str(tmp_path / "in"), "-c", "."]
    data = subprocess.run(line, capture_output=True, check=True).stdout
    made = layers.add("sha256:" + hashlib.sha256(data).hexdigest(), "", io.BytesIO(data), TAR, R)

    path = layers.folder(made) / "sparse"
    assert path.stat().st_blocks * 512 < 2 << 20
    assert path.read_bytes() == (tmp_path / "in" / "sparse").read_bytes()


def test_folders_deeper_than_can_be_removed_again_are_refused_and_leave_nothing(
    add: Add, layers: Layers, tmp_path: Path
) -> None:
    made = add(entry("/".join("d" * 256), b"x"))
    with pytest.raises(InnkeeperError, match="256 folders"):
        add(entry("/".join("d" * 995), b"x"))
    layers.remove(made)

    assert os.listdir(tmp_path / "layers") == []


def test_a_plain_users_layer_is_unpacked_on_top_of_those_below_too(add: Add, layers: Layers, tmp_path: Path) -> None:
    base = add(folder("usr"), folder("usr/bin"), link("bin", "usr/bin"), folder("d"), entry("d/x", b"x"))
    line = f"""import io, sys
from backends.native.layers import unpacking
unpacking.rootless.is_inside = lambda: True
from pathlib import Path
unpacking.unpack_tar(io.BytesIO(sys.stdin.buffer.read()), Path({str(tmp_path / "draft")!r}), {layers.stack(base)!r})
"""
    (tmp_path / "draft/fs").mkdir(parents=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in (entry("bin/a", b"a"), link("y", "d/x", tarfile.LNKTYPE), entry("d/.wh.x")):
            archive.addfile(member, io.BytesIO(data) if data else None)
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", line]
    done = subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
    here = tmp_path / "draft/fs"
    assert sorted(os.listdir(here)) == ["d", "usr", "y"]
    assert (here / "y").read_text() == "x"
    assert (here / "usr/bin/a").read_text() == "a"
    assert (here / "d/x").lstat().st_rdev == 0
    assert not (here / "d/x").is_file()


@pytest.mark.parametrize("name", [".wh.a", "d/.wh..wh..opq", "a"])
def test_an_entry_that_claims_to_be_endless_is_refused_at_once(layers: Layers, tmp_path: Path, name: str) -> None:
    header = tarfile.TarInfo(name)
    header.size = 1 << 62
    data = header.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(InnkeeperError, match="space"):
        layers.add("sha256:" + hashlib.sha256(data).hexdigest(), "", io.BytesIO(data), TAR, R)
    assert os.listdir(tmp_path / "layers") == []
