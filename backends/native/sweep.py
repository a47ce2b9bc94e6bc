"""Cleaning up after a supervisor that died, and after crashes in general."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backends.errors import Busy, Damaged, InnkeeperError, NotFound
from backends.kernel import netlink, procfs
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.kernel.trees import remove_tree
from backends.model import GuestState
from backends.native import drivers, nat, protocol, user_network, userns
from backends.native.images.collecting import Collector
from backends.native.images.store import ImageStore
from backends.native.journal import Journal
from backends.native.layers_in_use import TEMPLATES
from backends.native.network import let_go, tidy_bridge
from backends.native.networks.endpoint import DEFAULT
from backends.native.networks.store import NetworkStore
from backends.native.record import ContainerRecord, Status
from backends.native.restart import HOST, USER
from backends.native.saved_layers import SavedLayers
from backends.native.snapshots import Snapshots
from backends.native.store import ContainerStore, hidden
from backends.native.volume_store import VolumeStore

STANDS_BY = "stands-by"
"""File in the run folder: ids that the spawner has groups for, though no container may have them yet."""

KEEPER = "keeper"
"""The group below the parent's that the spawner is in."""

_PATIENCE_S = 2.0
_CLEANING_S = 10.0


def oom_kills_of(group: Cgroup) -> int | None:
    """Return how many processes of a group the OOM killer took; None if that is not known."""
    try:
        return group.oom_kills()
    except InnkeeperError:
        return None


