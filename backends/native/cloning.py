"""Containers made from containers: they share all layers, and get a record, an address and volumes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from backends.container import ContainerSpec
from backends.errors import Damaged, Unsupported
from backends.model import Guest, GuestRef
from backends.native import asked as asked_json
from backends.native import spec
from backends.native.core import NAME
from backends.native.making import Making
from backends.native.origin import Origin
from backends.native.record import ContainerRecord
from backends.native.saved_layers import SavedLayers
from backends.native.saving import Saving
from backends.native.snapshots import Snapshots
from backends.native.store import ASKED, read_file
from backends.trace import Recorder


class Cloning(Saving, Making):
    """clone, and what templates share with it."""

    def clone(self, ref: GuestRef, name: str | None, recorder: Recorder, *, snapshot: str | None = None) -> Guest:
        """Make a container like another, from its present files or those of a snapshot."""
        with self._store.locked(ref.id), self._store.making():
            asked, origin = self._likeness(ref)
            asked = self._without_ports(asked, recorder)
            self._check(replace(asked, name=name))
            with self._layers_of(ref, recorder, snapshot) as layers, SavedLayers(self._store.state_dir).using():
                made = self._make(replace(asked, name=name), replace(origin, layers=layers()))
        return self._guest(GuestRef(NAME, made.id))

    def _without_ports(self, asked: ContainerSpec, recorder: Recorder) -> ContainerSpec:
        """Leave out what only one container can have."""
        if asked.publish:
            recorder.say(f"its published ports are not taken over: {', '.join(asked.publish)}")
        return replace(asked, publish=(), ip="", ip6="", aliases=())

    def _likeness(self, ref: GuestRef) -> tuple[ContainerSpec, Origin]:
        """Return what was asked of a container, as it is now, and what it is made of. The caller holds its lock."""
        folder, record = self._store.folder(ref.id), self._store.record(ref.id)
        try:
            kept = json.loads(read_file(str(folder / ASKED)))
        except FileNotFoundError:
            text = f"{record.name} was made by an earlier version, which did not keep what was asked of it"
            raise Unsupported(text, hint="make it anew, and copy what you need with inn cp") from None
        except ValueError as error:
            raise Damaged(f"container {record.name}: {ASKED} is damaged: {error}") from error
        asked = _as_now(asked_json.from_json(kept["spec"]), record, self._store.config(ref.id))
        origin = Origin(
            image=record.image, image_id=record.image_id, layers=record.layers, mounts=kept["mounts"],
            exposed=record.exposed, volumes=str(folder), name=record.name, template=record.template,
        )  # fmt: skip
        return asked, origin

    @contextmanager
    def _layers_of(
        self, ref: GuestRef, recorder: Recorder, snapshot: str | None = None
    ) -> Iterator[Callable[[], list[str]]]:
        """Give a function that returns the layers of a container's present files, or of a snapshot, to be called once.

        It is called in SavedLayers.using(), until a list names the layers. Nobody changes the files meanwhile.
        """
        keep = Recorder("client", self._keeper(ref, recorder))
        saved = SavedLayers(self._store.state_dir)
        if snapshot is not None:
            snapshots = Snapshots(self._store.folder(ref.id), self._guest(ref).name)
            snapshots.recover()
            layers = snapshots.layers(snapshot)
            yield lambda: layers
            return
        try:
            with self._copied_still(ref, recorder, keep) as (snapshots, copy):
                layers, draft = snapshots.present(keep, copy)
                yield lambda: layers if draft is None else [saved.keep(draft), *layers]
        except BaseException:
            saved.collect()
            raise


def _as_now(asked: ContainerSpec, record: ContainerRecord, config: dict[str, Any]) -> ContainerSpec:
    """Return what was asked of a container with what has changed since: limits, restart policy, networks."""
    networks = [endpoint.network for endpoint in record.endpoints] if record.network == "bridge" else []
    return replace(
        asked,
        limits=spec.limits_of(config),
        restart=record.restart_policy,
        secrets=record.secret_files,
        network=networks[0] if networks else asked.network,
        networks=tuple(networks[1:]) if networks else asked.networks,
    )
