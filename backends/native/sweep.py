"""Cleaning up after a supervisor that died, and after crashes in general."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import replace

from backends.errors import InnkeeperError, NotFound
from backends.kernel import netlink
from backends.kernel.cgroup import CgroupHost
from backends.model import GuestState
from backends.native.images.store import ImageStore
from backends.native.network import Addresses, detach, tidy_bridge
from backends.native.store import ContainerStore

_YOUNG_S = 60.0


def clean_up_after(store: ContainerStore, host: CgroupHost, container_id: str) -> bool:
    """End and record a container whose supervisor has died; says whether there was anything to do.

    Does nothing for one that has a supervisor or ended in order. Raises NotFound, InnkeeperError.
    """
    status = store.status(container_id)
    if store.is_supervised(container_id) or not GuestState(status.state).is_live:
        return False
    group = host.group(store.config(container_id)["linux"]["cgroupsPath"])
    oom_kills = None
    if group.exists():
        reader = group.reader()
        with suppress(InnkeeperError):
            oom_kills = reader.read(time.monotonic()).oom_kills
        reader.close()
        group.kill()
        group.remove()
    record = store.record(container_id)
    if record.bridge and record.network == "bridge":
        with suppress(OSError):
            detach(store.run_dir, record.host_link, record.bridge)
    (store.run_folder(container_id) / "control").unlink(missing_ok=True)
    ended = replace(
        status,
        state=GuestState.STOPPED.value,
        pid=None,
        pid_start=None,
        finished_s=time.time(),
        exit_code=None,
        oom_kills=oom_kills,
        note="its supervisor died; exit code unknown",
    )
    store.write_status(container_id, ended)
    return True


class Sweeper:
    """Finds what belongs to no container and removes it."""

    def __init__(self, store: ContainerStore, host: CgroupHost, parent: str, addresses: Addresses, bridge: str) -> None:
        self._store, self._host, self._parent = store, host, parent
        self._addresses, self._bridge = addresses, bridge

    def sweep(self) -> list[str]:
        """Remove it all; return a line for each thing removed."""
        done = self._lost_containers()
        ids = set(self._store.ids())
        done += self._folders() + self._groups(ids) + self._leases(ids)
        if netlink.link_exists(self._bridge):
            tidy_bridge(self._store.run_dir, self._bridge)
            if not netlink.link_exists(self._bridge):
                done.append(f"bridge {self._bridge}: nothing hangs on it")
        return done

    def _lost_containers(self) -> list[str]:
        done = []
        for container_id in self._store.ids():
            with suppress(NotFound):
                if clean_up_after(self._store, self._host, container_id):
                    done.append(f"container {self._store.record(container_id).name}: its supervisor had died")
        return done

    def _folders(self) -> list[str]:
        done = []
        for path in (*self._store.half_made(), *ImageStore(self._store.state_dir).half_made()):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _YOUNG_S:
                    shutil.rmtree(path, ignore_errors=True)
                    done.append(f"folder {path.name}: half made or half removed")
        for path in self._store.dangling_names():
            with suppress(FileNotFoundError):
                if time.time() - path.lstat().st_mtime > _YOUNG_S:
                    path.unlink()
                    done.append(f"name {path.name}: belongs to no container")
        return done

    def _groups(self, ids: set[str]) -> list[str]:
        done = []
        for name in self._host.group(self._parent).children():
            if name in ids or name == "keeper":
                continue
            group = self._host.group(f"{self._parent}/{name}")
            group.kill()
            group.remove()
            done.append(f"cgroup {group.path}: belongs to no container")
        return done

    def _leases(self, ids: set[str]) -> list[str]:
        done = []
        for address, container_id in self._addresses.leases().items():
            if container_id not in ids:
                self._addresses.release(address)
                done.append(f"address {address}: belongs to no container")
        return done
