"""All simulated guests and images, and the rules they keep."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from backends.errors import AlreadyExists, NotFound, Unsupported, UsageError
from backends.model import GuestKind, GuestRef, Limits
from backends.simulated import shelf
from backends.simulated.cellar import Cellar
from backends.simulated.fabric import Fabric
from backends.simulated.gallery import Gallery
from backends.simulated.machine import Machine, Moment
from backends.simulated.names import name_of

if TYPE_CHECKING:
    from backends.simulated.copies import Kept

MIB = 1024**2
CPUS = 4
"""Of the simulated host."""

FIRST_PID = 40_000

NOT_FOR_VMS = {
    "memory_high_bytes": "a virtual machine has no soft memory limit",
    "swap_bytes": "swap belongs to the guest's own system",
    "pids": "processes belong to the guest's own system",
}


class World:
    """Machines by reference. Whoever touches one holds the lock."""

    def __init__(self, backend: str, seed: int, clock: Callable[[], float], epoch_s: float) -> None:
        """`epoch_s` is the time of day when the clock said 0."""
        self.changed = threading.Condition(threading.RLock())
        self.machines: dict[GuestRef, Machine] = {}
        self.gallery = Gallery(self._users)
        self.fabric = Fabric()
        self.cellar = Cellar()
        self.templates: dict[str, Kept] = {}
        self.sent: dict[str, set[str]] = {}
        """Layers that registries have got, by the registry's name."""

        self.logins: set[str] = set()
        """Registries that one is logged in at."""

        self.clock = clock
        self._backend, self._epoch_s = backend, epoch_s
        self._random = Random(seed)
        self._next_pid = FIRST_PID

    def now(self) -> Moment:
        """Return the present moment."""
        now_s = self.clock()
        return Moment(now_s, self._epoch_s + now_s)

    def populate(self, containers: int, machines: int, *, hostile: bool) -> None:
        """Make the first guests: most run, some have limits, a few are stopped or paused."""
        for kind, count in ((GuestKind.CONTAINER, containers), (GuestKind.VM, machines)):
            for index in range(count):
                name, image = name_of(index, kind, hostile=hostile)
                machine = self.add(name, kind, image, self._some_limits(index))
                if index % 8 != 5:
                    self.start(machine)
                if index % 16 == 11:
                    machine.end(self.now(), 137, "killed by signal 9")
                if index % 11 == 7:
                    machine.pause()
        now_s = self.now().epoch_s
        for picture, names in shelf.hostile(now_s) if hostile else shelf.lifelike(now_s):
            self.gallery.put(picture, names)
        inside = [machine for machine in self.machines.values() if machine.kind is GuestKind.CONTAINER]
        for index, machine in enumerate(inside):
            machine.ports = (f"{8000 + index}->80/tcp",) if index % 5 == 0 else ()
        self.fabric.populate(inside, now_s)
        self.cellar.populate(inside, now_s)

    def _users(self) -> dict[str, list[str]]:
        users: dict[str, list[str]] = {}
        for machine in self.machines.values():
            if machine.kind is GuestKind.CONTAINER:
                users.setdefault(machine.image, []).append(machine.name)
        return users

    def _some_limits(self, index: int) -> Limits:
        if index % 3 != 1:
            return Limits()
        return Limits(cpus=self._random.choice((0.2, 0.5, 1.0)), memory_bytes=self._random.choice((64, 256, 512)) * MIB)

    def add(self, name: str, kind: GuestKind, image: str, limits: Limits) -> Machine:
        """Make one guest, not started. Raises AlreadyExists."""
        self.check_name(name)
        ref = GuestRef(self._backend, self._id(kind))
        machine = Machine(ref, name, kind, image, self.now().epoch_s, Random(self._random.random()), limits)
        self.machines[ref] = machine
        return machine

    def _id(self, kind: GuestKind) -> str:
        if kind is GuestKind.VM:
            return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        return f"{self._random.getrandbits(256):064x}"

    def start(self, machine: Machine) -> None:
        """Let one run."""
        machine.start(self.now(), self._next_pid)
        self._next_pid += 100

    def remove(self, machine: Machine) -> None:
        """One is gone, off its networks, and without volumes."""
        del self.machines[machine.ref]
        self.fabric.forget(machine)
        self.cellar.forget(machine)

    def check_name(self, name: str, *, of: Machine | None = None) -> None:
        """Raise AlreadyExists if another guest has the name, UsageError if it is none."""
        if not name:
            raise UsageError("a guest needs a name")
        if any(machine.name == name and machine is not of for machine in self.machines.values()):
            raise AlreadyExists(f"there is already a guest {name!r}")

    def get(self, ref: GuestRef) -> Machine:
        """Return a machine. Raises NotFound."""
        machine = self.machines.get(ref)
        if machine is None:
            raise NotFound(f"there is no guest {ref}")
        return machine


def checked_limits(limits: Limits, kind: GuestKind) -> Limits:
    """Return the limits if the simulated kernel would take them all. Raises Unsupported, UsageError."""
    for name in Limits.__dataclass_fields__:
        value = getattr(limits, name)
        if value is None or name == "io_devices":
            continue
        if kind is GuestKind.VM and name in NOT_FOR_VMS:
            raise Unsupported(f"cannot set {name}: {NOT_FOR_VMS[name]}")
        if name == "cpuset":
            _check_cpuset(value)
        elif not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise UsageError(f"cannot set {name} to {value!r}: invalid argument")
    return replace(limits)


def _check_cpuset(text: str) -> None:
    ranges = [part.partition("-") for part in text.split(",")]
    numbers = [number for low, dash, high in ranges for number in ((low, high) if dash else (low,))]
    if not all(number.isdecimal() and number.isascii() and int(number) < CPUS for number in numbers):
        raise UsageError(f"cannot set cpuset to {text!r}: this host has the CPUs 0-{CPUS - 1}")
