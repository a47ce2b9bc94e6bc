"""Making simulated containers."""

from __future__ import annotations

from collections.abc import Sequence

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.model import Guest, GuestKind
from backends.network import Attachment
from backends.simulated.act import Act
from backends.simulated.core import NAME, SimulatedCore
from backends.simulated.machine import Machine
from backends.simulated.world import checked_limits
from backends.trace import Recorder, Step


class StoreVerbs(SimulatedCore):
    """Creating, Cleaning, Closing."""

    def create(self, spec: ContainerSpec, recorder: Recorder) -> Guest:
        """Make a container, not started."""
        with self._call("create"):
            self._world.gallery.find(spec.image)
            for text in spec.publish:
                _published(text)
            limits = checked_limits(spec.limits, GuestKind.CONTAINER)
            name = spec.name or f"{spec.image}-{len(self._world.machines) + 1}"
            self._world.check_name(name)
            act = Act(
                "create", f"create {name}", lambda: self._world.add(name, GuestKind.CONTAINER, spec.image, limits)
            )
            machine: Machine = recorder.run(act)
            machine.records.append(recorder.records[-1])
            machine.restart_policy = spec.restart
            machine.ports = tuple(_published(text) for text in spec.publish)
            self._attach(machine, spec)
            self._world.cellar.give_asked(machine, spec.volumes, self._world.now().epoch_s)
            machine.changed()
            machine.command = " ".join(spec.args) or spec.image
            guest = machine.guest()
        self._tell()
        return guest

    def _attach(self, machine: Machine, spec: ContainerSpec) -> None:
        aliases = spec.aliases
        self._world.fabric.attach(machine, spec.network, Attachment(spec.network, spec.ip, spec.ip6, aliases))
        for name in spec.networks:
            self._world.fabric.attach(machine, name, Attachment(name, aliases=aliases))

    def explain(self, spec: ContainerSpec) -> Sequence[tuple[str, Step]]:
        """Return what create and start would do."""
        name = spec.name or spec.image
        return [(NAME, Act("create", f"create {name}", _nothing)), (NAME, Act("start", f"start {name}", _nothing))]

    def clean(self, recorder: Recorder) -> Sequence[str]:
        """Find nothing: memory leaves no traces."""
        with self._call("clean"):
            return ()

    def shutdown(self) -> None:
        """There are no helpers."""


def _published(text: str) -> str:
    """Return "8080:80/udp" as guests show it: "8080->80/udp". Raises UsageError."""
    outer, colon, inner = text.rpartition(":")
    if not colon or not inner.partition("/")[0].isdecimal():
        raise UsageError(f"{text!r} publishes no port", hint="[ADDRESS:]HOST:GUEST[/udp]")
    return f"{outer}->{inner if '/' in inner else inner + '/tcp'}"


def _nothing() -> None:
    """What a plan does when nobody runs it."""
