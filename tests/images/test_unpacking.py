"""Layers unpacked as `tar -x` on top of those below would: what an overlay of them shows afterwards."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from backends.errors import InnkeeperError
from backends.native.images.manifest import LAYER, LAYER_GZIP, LAYER_ZSTD
from backends.native.layers import store as layer_store
from backends.native.layers.store import Layers
from backends.trace import Recorder
from tests.tools import fuzz_layers
from tests.tools.needs import needs

pytestmark = [needs("root", "overlay"), pytest.mark.timeout(60)]


class Tar:
    """A tar that is being made."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def folder(self, name: str, **more: object) -> Tar:
        return self._add(name, tarfile.DIRTYPE, b"", **{"mode": 0o755, **more})

    def file(self, name: str, data: bytes = b"", **more: object) -> Tar:
        return self._add(name, tarfile.REGTYPE, data, **{"mode": 0o644, **more})

    def symlink(self, name: str, target: str) -> Tar:
        return self._add(name, tarfile.SYMTYPE, linkname=target)

    def link(self, name: str, target: str) -> Tar:
        return self._add(name, tarfile.LNKTYPE, linkname=target)

    def device(self, name: str, major: int, minor: int) -> Tar:
        return self._add(name, tarfile.CHRTYPE, devmajor=major, devminor=minor, mode=0o666)

    def gone(self, name: str) -> Tar:
        parent, _, base = name.rpartition("/")
        return self.file(f"{parent}/.wh.{base}" if parent else f".wh.{base}")

    def opaque(self, folder: str) -> Tar:
        return self.file(f"{folder}/.wh..wh..opq")

    def _add(self, name: str, kind: bytes, data: bytes = b"", **more: object) -> Tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size = kind, len(data)
        for key, value in more.items():
            setattr(entry, key, value)
        self._tar.addfile(entry, io.BytesIO(data))
        return self

    @property
    def data(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


class Stack:
    """Layers on top of one another, and what an overlay of them shows."""

    def __init__(self, folder: Path) -> None:
        self.layers, self._folder, self._chain = Layers(folder), folder, ""

    def add(self, tar: Tar | bytes, media_type: str = LAYER, *, packed: bytes = b"") -> Stack:
        data = tar.data if isinstance(tar, Tar) else tar
        diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
        stream = io.BytesIO(packed or data)
        self._chain = self.layers.add(diff_id, self._chain, stream, media_type, Recorder("test"))
        return self

    def sh(self, line: str) -> str:
        """Run a shell line in the tree, where nobody else sees the mount."""
        below = ":".join([*self.layers.stack(self._chain), str(self._folder / "empty")])
        place = self._folder / "seen"
        for path in (place, self._folder / "empty"):
            path.mkdir(exist_ok=True)
        script = f"mount -t overlay overlay -o lowerdir={below} {place} && cd {place} && {line}"
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def paths(self) -> list[str]:
        return sorted(self.sh("find . -mindepth 1").split())

    def nothing_is_half_made(self) -> bool:
        folder = self._folder / "layers"
        return not folder.exists() or not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def test_what_a_layer_takes_away_is_of_the_layers_below_only_wherever_it_stands(stack: Stack) -> None:
    stack.add(Tar().folder("a").file("a/old").file("a/both").file("b").folder("c").file("c/x"))

    stack.add(Tar().file("a/both", b"new").gone("a/both").gone("b").gone("a/old").gone("never/there").gone("c"))

    assert stack.paths == ["./a", "./a/both"]
    assert stack.sh("cat a/both") == "new"


def test_what_a_layer_adds_through_a_link_it_does_not_take_away_by_the_other_path(stack: Stack) -> None:
    stack.add(Tar().folder("usr").folder("usr/bin").file("usr/bin/old").symlink("bin", "usr/bin"))

    stack.add(Tar().file("bin/new", b"1").gone("usr/bin/new").gone("bin/old"))

    assert stack.paths == ["./bin", "./usr", "./usr/bin", "./usr/bin/new"]


@pytest.mark.parametrize("comes_first", [True, False])
def test_an_opaque_folder_hides_all_from_below_and_keeps_owner_mode_and_what_is_new(
    stack: Stack, comes_first: bool
) -> None:
    stack.add(Tar().folder("d", uid=7, gid=8, mtime=1000).file("d/old").folder("d/deep").file("d/deep/old"))

    top = Tar()
    if comes_first:
        top.opaque("d").file("d/new")
    else:
        top.file("d/new").opaque("d")
    stack.add(top)

    assert stack.paths == ["./d", "./d/new"]
    assert stack.sh("stat -c '%u %g %a' d") == "7 8 755\n"


def test_a_path_may_be_of_another_kind_than_below_and_later_entries_win(stack: Stack) -> None:
    stack.add(Tar().folder("dir").file("dir/x").file("file", b"1").symlink("sym", "file").folder("d2").file("d2/y"))

    stack.add(
        Tar().file("dir", b"now a file").folder("file").file("file/in").file("sym", b"now a file too")
        .file("twice", b"1").file("twice", b"2").symlink("d2", "file")
    )  # fmt: skip

    assert stack.sh("cat dir sym twice; ls file; readlink d2") == "now a filenow a file too2in\nfile\n"
    assert "./d2/y" not in stack.paths


def test_hard_links_lead_to_files_of_the_layer_and_of_those_below(stack: Stack) -> None:
    stack.add(Tar().file("low", b"from below", uid=5))

    stack.add(Tar().link("high", "low").file("a", b"a").link("b", "a").link("./c", "/a"))

    assert stack.sh("cat high; stat -c '%u' high") == "from below5\n"
    assert stack.sh("stat -c '%h %i' a b c | sort -u | wc -l") == "1\n"


def test_folders_that_no_entry_makes_are_those_below_or_plain_ones(stack: Stack) -> None:
    stack.add(Tar().folder("kept", uid=9, gid=9, mode=0o700))

    stack.add(Tar().file("kept/x").file("made/for/y"))

    assert stack.sh("stat -c '%u %a' kept made made/for") == "9 700\n0 755\n0 755\n"


def test_owners_modes_times_attributes_and_devices_are_as_the_tar_says(stack: Stack) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    attributes = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.user.note": "höhe",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "mtime": "1234567890.123456789",
    }
    long = "n" * 200
    stack.add(
        Tar().file("tool", b"x", mode=0o6755, uid=3_000_000, gid=3_000_001, pax_headers=attributes)
        .file(f"{long}/{long}", b"deep").device("null", 1, 3).folder("sticky", pax_headers={"mtime": "5.5"})
        ._add("sticky", tarfile.DIRTYPE, mode=0o1777, mtime=1).file("sticky/inside").symlink("to", "/nowhere/at/all")
    )  # fmt: skip

    assert stack.sh("stat -c '%a %u %g' tool").split() == ["6755", "3000000", "3000001"]
    path = stack.layers.stack(stack._chain)[0]
    assert os.stat(f"{path}/tool").st_mtime_ns == 1234567890123456789
    assert os.getxattr(f"{path}/tool", "security.capability") == capability
    assert os.getxattr(f"{path}/tool", "user.note").decode() == "höhe"
    assert [name for name in os.listxattr(f"{path}/tool") if "overlay" in name] == []
    assert stack.sh("stat -c '%a %Y' sticky; stat -c '%t:%T' null; readlink to").split() == [
        "1777", "1", "1:3", "/nowhere/at/all",
    ]  # fmt: skip
    assert stack.sh(f"cat {long}/{long}") == "deep"


