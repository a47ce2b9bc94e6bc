"""Simulated named volumes."""

from __future__ import annotations

from collections.abc import Sequence

from backends.simulated.act import Act
from backends.simulated.core import SimulatedCore
from backends.trace import Recorder
from backends.volume import Volume, VolumeSpec


class VolumeVerbs(SimulatedCore):
    """Volumes."""

    def volumes(self) -> Sequence[Volume]:
        """Return all volumes by name."""
        with self._call("volumes"):
            cellar = self._world.cellar
            return [cellar.volume(kept) for _, kept in sorted(cellar.kept.items())]

    def volume_create(self, spec: VolumeSpec, recorder: Recorder) -> Volume:
        """Make a volume."""
        with self._call("volume_create"):
            cellar, now_s = self._world.cellar, self._world.now().epoch_s
            return cellar.volume(recorder.run(Act("volume", "create a volume", lambda: cellar.add(spec, now_s))))

    def volume_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a volume that nobody has."""
        with self._call("volume_remove"):
            recorder.run(Act("volume", f"remove volume {name}", lambda: self._world.cellar.remove(name)))

    def volume_prune(self, recorder: Recorder, *, dry_run: bool = False) -> Sequence[str]:
        """Remove all that nobody has."""
        with self._call("volume_prune"):
            names = sorted(self._world.cellar.unused())
            if not dry_run:
                for name in names:
                    self._world.cellar.remove(name)
            return names

    def volume_size(self, name: str, recorder: Recorder) -> int:
        """Return how large one is said to be."""
        with self._call("volume_size"):
            return self._world.cellar.size_bytes(name)
