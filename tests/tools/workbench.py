"""Builds of images in a folder of a test's, and what must not be left of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backends.container import ContainerSpec
from backends.image import BuildSpec, Image
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.images.conftest import Followed
from tests.tools.oci_images import busybox_files, make_layout

R = Recorder("test")
APPLETS = "cat chmod cp echo env find grep id ln ls mkdir mv pwd readlink rm sleep sort stat touch true test"


@dataclass
class Workbench:
    """Builds in a folder of the test's."""

    native: NativeBackend
    folder: Path
    watcher: Followed = field(default_factory=Followed)

    def write(self, path: str, text: str = "", mode: int = 0o644) -> Path:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return place

    def build(self, text: str, **options: object) -> Image:
        """Build a Dockerfile, with the lines that it says in `lines`."""
        self.write("Dockerfile", text)
        self.watcher.lines.clear()
        spec = BuildSpec(str(self.folder), **options)  # type: ignore[arg-type]
        return self.native.build(spec, Recorder("test", watcher=self.watcher))

    def said(self, image: Image | str, *args: str) -> str:
        """Return what a container of an image prints."""
        name = image if isinstance(image, str) else image.id
        guest = self.native.create(ContainerSpec(name, args, network="none"), R)
        self.native.start(guest.ref, R)
        self.native.wait(guest.ref, timeout_s=20)
        text = b"".join(line.data for line in self.native.logs(guest.ref)).decode()
        self.native.remove(guest.ref, R, force=True)
        return text

    def config(self, image: Image) -> Mapping[str, object]:
        found = self.native.image_store.resolve(image.id).config.raw["config"]
        assert isinstance(found, Mapping)
        return found

    def created(self) -> int:
        """Return how many containers were ever made."""
        return (self.native._config.state_dir / "events.jsonl").read_text().count('"create"')

    @property
    def lines(self) -> list[str]:
        return self.watcher.lines

    @property
    def steps(self) -> list[str]:
        """Return the headers of steps."""
        return [line for line in self.lines if line.startswith("[")]

    def leftovers(self) -> list[str]:
        """Return what builds must not leave: containers, their folders, folders to work in."""
        state = self.native._config.state_dir
        found = [guest.name for guest in self.native.guests()]
        found += [str(path) for path in (state / "builds").glob("*")] if (state / "builds").exists() else []
        found += [path.name for path in (state / "layers").glob(".*")] if (state / "layers").exists() else []
        return found + [path.name for path in (state / "images/partial").glob("*")]


@contextmanager
def workbench(native: NativeBackend, tmp_path: Path) -> Iterator[Workbench]:
    """Yield a workbench whose store has the image "base": busybox, and a user; nothing may be left of its builds."""
    files = {**busybox_files(), **{f"bin/{name}": b"->busybox" for name in APPLETS.split()}}
    files["etc/passwd"] += b"joe:x:1000:100::/home/joe:/bin/sh\n"
    files["etc/group"] = b"root:x:0:\nusers:x:100:\nstaff:x:50:joe\n"
    layout = make_layout(tmp_path / "oci", [files], "base:latest", Cmd=["sh"], Env=["PATH=/bin", "FROM_BASE=yes"])
    native.image_load(str(layout.folder), R)
    folder = tmp_path / "context"
    folder.mkdir()
    made = Workbench(native, folder)
    yield made
    assert made.leftovers() == []