def test_sparse_files_keep_their_holes(stack: Stack, tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    for form in ("gnu", "posix"):
        command = ["tar", "-C", str(tmp_path), f"--format={form}", "-S", "-c", "holes"]
        stack.add(subprocess.run(command, capture_output=True, check=True).stdout)

        found = os.stat(f"{stack.layers.stack(stack._chain)[0]}/holes")
        assert found.st_size == (50 << 20) + 3
        assert found.st_blocks * 512 < 1 << 20


def test_zeros_become_holes_and_nothing_else_does(stack: Stack) -> None:
    ends = bytes(2 << 20) + b"x" + bytes(1 << 20)
    random = os.urandom(300_001)
    tar = Tar().file("zeros", bytes(20 << 20)).file("ends", ends).file("few", bytes(100)).file("random", random)
    stack.add(tar.data)

    top = stack.layers.stack(stack._chain)[0]
    found = {name: os.stat(f"{top}/{name}") for name in ("zeros", "ends", "few", "random")}
    assert [each.st_size for each in found.values()] == [20 << 20, len(ends), 100, 300_001]
    assert found["zeros"].st_blocks == 0
    assert found["ends"].st_blocks * 512 < 256 << 10
    assert Path(f"{top}/ends").read_bytes() == ends
    assert Path(f"{top}/random").read_bytes() == random
    assert found["few"].st_blocks > 0


@pytest.mark.parametrize("kind", ["zstd", "gzip", "two members"])
def test_compressed_layers_are_those_that_were_compressed(stack: Stack, kind: str) -> None:
    tar = Tar().file("a", b"content" * 1000).data
    program = ["zstd", "-q"] if kind == "zstd" else ["gzip"]
    halves = [tar[:2000], tar[2000:]] if kind == "two members" else [tar]
    packed = b"".join(subprocess.run(program, input=half, capture_output=True, check=True).stdout for half in halves)

    stack.add(tar, LAYER_ZSTD if kind == "zstd" else LAYER_GZIP, packed=packed)

    assert stack.sh("wc -c < a") == "7000\n"


HOSTILE = {
    "climbs out": Tar().file("../../evil"),
    "climbs out in the middle": Tar().file("a/../../../evil"),
    "links to what is outside": Tar().link("evil", "../../../../etc/passwd"),
    "a device that means a deletion": Tar().device("x", 0, 0),
    "takes away the folder above": Tar().file("a/.wh..."),
    "an owner that cannot be": Tar().file("x", uid=2**40),
    "a name that is too long": Tar().file("n" * 300),
    "a time beyond all time": Tar().file("x", pax_headers={"mtime": "1e30"}),
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_a_hostile_layer_is_refused_and_leaves_nothing(stack: Stack, what: str) -> None:
    stack.add(Tar().file("fine"))

    with pytest.raises(InnkeeperError) as refused:
        stack.add(HOSTILE[what].data)

    assert "\n" not in refused.value.message
    assert stack.nothing_is_half_made()
    assert stack.paths == ["./fine"]


def test_links_lead_nowhere_but_into_the_layer(stack: Stack, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    up = "../" * 20
    stack.add(Tar().symlink("abs", str(outside)).symlink("up", f"{up}{str(outside)[1:]}").folder("x"))

    made_inside = Tar().symlink("x/again", str(outside)).folder(str(outside)[1:])
    made_inside.file("abs/new", b"1").file("up/new2", b"2").file("x/again/new3", b"3").gone("abs/precious")
    stack.add(made_inside)

    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_text() == "kept"
    assert stack.sh(f"ls {str(outside)[1:]}").split() == ["new", "new2", "new3"]


def test_what_is_cut_short_or_not_what_its_digest_says_is_refused(stack: Stack) -> None:
    data = Tar().file("a", b"x" * 100_000).file("b", b"y" * 5000).data
    for cut in (700, 50_000, len(data) - 9000):
        with pytest.raises(InnkeeperError):
            stack.add(data[:cut])
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    with pytest.raises(InnkeeperError, match="is not what it should be"):
        stack.layers.add(digest, "", io.BytesIO(data + b"\0" * 512), LAYER, Recorder("test"))

    assert stack.nothing_is_half_made()
    assert stack.layers.all() == []


def test_a_bomb_is_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_store, "MOST_FREE_BYTES", 1 << 20)
    tar = Tar().file("zeros", bytes(64 << 20)).data
    packed = subprocess.run(["gzip", "-9"], input=tar, capture_output=True, check=True).stdout

    with pytest.raises(InnkeeperError, match="unpacks to more than"):
        stack.add(tar, LAYER_GZIP, packed=packed)

    assert stack.nothing_is_half_made()


def test_marks_of_a_layer_are_overlays_own(stack: Stack) -> None:
    stack.add(Tar().file("a").folder("d").file("d/x"))
    stack.add(Tar().gone("a").opaque("d"))

    top = stack.layers.stack(stack._chain)[0]
    found = os.lstat(f"{top}/a")
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == 0
    assert os.getxattr(f"{top}/d", "trusted.overlay.opaque") == b"y"
    assert os.listdir(f"{top}/d") == []


@needs("umoci")
def test_the_tree_is_the_one_that_umoci_unpacks(stack: Stack, tmp_path: Path) -> None:
    layout, bundle, again = tmp_path / "layout", tmp_path / "bundle", tmp_path / "again"
    umoci(f"init --layout {layout}", f"new --image {layout}:x", f"unpack --image {layout}:x {bundle}")
    root = bundle / "rootfs"
    subprocess.run(["cp", "-a", "/usr/share/zoneinfo", str(root / "zone")], check=True)
    lines = f"""
        cd {root}; mkdir -p a/b/c d; echo 1 > a/b/one; ln a/b/one a/two; ln -s b/one a/sym; mkfifo pipe; chmod 1777 d
        mknod null c 1 3; echo x > gone; mkdir hidden; echo y > hidden/old; setfattr -n user.k -v v a/two || true
        chown 12:34 a/b/c; touch -d @1.5 a/b/one; chmod 4711 a/two
        """
    subprocess.run(["sh", "-ec", lines], check=True)
    umoci(f"repack --refresh-bundle --image {layout}:x {bundle}")
    lines = f"""
        cd {root}; rm -r gone hidden a/sym zone/Europe; mkdir hidden; echo n > hidden/new; rm -r a/b; echo f > a/b
        chmod 700 d; echo more >> a/two; ln null null2; rm pipe; mkdir pipe; mv zone/Asia zone/asien; chown 5 zone
        """
    subprocess.run(["sh", "-ec", lines], check=True)
    umoci(f"repack --image {layout}:x {bundle}", f"unpack --image {layout}:x {again}")

    index = json.loads((layout / "index.json").read_text())
    manifest = blob(layout, index["manifests"][0]["digest"])
    config = json.loads(blob(layout, json.loads(manifest)["config"]["digest"]))
    for layer, diff_id in zip(json.loads(manifest)["layers"], config["rootfs"]["diff_ids"], strict=True):
        packed = blob(layout, layer["digest"])
        tar = gzip.decompress(packed)
        assert "sha256:" + hashlib.sha256(tar).hexdigest() == diff_id
        stack.add(tar, LAYER_GZIP, packed=packed)

    files = "find . -mindepth 1 ! -type d -printf '%y %m %U %G %n %s %T@ %p %l\\n' | sort -k8"
    sums = "find . -type f -exec sha256sum {} + | sort -k2"
    for line in (files, sums, "find . -type d -printf '%m %U %G %p\\n' | sort -k4"):
        theirs = subprocess.run(["sh", "-c", f"cd {again}/rootfs && {line}"], capture_output=True, text=True).stdout
        assert len(theirs.splitlines()) > 3
        assert stack.sh(line) == theirs


def umoci(*commands: str) -> None:
    for command in commands:
        done = subprocess.run(["umoci", *command.split()], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def test_layers_made_at_random_are_taken_whole_or_refused_and_reach_nothing_outside() -> None:
    outcomes = fuzz_layers.run(15, random.SystemRandom().randrange(2**32), most=60)

    assert set(outcomes) == {"taken", "refused"}
