"""The native backend: Innkeeper's own containers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from backends.base import CheckResult, Listener
from backends.benchmark import BenchGuest
from backends.errors import (
    BackendUnavailable,
    InnkeeperError,
    Unsupported,
)
from backends.kernel.cgroup import CgroupHost
from backends.metrics import Sample
from backends.model import (
    Guest,
    GuestKind,
    GuestRef,
    GuestState,
)
from backends.native import check, demo, rootless
from backends.native.building import Building
from backends.native.checkpointing import Checkpointing
from backends.native.copying import Copying
from backends.native.core import LIVE, NAME
from backends.native.edge import translated
from backends.native.keeping_volumes import KeepingVolumes
from backends.native.lasting import Lasting
from backends.native.looking import Looking
from backends.native.network import tidy_bridge
from backends.native.sampling import Sampling
from backends.native.sweep import KEEPER, Sweeper
from backends.native.templating import Templating
from backends.native.transferring import Transferring
from backends.registry import BackendConfig
from backends.trace import Recorder


def make(config: BackendConfig) -> NativeBackend:
    """Return the backend of a state folder, not opened."""
    return NativeBackend(config)


_LET_GO_S = 5.0
_LINKS_GO_S = 1.0
_WAKE_AGAIN_S = 5.0


@translated
class NativeBackend(Building, Transferring, Templating, KeepingVolumes, Lasting, Copying, Checkpointing, Looking):
    """Containers made of namespaces and cgroups by this program."""

    name = NAME
    title = "Innkeeper containers"
    kinds = frozenset({GuestKind.CONTAINER})
    is_simulated = False
    max_parallel = 4
    _woken_s = float("-inf")

    def open(self, listener: Listener | None = None) -> None:
        """Make the state folders. Raises BackendUnavailable where there are no cgroups."""
        rootless.enter(self._config.run_dir)
        try:
            self._store.prepare()
            self._host_found = rootless.host(self._config.run_dir)
        except OSError as error:
            text = f"cannot use {error.filename or self._config.state_dir}: {error.strerror}"
            raise BackendUnavailable(text, hint="choose another folder with --root DIR") from error
        except Unsupported as error:
            raise BackendUnavailable(error.message, hint=error.hint) from error
        self._sampling = Sampling(self._host_found)

    def be_at(self, host: CgroupHost) -> None:
        """Take the control groups as found by somebody else; for the spawner, which only makes containers."""
        self._host_found = host

    def close(self) -> None:
        """Close what is held open; containers go on."""
        if self._sampling is not None:
            self._sampling.close()
            self._sampling = None

    def check(self) -> Sequence[CheckResult]:
        """Say what of the native runtime works on this host."""
        return check.check(self._config.state_dir)

    def guests(self) -> list[Guest]:
        """Return all containers."""
        if self._host_found is None:
            raise BackendUnavailable("the native backend is not open")
        guests = self._roster.guests()
        if any(guest.state == GuestState.LOST and guest.restart_policy for guest in guests):
            self._have_revived()
        return [self._with_oom_kills(guest) if guest.state in LIVE else guest for guest in guests]

    def _have_revived(self) -> None:
        """Neither spawner nor supervisor of a container lives that is to be started again: a new spawner sees to it."""
        now_s = time.monotonic()
        if now_s - self._woken_s > _WAKE_AGAIN_S:
            self._woken_s = now_s
            self._spawner.wake()

    def _with_oom_kills(self, guest: Guest) -> Guest:
        """What is on record of a live container is its last run; this one's kills are in its cgroup."""
        sampled = self._sampling.oom_kills if self._sampling is not None else {}
        kills = sampled[guest.ref] if guest.ref in sampled else self._group(guest.ref.id).oom_kills()
        return replace(guest, oom_kills=kills)

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Read the kernel's counters of all live containers."""
        if self._sampling is None:
            raise BackendUnavailable("the native backend is not open")
        return self._sampling.read(self._roster.live(), self._group)

    def why_not(self, verb: str, guest: Guest) -> str | None:
        """Return why a verb can never work on a container here."""
        if verb == "console":
            return "a container has no serial console; use exec"
        if verb == "commit" and guest.image == "host":
            return "it is of the image host, which is this machine's own programs and no content of an image"
        return None

    def clean(self, recorder: Recorder) -> Sequence[str]:
        """Remove what crashes left behind, containers included that were to be removed at their end."""
        swept = Sweeper(self._store, self._host, self._parent, self._networks, self._bridge).sweep()
        return [*swept, *self._remove_forgotten(recorder), *self._remove_of_dead_builds(recorder)]

    def _remove_forgotten(self, recorder: Recorder) -> Iterator[str]:
        """Remove the ended containers of `--rm`, whose supervisors died before they could."""
        for guest in self._roster.guests():
            with suppress(InnkeeperError):  # it is just being started, or removed by somebody else
                if guest.state is GuestState.STOPPED and self._store.record(guest.ref.id).auto_remove:
                    self.remove(guest.ref, recorder)
                    yield f"container {guest.name}: it was to be removed at its end"

    def demo_create(self, say: Callable[[str], None]) -> Sequence[GuestRef]:
        """Make three containers to look at."""
        return demo.demo_create(self, say)

    def demo_remove(self, say: Callable[[str], None]) -> None:
        """Remove them."""
        demo.demo_remove(self, say, (self._config.run_dir, self._config.state_dir))

    def bench_guest(self, programs: Sequence[str], say: Callable[[str], None]) -> AbstractContextManager[BenchGuest]:
        """Make a container to measure; the host's programs are all in it."""
        from backends.native.benchmark import bench_container

        if rootless.is_inside() or os.geteuid() != 0:
            raise Unsupported("a container can be measured as root only", hint="sudo inn bench compare")
        return bench_container(self, self._store)

    def shutdown(self) -> None:
        """End the spawner, and let go of the parent cgroup if nothing is in it."""
        self._spawner.shutdown()
        if self._host_found is None:
            return
        deadline = time.monotonic() + _LET_GO_S
        # The supervisor of a container that has just ended is on its way out, and in the keeper's group till then.
        while not self._let_go() and not self._has_supervisors() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not self._has_supervisors():  # of a spawner that was killed
            with suppress(OSError, InnkeeperError):
                tidy_bridge(self._config.run_dir, self._bridge, patience_s=_LINKS_GO_S)

    def _let_go(self) -> bool:
        """Remove the groups that containers share, if nothing is in them; says whether they are gone."""
        return all(self._host.group(path).remove_if_unused() for path in (f"{self._parent}/{KEEPER}", self._parent))

    def _has_supervisors(self) -> bool:
        return any(self._store.is_supervised(container_id) for container_id in self._store.ids())
