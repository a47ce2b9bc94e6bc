"""Named volumes: which there are, who uses them, how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from backends.errors import Busy, Damaged, NotFound
from backends.model import GuestState
from backends.native.images.rootfs import size_of
from backends.native.networking import Networking
from backends.native.volume_store import StoredVolume
from backends.trace import Recorder
from backends.volume import Volume, VolumeSpec, VolumeUser

_LIVE = (GuestState.RUNNING, GuestState.PAUSED, GuestState.STOPPING)


class KeepingVolumes(Networking):
    """Fulfils backends.assets.Volumes."""

    def volumes(self) -> Sequence[Volume]:
        """Return all named volumes with the containers that have them."""
        users = self._users()
        return [self._shown(each, users.get(each.name, ())) for each in self._volumes.all()]

    def volume_create(self, spec: VolumeSpec, recorder: Recorder) -> Volume:
        """Make an empty volume."""
        with self._store.making():
            made = self._volumes.create(spec)
        self._journal.write(made.id, made.name, "volume create")
        return self._shown(made, ())

    def volume_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a volume that no container has."""
        gone = self._volumes.get(name)
        with self._store.making():
            self._volumes.remove(name, lambda: self._users_of(name))
        self._journal.write(gone.id, name, "volume remove")

    def volume_prune(self, recorder: Recorder, *, dry_run: bool = False) -> Sequence[str]:
        """Remove all volumes that no container has."""
        gone = []
        for volume in self.volumes():
            recorder.check()
            if volume.users:
                continue
            if not dry_run:
                try:
                    self.volume_remove(volume.name, recorder)
                except (Busy, NotFound):  # taken or removed meanwhile
                    continue
            gone.append(volume.name)
        return gone

    def volume_size(self, name: str, recorder: Recorder) -> int:
        """Return what a volume's files take on the disk, in bytes."""
        self._volumes.get(name)
        return size_of(self._volumes.folder(name), recorder.check)

    def _users(self) -> dict[str, list[VolumeUser]]:
        found: dict[str, list[VolumeUser]] = {}
        for guest in self._roster.guests():
            with suppress(NotFound, Damaged):
                named = self._store.record(guest.ref.id).named_volumes
                for name in dict.fromkeys(named.values()):
                    places = tuple(sorted(place for place, other in named.items() if other == name))
                    found.setdefault(name, []).append(VolumeUser(guest.name, places, guest.state in _LIVE))
        for users in found.values():
            users.sort(key=lambda user: user.guest)
        return found

    def _shown(self, volume: StoredVolume, users: Sequence[VolumeUser]) -> Volume:
        folder = str(self._volumes.folder(volume.name))
        return Volume(volume.name, volume.created_s, folder, volume.labels, tuple(users), volume.note)