def end_kernel_side(
    store: ContainerStore,
    group: Cgroup,
    record: ContainerRecord,
    *,
    keeps_link: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """End all processes of a container and remove its cgroup and its link. Raises InnkeeperError after trying all.

    With keeps_link the caller deletes the link, for which the kernel takes some 10 ms. wait is called with seconds,
    for who has something else to do until all have ended.
    """
    try:
        # Where nothing is left in it, as most often, removing it is all; the kernel keeps what still has processes.
        if not group.remove_if_unused():
            group.kill(wait=wait)
            group.remove()
    finally:
        drivers.clean_up(record.driver, store.run_dir, record.id)
        user_network.stop(store.run_folder(record.id))
        with suppress(OSError, InnkeeperError):
            nat.withdraw(store.run_dir, record)
        if not keeps_link:
            let_go(store.run_dir, record.endpoints)


def clean_up_after(store: ContainerStore, host: CgroupHost, container_id: str, by: str = "") -> bool:
    """End and record a container whose supervisor has died; says whether there was anything to do.

    `by` says who ended it thereby, "user" or nobody. Does nothing for one that has a supervisor or ended in order.
    Raises NotFound, Damaged, InnkeeperError.
    """
    if not is_left_alone(store, container_id):
        return False
    try:
        lock = store.hold_life_lock(container_id, cleaning=True, timeout_s=_CLEANING_S)
    except Busy:
        return False  # it is being started anew, which cleans up first
    try:
        group = host.group(store.config(container_id)["linux"]["cgroupsPath"])
        status = store.status(container_id)
        was_live = _was_kept(status)
        if was_live or group.exists():
            oom_kills = oom_kills_of(group)
            _end_first_process(status)
            end_kernel_side(store, group, store.record(container_id))
            (store.run_folder(container_id) / "control").unlink(missing_ok=True)
            is_of_now = status.boot_id == procfs.boot_id()
            ended = replace(
                status,
                state=(GuestState.STOPPED if was_live or status.started_s else GuestState.CREATED).value,
                pid=None,
                pid_start=None,
                finished_s=time.time(),
                exit_code=None,
                oom_kills=oom_kills,
                note="its supervisor died; exit code unknown" if is_of_now else "the host was restarted",
                health="",
                ended_by=by or _who_ended(status, is_of_now=is_of_now),
            )
            store.write_status(container_id, ended)
            name = store.record(container_id).name
            Journal(store.state_dir).write(container_id, name, "die", note=ended.note)
    except BaseException:
        os.close(lock)  # and leaves the mark that it is there to be cleaned up
        raise
    store.release_life_lock(container_id, lock)
    return True


def _end_first_process(status: Status) -> None:
    """Kill it by its pid, and with it all of its pid namespace: a plain user's container may have no group."""
    if status.pid and status.pid_start is not None and procfs.is_same_process(status.pid, status.pid_start):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(status.pid, signal.SIGKILL)


def _who_ended(status: Status, *, is_of_now: bool) -> str:
    if status.state == GuestState.STOPPING.value:
        return USER
    return status.ended_by if is_of_now else HOST


def is_left_alone(store: ContainerStore, container_id: str) -> bool:
    """Say whether its supervisor died without ending it. Raises NotFound, Damaged."""
    if store.is_supervised(container_id):
        return False
    return _was_kept(store.status(container_id)) or store.is_orphaned(container_id)


def _was_kept(status: Status) -> bool:
    """Say whether it had a supervisor when its status was written."""
    state = GuestState(status.state)
    return state.is_live or state is GuestState.RESTARTING


class Sweeper:
    """Finds what belongs to no container and removes it."""

    def __init__(
        self, store: ContainerStore, host: CgroupHost, parent: str, networks: NetworkStore, bridge: str
    ) -> None:
        self._store, self._host, self._parent = store, host, parent
        self._networks, self._bridge = networks, bridge

    def sweep(self) -> list[str]:
        """Remove it all; return a line for each thing removed, or that had to be left."""
        done = [line for container_id in self._store.ids() for line in self._container(container_id)]
        try:
            with self._store.making(alone=True, timeout_s=_PATIENCE_S):
                done += self._belonging_to_nobody()
        except Busy as error:
            done.append(f"not all was looked through: {error.message}")
        return [*done, *self._bridges(), *self._rules()]

    def _bridges(self) -> list[str]:
        """Delete bridges on which nobody is; that of the default network only if no spawner keeps it."""
        done = []
        kept = {self._bridge} if self._has_spawner() else set()
        for bridge in {self._bridge, *(each.bridge for each in self._networks.made())} - kept:
            was_there = netlink.link_exists(bridge)
            tidy_bridge(self._store.run_dir, bridge)
            if was_there and not netlink.link_exists(bridge):
                done.append(f"bridge {bridge}: nothing hangs on it")
        return done

    def _rules(self) -> list[str]:
        with suppress(InnkeeperError):
            if nat.mend(self._store.run_dir):
                return ["nftables rules: somebody had deleted them"]
        return []

    def _has_spawner(self) -> bool:
        """Say whether one is up, and keeps the bridge for the next start."""
        try:
            protocol.connect(self._store.run_dir / "spawner", 1.0).close()
        except OSError:
            return False
        return True

    def _container(self, container_id: str) -> list[str]:
        done = []
        try:
            with self._store.locked(container_id, timeout_s=_PATIENCE_S):
                name = self._store.record(container_id).name
                if clean_up_after(self._store, self._host, container_id):
                    done.append(f"container {name}: its supervisor had died")
                Snapshots(self._store.folder(container_id), name).recover()
                done += self._own_leases(container_id)
                for path in self._store.drafts(container_id):
                    _delete(path)
                    done.append(f"{path.name} of container {name}: half made or half removed")
        except NotFound:
            pass
        except Damaged as error:
            done.append(error.message)
        except Busy as error:
            done.append(f"container {container_id}: {error.message}")
        return done

    def _belonging_to_nobody(self) -> list[str]:
        from backends.native.build import workshop  # which nobody needs who only makes containers

        done = []
        saved = SavedLayers(self._store.state_dir)
        templates = hidden(self._store.state_dir / TEMPLATES)
        networks = self._networks.half_made()
        volumes = VolumeStore(self._store.state_dir).half_made()
        builds = workshop.half_made(self._store.state_dir)
        for path in (*self._store.half_made(), *saved.half_made(), *templates, *networks, *volumes, *builds):
            _delete(path)
            done.append(f"folder {path.name}: half made or half removed")
        for path in self._store.dangling_names():
            path.unlink(missing_ok=True)
            done.append(f"name {path.name}: belongs to no container")
        done += [f"layer {name}: nobody needs it" for name in saved.collect()]
        ids = set(self._store.ids())
        live = {each for each in ids if self._store.is_supervised(each)}
        done += [f"ports of container {name}: it does not run" for name in nat.keep_only(self._store.run_dir, live)]
        done += self._groups(ids) + self._leases(ids)
        try:
            return done + list(Collector(ImageStore(self._store.state_dir), {}).clean(_PATIENCE_S))
        except (Busy, Damaged) as error:  # where a list of layers is damaged, none can be known to be free
            return [*done, f"images were not looked through: {error.message}"]

    def _groups(self, ids: set[str]) -> list[str]:
        done = []
        standing_by = self._standing_by()
        for name in self._host.group(self._parent).children():
            group = self._host.group(f"{self._parent}/{name}")
            if name == KEEPER:
                group.remove_if_unused()  # of a spawner that was killed
            if name == KEEPER or name in standing_by or self._store.is_supervised(name):
                continue
            group.kill()
            group.remove()
            owner = "its container does not run" if name in ids else "belongs to no container"
            done.append(f"cgroup {group.path}: {owner}")
        return done

    def _standing_by(self) -> set[str]:
        """Return the ids whose groups the spawner keeps for the next containers."""
        with suppress(OSError):
            if self._has_spawner():
                return set((self._store.run_dir / STANDS_BY).read_text().split())
        return set()

    def _own_leases(self, container_id: str) -> list[str]:
        """Give back addresses that it took and does not have on record; take those that it has."""
        done = []
        record = self._store.record(container_id)
        for name, pool in self._networks.pools():
            own = {address for each in record.endpoints if each.network == name for address in each.addresses}
            leases = pool.leases()
            for address in {address for address, owner in leases.items() if owner == container_id} - own:
                pool.release(address)
                done.append(f"address {address}: container {record.name} is not on network {name}")
            for address in own - leases.keys():
                pool.retake(address, container_id)
                done.append(f"address {address}: taken again for container {record.name}")
        return done

    def _leases(self, ids: set[str]) -> list[str]:
        done = []
        for name, pool in self._networks.pools():
            for address, container_id in pool.leases().items():
                if container_id not in ids:
                    pool.release(address)
                    where = "" if name == DEFAULT else f" of network {name}"
                    done.append(f"address {address}{where}: belongs to no container")
        userns.Leases(self._store.state_dir).keep_only(ids)
        return done


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
