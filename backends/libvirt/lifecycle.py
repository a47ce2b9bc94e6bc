"""Starting, stopping, pausing, renaming and removing guests."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

from backends.errors import AlreadyExists, InnkeeperError, NotFound, TimedOut, Unsupported, UsageError, WrongState
from backends.libvirt import api
from backends.libvirt.api import Domain
from backends.libvirt.convert import state_of
from backends.libvirt.host import LibvirtHost, known
from backends.libvirt.journal import Call, Journal
from backends.model import GuestRef, GuestState
from backends.trace import Recorder

SHUTDOWN_TIMEOUT_S = 60.0
PRESS_AGAIN_S = 10.0
"""A guest that still boots misses the power button: it is pressed again."""

FORCE_TIMEOUT_S = 45.0
"""libvirt waits up to 30 s for a QEMU that holds a job before it ends it."""


_ASLEEP = 7
"""virDomainState of a guest that suspended itself."""


class Lifecycles:
    """The life of the guests of one host."""

    def __init__(self, host: LibvirtHost, journal: Journal) -> None:
        self._host, self._journal = host, journal

    def start(self, ref: GuestRef, recorder: Recorder) -> None:
        """Start it; returns when QEMU runs."""
        name = known(self._host, ref).name
        if not self._is_off(ref):
            raise WrongState(f"{name} is running already")
        self._do(ref, recorder, f"start {name}", f"virsh start {_q(name)}", lambda domain: domain.create())

    def stop(self, ref: GuestRef, recorder: Recorder, timeout_s: float | None) -> None:
        """Press the power button; after a timeout that was asked for, force it off, else say so."""
        name = known(self._host, ref).name
        if self._is_off(ref):
            raise WrongState(f"{name} is not running")
        if state_of(self._state(ref)) is GuestState.PAUSED:
            if timeout_s is None:
                raise WrongState(
                    f"{name} is paused and does not notice its power button",
                    hint="resume it first, or force it off with kill",
                )
            self._destroy(ref, recorder, name)
            return
        deadline = time.monotonic() + (SHUTDOWN_TIMEOUT_S if timeout_s is None else timeout_s)
        if self._press_until_off(ref, recorder, name, deadline):
            return
        if timeout_s is None:
            raise TimedOut(
                f"{name} did not shut down within {SHUTDOWN_TIMEOUT_S:g} s of its power button",
                hint="the guest's system may ignore ACPI or still boot; force it off with kill",
            )
        self._destroy(ref, recorder, name)

    def _press_until_off(self, ref: GuestRef, recorder: Recorder, name: str, deadline: float) -> bool:
        while True:
            try:
                self._do(
                    ref, recorder, f"press the power button of {name} (ACPI)", f"virsh shutdown {_q(name)}",
                    lambda domain: domain.shutdownFlags(0),
                )  # fmt: skip
            except InnkeeperError:
                if self._is_off(ref):
                    return True
                raise
            until = min(deadline, time.monotonic() + PRESS_AGAIN_S)
            if self._host.wait_for_news(lambda: self._is_off(ref), until):
                return True
            if time.monotonic() >= deadline:
                return False

    def kill(self, ref: GuestRef, recorder: Recorder, signal: int) -> None:
        """Force it off."""
        name = known(self._host, ref).name
        if signal != 9:
            raise Unsupported(
                f"cannot send signal {signal} to {name}: a virtual machine has no first process to signal",
                hint="kill without a signal forces it off; stop presses its power button",
            )
        if self._is_off(ref):
            raise WrongState(f"{name} is not running")
        self._destroy(ref, recorder, name)

    def _destroy(self, ref: GuestRef, recorder: Recorder, name: str) -> None:
        self._do(
            ref, recorder, f"force {name} off", f"virsh destroy {_q(name)}", lambda domain: domain.destroyFlags(0),
            timeout_s=FORCE_TIMEOUT_S,
        )  # fmt: skip

    def restart(self, ref: GuestRef, recorder: Recorder, timeout_s: float | None) -> None:
        """Reboot it through ACPI and wait until it did; start it if it is off."""
        name = known(self._host, ref).name
        if self._is_off(ref):
            self.start(ref, recorder)
            return
        before = self._host.reboots(ref.id)
        self._do(ref, recorder, f"reboot {name}", f"virsh reboot {_q(name)}", lambda domain: domain.reboot(0))
        if not self._host.uri.startswith("qemu"):
            return
        wait_s = SHUTDOWN_TIMEOUT_S if timeout_s is None else timeout_s
        if self._host.wait_for_news(lambda: self._host.reboots(ref.id) > before, time.monotonic() + wait_s):
            return
        if timeout_s is None:
            raise TimedOut(
                f"{name} did not reboot within {wait_s:g} s",
                hint="the guest's system may ignore ACPI; force it off with kill and start it again",
            )
        self._destroy(ref, recorder, name)
        self.start(ref, recorder)

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Stop its vCPUs; the guest keeps its memory and does not notice."""
        name = known(self._host, ref).name
        if state_of(self._state(ref)) is not GuestState.RUNNING:
            raise WrongState(f"{name} is not running")
        self._do(ref, recorder, f"pause {name}", f"virsh suspend {_q(name)}", lambda domain: domain.suspend())

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Let its vCPUs go on, or wake it where it put itself to sleep."""
        name = known(self._host, ref).name
        state = self._state(ref)
        if state_of(state) is not GuestState.PAUSED:
            raise WrongState(f"{name} is not paused")
        if state == _ASLEEP:
            self._do(ref, recorder, f"wake {name}", f"virsh dompmwakeup {_q(name)}", lambda domain: domain.pMWakeup(0))
            return
        self._do(ref, recorder, f"resume {name}", f"virsh resume {_q(name)}", lambda domain: domain.resume())

    def rename(self, ref: GuestRef, new: str, recorder: Recorder) -> None:
        """Rename it; libvirt does so only while it is off."""
        name = known(self._host, ref).name
        if not new or "/" in new or new.strip() != new or not new.isprintable():
            raise UsageError(f"{new!r} is no name for a virtual machine")
        if any(other.name == new for other in self._host.poll()):
            raise AlreadyExists(f"there is a virtual machine {new} already")
        if not self._is_off(ref):
            raise WrongState(f"cannot rename {name} while it runs: libvirt renames only guests that are off")
        self._do(
            ref, recorder, f"rename {name} to {new}", f"virsh domrename {_q(name)} {_q(new)}",
            lambda domain: domain.rename(new, 0),
        )  # fmt: skip

    def remove(self, ref: GuestRef, recorder: Recorder, force: bool) -> None:
        """Take the definition, snapshot records and NVRAM away; disk files are never deleted."""
        seen = known(self._host, ref)
        disks = [disk.source for disk in self._host.fresh_info(ref).disks if disk.source]
        if not self._is_off(ref):
            if not force:
                raise WrongState(f"cannot remove {seen.name} while it runs", hint="stop it first, or force")
            if not self._host.with_domain(ref, "look", lambda domain: domain.isPersistent()):
                self._destroy(ref, recorder, seen.name)  # a transient guest is gone with that
                return
            self._destroy(ref, recorder, seen.name)
        kept = f"; its disks stay: {', '.join(disks)}" if disks else ""
        self._do(
            ref, recorder, f"remove the definition of {seen.name}{kept}",
            f"virsh undefine {_q(seen.name)} --managed-save --snapshots-metadata --checkpoints-metadata --nvram",
            undefine, details={"disks_kept": disks},
        )  # fmt: skip
        self._journal.forget(ref.id)

    def wait(self, ref: GuestRef, timeout_s: float | None) -> None:
        """Return when it is off. Raises TimedOut."""
        name = known(self._host, ref).name
        deadline = time.monotonic() + (timeout_s if timeout_s is not None else 10 * 365 * 86400.0)
        if not self._host.wait_for_news(lambda: self._is_off(ref), deadline):
            raise TimedOut(f"{name} still runs after {timeout_s:g} s")

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────────

    def _state(self, ref: GuestRef) -> int:
        return self._host.with_domain(ref, "read the state", lambda domain: domain.state(0)[0])

    def _is_off(self, ref: GuestRef) -> bool:
        try:
            return state_of(self._state(ref)) is GuestState.STOPPED
        except NotFound:
            return True  # a transient guest is gone once it is off

    def _do(
        self, ref: GuestRef, recorder: Recorder, text: str, by_hand: str, work: Callable[[Domain], object], *,
        timeout_s: float = 60.0, details: dict[str, object] | None = None,
    ) -> None:  # fmt: skip
        def run() -> None:
            self._host.command(text, lambda connection: work(connection.lookupByUUIDString(ref.id)), timeout_s)

        try:
            self._journal.run(ref.id, recorder, Call(text, by_hand, run, details=details))
        finally:
            self._host.mark_dirty(ref.id)


def undefine(domain: Domain) -> None:
    """Take away the definition and all that libvirt keeps with it."""
    flags = api.UNDEFINE_MANAGED_SAVE | api.UNDEFINE_SNAPSHOTS | api.UNDEFINE_NVRAM | api.UNDEFINE_CHECKPOINTS
    # Explicit flags always: with 0, libvirt 9 lets a running guest with snapshots become transient instead.
    try:
        domain.undefineFlags(flags)
    except api.load().libvirtError:
        domain.undefineFlags(api.UNDEFINE_MANAGED_SAVE | api.UNDEFINE_SNAPSHOTS)  # drivers that know only these


def _q(text: str) -> str:
    return shlex.quote(text)
