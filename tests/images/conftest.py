"""What tests of images share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backends.image import TransferOptions
from backends.native.images.blobs import Blobs
from backends.native.images.reference import Reference
from backends.native.registry.pull import pull
from backends.native.registry.push import push
from backends.native.registry.web import Patience
from backends.trace import Progress, Recorder, Watcher

IMPATIENT = Patience(attempts=4, first_s=0.001, most_s=0.01)


@dataclass
class Followed(Watcher):
    """Keeps all that it is told, and has enough when the test says so."""

    parts: list[Progress] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    enough: Callable[[Progress | None], bool] = lambda progress: False
    is_enough: bool = False

    def progressed(self, progress: Progress) -> None:
        self.parts.append(progress)
        self.is_enough = self.is_enough or self.enough(progress)

    def said(self, line: str) -> None:
        self.lines.append(line)

    @property
    def has_enough(self) -> bool:
        return self.is_enough or self.enough(None)

    def texts(self, word: str) -> list[str]:
        """Return the parts of which something was said."""
        return [progress.part for progress in self.parts if progress.text == word]


class Mover:
    """Pulls into and pushes from a store of blobs, with no patience."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(folder)
        self.watcher = Followed()
        self.recorder = Recorder("test", watcher=self.watcher)

    def pull(self, name: str, **options: object) -> str:
        """Pull, by plain HTTP unless the options say otherwise, and return the digest."""
        given = TransferOptions(**{"plain_http": True, **options})  # type: ignore[arg-type]
        return pull(Reference.parse(name), given, self.blobs, self.recorder, IMPATIENT)

    def push(self, name: str, digest: str, elsewhere: dict[str, list[str]] | None = None, **options: object) -> str:
        """Push a manifest of the store."""
        given = TransferOptions(**{"plain_http": True, **options})  # type: ignore[arg-type]
        return push(
            Reference.parse(name), digest, given, self.blobs, self.recorder, elsewhere=elsewhere, patience=IMPATIENT
        )

    def leftovers(self) -> list[str]:
        """Return what is half here."""
        partial = self.folder / "partial"
        return sorted(path.name for path in partial.iterdir()) if partial.exists() else []


@pytest.fixture
def mover(tmp_path: Path) -> Mover:
    """One with an empty store."""
    return Mover(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither credentials nor settings of who runs the tests play a part."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(home / "registries.conf"))
