"""All simulated named volumes and who has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from backends.errors import AlreadyExists, Busy, NotFound, UsageError
from backends.simulated.gallery import digest_of
from backends.simulated.machine import Machine
from backends.volume import Volume, VolumeSpec, VolumeUser

_MIB = 1024**2


@dataclass(slots=True)
class Kept:
    """One volume in memory."""

    spec: VolumeSpec
    created_s: float
    users: dict[str, tuple[Machine, tuple[str, ...]]] = field(default_factory=dict)
    """Machine id → who, at which places."""


class Cellar:
    """Volumes by name. The world's lock guards it."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}

    def populate(self, machines: Sequence[Machine], now_s: float) -> None:
        """Make the first volumes: most have a user or two, one has none."""
        for days, name in enumerate(("data", "cache", "uploads", "old-backups")):
            self.add(VolumeSpec(name, {"kind": "backup"} if name == "old-backups" else {}), now_s - 86_400.0 * days)
        for index, machine in enumerate(machines):
            if index % 5 < 3:
                self.give(machine, (("data", "cache", "uploads")[index % 5], "/srv"), now_s)

    def get(self, name: str) -> Kept:
        """Return one. Raises NotFound."""
        if name not in self.kept:
            raise NotFound(f"there is no volume {name!r}")
        return self.kept[name]

    def add(self, spec: VolumeSpec, now_s: float) -> Kept:
        """Make one. Raises AlreadyExists, UsageError."""
        name = spec.name or digest_of("volume", len(self.kept), now_s).removeprefix("sha256:")[:12]
        if "/" in name or name.startswith("."):
            raise UsageError(f"{name!r} is no name of a volume")
        if name in self.kept:
            raise AlreadyExists(f"there is already a volume {name!r}")
        self.kept[name] = Kept(VolumeSpec(name, dict(spec.labels)), now_s)
        return self.kept[name]

    def remove(self, name: str) -> None:
        """Remove one. Raises Busy, NotFound."""
        kept = self.get(name)
        if kept.users:
            users = ", ".join(sorted(machine.name for machine, _ in kept.users.values()))
            raise Busy(f"cannot remove volume {name}: {users} {'uses' if len(kept.users) == 1 else 'use'} it")
        del self.kept[name]

    def unused(self) -> list[str]:
        """Return the names of those that nobody has."""
        return [name for name, kept in self.kept.items() if not kept.users]

    def give_asked(self, machine: Machine, texts: Iterable[str], now_s: float) -> None:
        """Have a guest use the volumes of "NAME:PATH[:…]"; other texts are of no volume. Those not there are made."""
        for text in texts:
            name, colon, rest = text.partition(":")
            if colon and not name.startswith("/"):
                self.give(machine, (name, rest.partition(":")[0]), now_s)

    def give(self, machine: Machine, named: tuple[str, str], now_s: float) -> None:
        """Have a guest use one (name, place)."""
        name, place = named
        kept = self.kept.get(name) or self.add(VolumeSpec(name), now_s)
        before = kept.users.get(machine.ref.id, (machine, ()))[1]
        kept.users[machine.ref.id] = (machine, (*before, place))

    def share(self, model: Machine, machine: Machine) -> None:
        """Have a guest use the volumes that another uses."""
        for kept in self.kept.values():
            if model.ref.id in kept.users:
                kept.users[machine.ref.id] = (machine, kept.users[model.ref.id][1])

    def forget(self, machine: Machine) -> None:
        """A guest is gone."""
        for kept in self.kept.values():
            kept.users.pop(machine.ref.id, None)

    def volume(self, kept: Kept) -> Volume:
        """Return one as others see it."""
        users = [VolumeUser(machine.name, places, machine.state.is_live) for machine, places in kept.users.values()]
        users.sort(key=lambda user: user.guest)
        return Volume(kept.spec.name, kept.created_s, "", kept.spec.labels, tuple(users))

    def size_bytes(self, name: str) -> int:
        """Return how large one is said to be; one that nobody ever had is empty."""
        return 0 if not self.get(name).users else Random(name).randint(1, 900) * _MIB
