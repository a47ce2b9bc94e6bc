"""Making simulated containers, and their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from backends.container import ContainerSpec
from backends.errors import Busy, NotFound
from backends.image import Image
from backends.model import Guest, GuestKind
from backends.simulated.act import Act
from backends.simulated.core import NAME, SimulatedCore
from backends.simulated.images import read_image
from backends.simulated.machine import Machine
from backends.simulated.world import checked_limits
from backends.trace import Recorder, Step


class StoreVerbs(SimulatedCore):
    """Creating, Images, Cleaning, Closing."""

    def create(self, spec: ContainerSpec, recorder: Recorder) -> Guest:
        """Make a container, not started."""
        with self._call("create"):
            if spec.image not in self._world.images:
                raise NotFound(f"there is no image {spec.image!r}", hint="known: " + ", ".join(self._world.images))
            limits = checked_limits(spec.limits, GuestKind.CONTAINER)
            name = spec.name or f"{spec.image}-{len(self._world.machines) + 1}"
            self._world.check_name(name)
            act = Act(
                "create", f"create {name}", lambda: self._world.add(name, GuestKind.CONTAINER, spec.image, limits)
            )
            machine: Machine = recorder.run(act)
            machine.records.append(recorder.records[-1])
            machine.restart_policy = spec.restart
            machine.changed()
            machine.command = " ".join(spec.args) or spec.image
            guest = machine.guest()
        self._tell()
        return guest

    def explain(self, spec: ContainerSpec) -> Sequence[tuple[str, Step]]:
        """Return what create and start would do."""
        name = spec.name or spec.image
        return [(NAME, Act("create", f"create {name}", _nothing)), (NAME, Act("start", f"start {name}", _nothing))]

    def images(self) -> Sequence[Image]:
        """Return all images."""
        with self._call("images"):
            return tuple(self._world.images.values())

    def image_import(self, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
        """Keep the name and size of a root file system as an image; its content is not kept."""
        with self._call("image_import"):
            image: Image = recorder.run(Act("image", f"import {name}", lambda: read_image(name, source, self._world)))
            return image

    def image_remove(self, name: str, recorder: Recorder, *, force: bool = False) -> None:
        """Remove an image that no container uses."""
        with self._call("image_remove"):
            if name not in self._world.images:
                raise NotFound(f"there is no image {name!r}")
            users = [machine.name for machine in self._world.machines.values() if machine.image == name]
            if users:
                raise Busy(f"cannot remove image {name}: {users[0]} uses it")
            recorder.run(Act("image", f"remove image {name}", lambda: self._world.images.pop(name)))

    def clean(self, recorder: Recorder) -> Sequence[str]:
        """Find nothing: memory leaves no traces."""
        with self._call("clean"):
            return ()

    def shutdown(self) -> None:
        """There are no helpers."""


def _nothing() -> None:
    """What a plan does when nobody runs it."""
