"""What all parts of the native backend share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backends.errors import (
    BackendUnavailable,
    WrongState,
)
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.model import (
    Guest,
    GuestRef,
    GuestState,
)
from backends.native import tracing, userns, volumes
from backends.native.client import SpawnerClient, SupervisorClient
from backends.native.images.store import ImageStore
from backends.native.journal import Journal
from backends.native.network import bridge_name
from backends.native.networks.store import NetworkStore
from backends.native.record import ContainerRecord
from backends.native.roster import Roster
from backends.native.sampling import Sampling
from backends.native.store import TRACE, ContainerStore
from backends.native.sweep import clean_up_after
from backends.native.volume_store import VolumeStore
from backends.registry import BackendConfig
from backends.trace import Recorder, StepRecord

LIVE = (GuestState.RUNNING, GuestState.PAUSED, GuestState.STOPPING)
KEPT = (*LIVE, GuestState.RESTARTING)
"""States in which it has a supervisor."""

NAME = "native"
PARENT = "innkeeper"
"""The control group that the containers of the usual state folder are in; others have names made of this."""


class NativeCore:
    """What all parts of the native backend share: where things are, and who is asked."""

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        is_default = config.state_dir == Path("/var/lib/innkeeper")
        self._bridge = bridge_name(config.state_dir, is_default=is_default)
        self._parent = PARENT if is_default else f"{PARENT}-" + self._bridge.removeprefix("inn-")
        self._store = ContainerStore(config.state_dir, config.run_dir)
        self._images = ImageStore(config.state_dir)
        self._networks = NetworkStore(config.state_dir, self._bridge)
        self._volumes = VolumeStore(config.state_dir)
        self._ranges = userns.Leases(config.state_dir)
        self._spawner = SpawnerClient(self._store, self._parent)
        self._host_found: CgroupHost | None = None
        self._roster = Roster(self._store)
        self._journal = Journal(config.state_dir)
        self._sampling: Sampling | None = None

    @property
    def places(self) -> tuple[ContainerStore, CgroupHost]:
        """Where containers are kept, on disk and in the kernel. Raises BackendUnavailable."""
        return self._store, self._host

    @property
    def _host(self) -> CgroupHost:
        if self._host_found is None:
            raise BackendUnavailable("the native backend is not open")
        return self._host_found

    def _volume_folders(self, record: ContainerRecord) -> dict[str, str]:
        """Return the folder at each place where a container has a volume, of its own or named."""
        container = str(self._store.folder(record.id))
        own = {place: volumes.folder_of(container, number) for number, place in enumerate(record.volumes)}
        return own | {place: str(self._volumes.folder(name)) for place, name in record.named_volumes.items()}

    def _guest(self, ref: GuestRef) -> Guest:
        return self._roster.guest(ref.id)

    def group_of(self, container_id: str) -> Cgroup:
        """Return the control group of a container, whether it is there or not."""
        return self._group(container_id)

    def _group(self, container_id: str) -> Cgroup:
        return self._host.group(f"{self._parent}/{container_id}")

    def _supervisor(self, ref: GuestRef) -> SupervisorClient:
        return SupervisorClient(self._store, ref.id, self._store.record(ref.id).name)

    def _clean_if_lost(self, ref: GuestRef, by: str = "") -> bool:
        """Clean up if its supervisor has died; `by` says who ends it with that, so that it stays ended."""
        return self._guest(ref).state == GuestState.LOST and clean_up_after(self._store, self._host, ref.id, by)

    def _require_live(self, ref: GuestRef, what: str, states: tuple[GuestState, ...] = LIVE) -> Guest:
        guest = self._guest(ref)
        if guest.state not in states:
            text = f"cannot {what} {guest.name}: it is {guest.state.value}"
            raise WrongState(text, hint=f"start it: inn start {guest.name}")
        return guest

    def _require_state(self, ref: GuestRef, state: GuestState, what: str) -> None:
        guest = self._guest(ref)
        if guest.state != state:
            raise WrongState(f"cannot {what} {guest.name}: it is {guest.state.value}, not {state.value}")

    def _trace_path(self, ref: GuestRef) -> Path:
        return self._store.folder(ref.id) / TRACE

    def _keeper(self, ref: GuestRef, recorder: Recorder) -> Callable[[StepRecord], None]:
        def keep(record: StepRecord) -> None:
            tracing.append(self._trace_path(ref), record)
            recorder.keep(record)

        return keep

    def _wait_for_supervisor(self, ref: GuestRef) -> None:
        """Its last supervisor may still be on its way out, with its end already on record."""
        deadline = time.monotonic() + 5.0
        while self._store.is_supervised(ref.id) and time.monotonic() < deadline:
            time.sleep(0.002)
