"""Making, naming and removing containers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from typing import Any

from backends.container import ContainerSpec
from backends.errors import (
    Busy,
    InnkeeperError,
    NotFound,
    WrongState,
)
from backends.kernel import netlink
from backends.model import (
    Guest,
    GuestRef,
    Limits,
)
from backends.native import (
    drivers,
    limiting,
    names,
    rootless,
    secrets,
    shaping,
    spec,
    tracing,
    userns,
    volumes,
)
from backends.native.asked import to_json
from backends.native.connecting import Connecting
from backends.native.core import KEPT, NAME
from backends.native.images.image import ImageConfig
from backends.native.living import signal_name
from backends.native.looking import limits_json
from backends.native.networks import sharing
from backends.native.networks.endpoint import first_mac, host_link
from backends.native.networks.joining import join, leave, planned
from backends.native.options import first_process, mounts, namespaces
from backends.native.options import names as container_names
from backends.native.options.mounts import NamedVolume
from backends.native.options.networks import wanted
from backends.native.options.of_image import with_image
from backends.native.origin import Origin
from backends.native.record import ContainerRecord
from backends.native.resolver.offer import OfferNames
from backends.trace import Recorder, Step, StepRecord

_END_TIMEOUT_S = 10.0

_Files = dict[str, str | bytes]
"""Generated files of a container, by name; bytes are a program."""


class Making(Connecting):
    """Makes containers, and removes them."""

    def create(self, asked: ContainerSpec, recorder: Recorder) -> Guest:
        """Make a container."""
        return self._guest(GuestRef(NAME, self.make_record(asked).id))

    def run(self, asked: ContainerSpec, recorder: Recorder) -> Guest:
        """Make a container and start it, in one request to the spawner. Raises StartFailed and what create raises."""
        if asked.secrets or asked.security_opts or asked.userns != "host":  # which depend on who asks
            guest = self.create(asked, recorder)
            self.start(guest.ref, recorder)
            return self._guest(guest.ref)
        ref = GuestRef(NAME, self._spawner.run(to_json(asked)))
        if recorder.is_watched:
            for line in tracing.read(self._trace_path(ref)):
                recorder.keep(StepRecord.from_json(line))
        return self._guest(ref)

    def make_record(
        self, asked: ContainerSpec, container_id: str = "", *, image: ImageConfig | None = None
    ) -> ContainerRecord:
        """Make a container, with an id that is given or a new one, and return what is on record of it.

        image is for what has no name yet: a step of a build.
        """
        self._check(asked)
        with self._store.making():
            image = image or self._images.get(asked.image)
            return self._make(with_image(asked, image), Origin.of_image(image), container_id)

    def _check(self, asked: ContainerSpec) -> None:
        """Raise an InnkeeperError for what makes no sense or cannot be had, before anything is made."""
        if asked.name is not None:
            spec.check_name(asked.name)
        spec.check(asked)
        drivers.check(asked.driver, self._store.run_dir, self._host)
        self._check_limits(asked.limits, self._network(asked))
        for secret in asked.secrets:
            secrets.read(secret)  # what cannot be read is said now, not at the start

    def _make(self, asked: ContainerSpec, origin: Origin, container_id: str = "") -> ContainerRecord:
        """Make a container that _check() had nothing against, from an image or what was one; the caller is making()."""
        stop_signal, life = signal_name(asked.stop_signal or "SIGTERM"), _life(asked)
        choices = names.numbered(origin.name) if origin.name else names.suggestions()
        container_id, name = self._store.reserve(asked.name, choices, container_id)
        record = ContainerRecord(
            id=container_id,
            name=name,
            image=origin.image,
            created_s=time.time(),
            layers=origin.layers,
            image_id=origin.image_id,
            network=self._network(asked),
            stop_signal=stop_signal,
            user=asked.user,
            stdin=asked.stdin,
            auto_remove=asked.auto_remove,
            size=list(asked.size) if asked.size else None,
            labels=dict(asked.labels),
            exposed=list(dict.fromkeys((*origin.exposed, *asked.expose))),
            template=origin.template,
            **life,
        )
        record = self._write(record, asked, origin)
        self._journal.write(container_id, name, "create", image=origin.image)
        return record

    def _write(self, record: ContainerRecord, asked: ContainerSpec, origin: Origin) -> ContainerRecord:
        new: list[str] = []
        try:
            if record.network == "bridge":
                record = record.with_endpoints(join(self._networks, record.id, wanted(asked).attachments))
                record = replace(record, publish=self._published(record, asked))
            files, config = self._files_and_config(record, asked, origin)
            maps = userns.maps_for(asked.userns, userns.Caller.here(), self._ranges, record.id)
            if maps is not None:
                config["linux"] |= {"uidMappings": maps.uids, "gidMappings": maps.gids}
            kept = {"spec": to_json(asked), "mounts": origin.mounts}
            with ExitStack() as locks:  # on the volumes, until the record says who has them

                def prepare(draft: str) -> None:
                    origin.fill(draft, record)
                    self._take_volumes(mounts.named_volumes(asked), draft, origin.layers, locks, new)

                self._store.create(record, config, files, kept, prepare)
            return record
        except BaseException:
            for name in new:
                with suppress(InnkeeperError):  # somebody else has taken it meanwhile
                    self._volumes.remove(name, lambda name=name: self._users_of(name))  # type: ignore[misc]
            self._ranges.release(record.id)
            leave(self._networks, record.endpoints)
            self._store.release_name(record.name)
            raise

    def _take_volumes(
        self, wanted: Sequence[NamedVolume], draft: str, layers: Sequence[str], locks: ExitStack, new: list[str]
    ) -> None:
        """Have the named volumes of a container that is being made in a folder; those made for it go into new."""
        first: dict[str, NamedVolume] = {}
        for each in wanted:
            first.setdefault(each.name, each)
        for name, each in sorted(first.items()):  # all take their locks in one order

            def fill(folder: str, each: NamedVolume = each) -> None:
                if each.is_filled:
                    volumes.fill(f"{draft}/rootfs", {each.place: folder}, layers, in_userns=rootless.is_inside())

            if self._volumes.take(name, fill, lambda name=name: bool(self._users_of(name)), locks):  # type: ignore[misc]
                new.append(name)

    def _users_of(self, volume: str) -> list[str]:
        """Return the names of the containers that have a volume, live or not. Raises Damaged: it is not known then."""
        found = []
        for container_id in self._store.ids():
            with suppress(NotFound):
                record = self._store.record(container_id)
                if volume in record.named_volumes.values():
                    found.append(record.name)
        return sorted(found)

    def _files_and_config(
        self, record: ContainerRecord, asked: ContainerSpec, origin: Origin
    ) -> tuple[_Files, dict[str, Any]]:
        owner = sharing.owner_of(record)
        if owner:  # its files are the other's too
            asked = replace(asked, hostname=self._store.config(owner).get("hostname"))
        hostname = namespaces.hostname(record.id, asked)
        files: _Files = {
            "hostname": hostname + "\n",
            "hosts": container_names.hosts_file(asked, hostname, record.endpoints),
            "resolv.conf": container_names.resolv_conf(record),
        }
        folder = self._store.folder(record.id) / "etc"
        source = self._store.folder(owner) / "etc" if owner else folder
        bound = {f"/etc/{name}": str(source / name) for name in files}
        if asked.init:
            files["init"] = first_process.content()
            bound[first_process.PLACE] = str(folder / "init")
        group = f"{self._parent}/{record.id}"
        return files, spec.build(record.id, asked, origin.mounts, group, bound, self._volume_folders(record))

    def link_steps(self, container_id: str, pid: int) -> Sequence[Step]:
        """Return what connects a container that is not made yet to the bridge, if that is up, and to its names."""
        if not netlink.link_exists(self._bridge):
            return ()
        link, mac = host_link(container_id), first_mac(container_id)
        names = OfferNames(container_id, pid, str(self._store.run_dir))
        return [netlink.MakeVeth(link, "eth0", self._bridge, pid, mac), names]

    def explain(self, asked: ContainerSpec) -> Sequence[tuple[str, Step]]:
        """Return the plan of a container that is not made."""
        spec.check(asked)
        image = self._images.get(asked.image)
        asked = with_image(asked, image)
        self._check_limits(asked.limits, self._network(asked))
        record = ContainerRecord(
            id="0" * 12, name=asked.name or "example", image=image.name, created_s=0, layers=image.layers,
            network=self._network(asked), user=asked.user, **_life(asked),
        )  # fmt: skip
        if record.network == "bridge":
            record = record.with_endpoints(planned(self._networks, record.id, wanted(asked).attachments))
        _, config = self._files_and_config(record, asked, Origin.of_image(image))
        from backends.native import plan  # the runtime, which making one does not need

        drivers.check(asked.driver, self._store.run_dir, self._host)
        driver = drivers.get(asked.driver, self._store.run_dir)
        return driver.explain(*plan.explained(record, config, self._store.folder(record.id), self._host))

    def remove(self, ref: GuestRef, recorder: Recorder, *, force: bool = False) -> None:
        """Remove a container, its layer, log and snapshots."""
        guest = self._guest(ref)
        if guest.state in KEPT:
            if not force:
                hint = f"stop it first, or remove it by force: inn rm -f {guest.name}"
                raise WrongState(f"cannot remove {guest.name}: it is {guest.state.value}", hint=hint)
            with suppress(WrongState):  # it has just ended by itself
                self.kill(ref, recorder)
                self.wait(ref, timeout_s=_END_TIMEOUT_S)
        try:
            self._remove_ended(ref, guest.name)
        except NotFound:
            if guest.state not in KEPT:
                raise
            # It was one that its supervisor removes when it has ended.

    def _remove_ended(self, ref: GuestRef, name: str) -> None:
        with self._store.locked(ref.id), self._store.making():
            self._clean_if_lost(ref)
            self._wait_for_supervisor(ref)
            if self._store.is_supervised(ref.id):
                raise Busy(f"cannot remove {name}: it is just being started or ended", hint="try again")
            record = self._store.record(ref.id)
            self._group(ref.id).remove()
            self._store.remove(record)
            self._ranges.release(record.id)
            leave(self._networks, record.endpoints)
        self._journal.write(ref.id, name, "remove")

    def rename(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Give it another name."""
        spec.check_name(name)
        with self._store.locked(ref.id), self._store.making():
            record = self._store.record(ref.id)
            if record.name != name:
                self._store.rename(record, name)
                self._journal.write(ref.id, name, "rename", before=record.name)

    def _check_limits(self, limits: Limits, network: str) -> None:
        if limits == Limits():
            return
        limiting.check_names(limits_json(limits), {**self._host.reasons(), **shaping.reasons()})
        shaping.check(limits, network)
        self._host.group(f"{self._parent}/none").limit_steps(limits, Limits())


def _life(asked: ContainerSpec) -> dict[str, Any]:
    """Return what the record keeps of how a container lives."""
    return {
        "stop_timeout_s": asked.stop_timeout_s,
        "privileged": asked.privileged,
        "userns": asked.userns,
        "init": asked.init,
        "driver": asked.driver,
        "restart": asdict(asked.restart),
        "health": asdict(asked.health) if asked.health and asked.health.args else None,
        "log": asdict(asked.log),
        "secrets": [asdict(secret) for secret in asked.secrets],
        "publish": list(asked.publish),
        "volumes": mounts.own_volumes(asked),
        "named_volumes": {each.place: each.name for each in mounts.named_volumes(asked)},
        "hosts": list(asked.hosts),
        "dns": list(asked.dns),
        "dns_search": list(asked.dns_search),
        "dns_options": list(asked.dns_options),
    }
